package import Catalogue
package import Fleet
package import Schedule

/// What the inventory says of one kind of work on one host, as far as time is concerned. Durations are nanoseconds.
package struct JobTiming: Sendable, Equatable {
    package let kind: RunKind
    /// Nil for `forget`, which follows captures.
    package let cron: CronExpression?
    package let zone: TimeZone
    /// Since it was due; later what failed is not tried again.
    package let window: Int64
    /// The host's share of the spread: so much later than due it begins.
    package let offset: Int64
    /// Scatters the pauses between attempts.
    let seed: UInt64

    /// Nil when the inventory wants no such work on the host.
    package init?(_ kind: RunKind, host: String, _ policy: HostPolicy) {
        let schedule = policy.schedule
        switch kind {
        case .full: cron = schedule.full
        case .database: cron = schedule.database
        case .prune: cron = schedule.prune
        case .forget: cron = nil
        }
        guard kind == .forget ? !policy.retention.isEmpty : cron != nil else { return nil }
        self.kind = kind
        zone = schedule.zone
        window = schedule.window
        seed = Self.hash(host)
        // Whole seconds, so that a host begins at the same one every day.
        let second: Int64 = 1_000_000_000
        let spread = UInt64(max(0, schedule.spread / second))
        offset = kind == .forget || spread == 0 ? 0 : Int64(seed % spread) * second
    }

    /// What a stored job's `next` is good for.
    package var schedule: String { cron.map { "\($0) \(zone.name)" } ?? "" }

    /// The first time after `instant` that it is due; nil where nothing comes any more. All are nanoseconds since
    /// 1970-01-01T00:00:00Z.
    package func next(after instant: Int64) -> Int64? {
        let second: Int64 = 1_000_000_000
        guard
            let next = cron?.next(
                after: instant >= 0 ? instant / second : (instant + 1) / second - 1,
                in: zone
            )
        else { return nil }
        let (nanoseconds, overflow) = next.multipliedReportingOverflow(by: second)
        return overflow ? nil : nanoseconds
    }

    /// The last time up to `instant` that it was due, at the earliest `first`, which is one.
    func last(upTo instant: Int64, from first: Int64) -> Int64 {
        var last = first
        // After a long outage only its end matters.
        let day: Int64 = 86_400_000_000_000
        for back: Int64 in [1, 8, 32, 400] where instant - first > back * day {
            if let late = next(after: instant - back * day), late <= instant {
                last = late
                break
            }
        }
        while let next = next(after: last), next <= instant { last = next }
        return last
    }

    /// How long to wait after so many attempts: a base that doubles up to an hour, and up to a quarter more, always the
    /// same for the same attempt, so that fifty hosts that failed together do not come back together.
    func pause(afterAttempts attempts: Int, due: Int64, base: Int64) -> Int64 {
        let step = min(Self.longestPause, base << Int64(min(max(0, attempts - 1), 16)))
        let chance = Self.mix(seed ^ UInt64(bitPattern: due) &+ UInt64(attempts)) % 1000
        return step + step / 4 / 1000 * Int64(chance)
    }

    static let longestPause: Int64 = 3_600_000_000_000

    /// FNV-1a, stirred so that names that differ in one letter lie far apart.
    private static func hash(_ name: String) -> UInt64 {
        mix(name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 })
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        var mixed = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        return mixed ^ mixed >> 31
    }
}
