import Arguments
import Catalogue
package import Fleet
import Posix

/// The file system with the repositories: what is free, and when it will be full. Bytes, and nanoseconds since
/// 1970-01-01T00:00:00Z.
package struct Store: Sendable, Equatable {
    package struct Sample: Sendable, Equatable {
        package var time: Int64
        package var free: Int64

        package init(time: Int64, free: Int64) {
            self.time = time
            self.free = free
        }
    }

    package var folder: String
    package var free: Int64
    package var total: Int64
    /// Below this no backup goes on.
    package var reserve: Int64
    /// Why it could not be looked at; the figures mean nothing then.
    package var problem: String?
    /// The oldest first.
    package var samples: [Sample] = []

    private static let day: Int64 = 86_400_000_000_000
    /// The forecast looks so far back, and says nothing before it has seen this much.
    package static let memory = 28 * day
    private static let least = 2 * day
    private static let warning = 21 * day
    private static let critical = 5 * day

    package init(folder: String, free: Int64, total: Int64, reserve: Int64, samples: [Sample] = []) {
        self.folder = folder
        self.free = free
        self.total = total
        self.reserve = reserve
        self.samples = samples
    }

    /// Asks the file system; before the first host there is no folder yet.
    package init(_ fleet: FleetConfiguration) {
        folder = fleet.repositories
        (free, total, reserve) = (0, 0, 0)
        do {
            let space = try Files.space(folder)
            free = Int64(clamping: space.free)
            total = Int64(clamping: space.total)
            reserve = Int64(clamping: fleet.reserve(ofTotal: space.total))
        } catch { problem = "\(error)" }
    }

    /// When only the reserve will be left if it goes on as in the last weeks; nil when it does not fill up, or too little is
    /// known.
    package func fullAt(now: Int64) -> Int64? {
        let recent =
            samples.filter { $0.time > now - Self.memory && $0.time <= now } + [Sample(time: now, free: free)]
        guard let first = recent.first, now - first.time >= Self.least, problem == nil else { return nil }
        // The straight line that lies nearest to all of them.
        let count = Double(recent.count)
        let times = recent.map { Double($0.time - first.time) }
        let frees = recent.map { Double($0.free) }
        let (meanTime, meanFree) = (times.reduce(0, +) / count, frees.reduce(0, +) / count)
        var (above, below) = (0.0, 0.0)
        for (time, free) in zip(times, frees) {
            above += (time - meanTime) * (free - meanFree)
            below += (time - meanTime) * (time - meanTime)
        }
        guard below > 0, above < 0 else { return nil }
        let left = Double(max(0, free - reserve)) / -(above / below)
        // Farther than anybody plans.
        guard left < Double(100 * 365 * Self.day) else { return nil }
        return now + Int64(left)
    }

    package func condition(now: Int64) -> Condition? {
        let advice = "free some space there, keep less (`retention:`), or add a disk"
        if let problem {
            return Condition(
                .store,
                .critical,
                "the folder of the repositories can't be looked at: \(problem)",
                advice: "is the disk mounted, and may the coordinator's user enter it?"
            )
        }
        if free < reserve {
            return Condition(
                .store,
                .critical,
                "only \(Human.bytes(free)) are free at \(folder), and `keep_free:` keeps \(Human.bytes(reserve)) of them",
                advice: "no backup goes on before you \(advice)"
            )
        }
        let full = fullAt(now: now)
        if let full, full - now < Self.warning {
            return Condition(
                .store,
                full - now < Self.critical ? .critical : .warning,
                "\(folder) will be full in \(Age.text(full - now)), on \(Time.local(full).prefix(10)) (\(Human.bytes(free)) "
                    + "are free; should be > \(Age.limit(Self.warning)); critical at \(Age.limit(Self.critical)))",
                advice: advice
            )
        }
        if free < 2 * reserve {
            return Condition(
                .store,
                .warning,
                "only \(Human.bytes(free)) are free at \(folder) (should be > \(Human.bytes(2 * reserve)); no backup goes "
                    + "on below \(Human.bytes(reserve)))",
                advice: advice
            )
        }
        return nil
    }
}
