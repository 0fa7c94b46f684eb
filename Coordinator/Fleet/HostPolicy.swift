package import Outward
package import Retention
package import Schedule
package import Wire

/// What counts for one host: its own words in the inventory, else those of `defaults:`, else `builtIn`.
/// Durations are nanoseconds, sizes bytes.
package struct HostPolicy: Sendable, Equatable {
    package var scope = Scope.originals
    /// The most that its repository may hold; nil for no limit.
    package var sizeLimit: Int64?
    /// Bytes a second that its agent may send; nil for no limit.
    package var rateLimit: Int64?
    /// Of hosts that are due at the same time those with the higher number come first.
    package var priority = 0
    package var schedule = HostSchedule()
    /// What is kept of each kind; nil keeps everything.
    package var retention: [CaptureKind: RetentionPolicy] = [:]
    /// How long a forgotten snapshot can be recalled, and counts as used.
    package var grace: Int64 = 7 * 86_400_000_000_000
    package var thresholds = Thresholds()
    package var watch = WatchLimits()
    package var outside: [OutsideBackup] = []
    /// A check in the healthchecks protocol, pinged at the start and end of every full capture; nil for none.
    package var ping: WebAddress?

    package init() {}
}

/// When work on a host is due.
package struct HostSchedule: Sendable, Equatable {
    /// When the clock on the wall shows these; nil for never.
    package var full: CronExpression?
    package var database: CronExpression?
    package var prune: CronExpression?
    package var zone = TimeZone.utc
    /// From when it was due on, for so long a failed job is tried again; later the next one is waited for.
    package var window: Int64 = 6 * 3_600_000_000_000
    /// A host's jobs begin up to so much later than they are due, always the same for one host.
    package var spread: Int64 = 1_800_000_000_000

    package init() {}
}

/// When an age is a warning, and when it is critical; nanoseconds.
package struct Threshold: Sendable, Equatable {
    package var warning: Int64
    package var critical: Int64

    package init(warning: Int64, critical: Int64) {
        self.warning = warning
        self.critical = critical
    }

    /// - Parameter hours: As they are told to people.
    package init(hours warning: Int64, _ critical: Int64) {
        self.init(warning: warning * 3_600_000_000_000, critical: critical * 3_600_000_000_000)
    }
}

/// The clocks of a host. Those of proofs, drills and copies are there for what later versions do, and count for nothing
/// until then.
package struct Thresholds: Sendable, Equatable {
    package var contact = Threshold(hours: 6, 26)
    /// Since the moment the newest good dump is of.
    package var dump = Threshold(hours: 26, 32)
    /// Since the moment the newest complete full snapshot is of.
    package var full = Threshold(hours: 26, 50)
    package var proof = Threshold(hours: 8 * 24, 15 * 24)
    package var drill = Threshold(hours: 35 * 24, 70 * 24)
    package var copy = Threshold(hours: 26, 8 * 24)
    /// For so long after it was added a host without any of these is not yet critical.
    package var enrolment: Int64 = 24 * 3_600_000_000_000

    package init() {}
}

/// What is watched beside the clocks.
package struct WatchLimits: Sendable, Equatable {
    /// Part of it that a dump, or the library's originals, may lose against its own history: 0.2 for a fifth.
    package var dumpShrink = 0.2
    package var libraryShrink = 0.1
    /// A run that takes so many times as long as usual, and at least ten minutes longer, is much too long.
    package var slow = 4.0
    /// By how much the clock of the agent's machine may differ.
    package var clock: Int64 = 300_000_000_000

    package init() {}
}

/// A backup that others make, such as a hypervisor's of the whole VM: the newest file that the pattern names counts.
package struct OutsideBackup: Sendable, Equatable {
    package var name: String
    /// An absolute path, with `*`, `?` and `[…]` as in glob(7).
    package var pattern: String
    package var threshold: Threshold

    package init(name: String, pattern: String, threshold: Threshold) {
        self.name = name
        self.pattern = pattern
        self.threshold = threshold
    }
}
