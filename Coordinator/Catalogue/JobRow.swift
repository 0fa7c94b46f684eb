import Postgres

/// A host's work of one kind, as the schedule keeps it. Times are nanoseconds since 1970-01-01T00:00:00Z. An
/// *occurrence* is one time at which the work is due; at most one is under way.
package struct JobRow: Sendable, Equatable {
    package let host: Int32
    package let kind: RunKind
    /// Expression and zone that `next` was reckoned with; empty for what follows captures.
    package var schedule: String
    /// The newest occurrence that is over or under way, by when it was due.
    package var handled: Int64
    /// When the one after it is due, before the host's spread; nil where nothing more comes.
    package var next: Int64?
    /// When the occurrence under way was due; nil while none is.
    package var due: Int64?
    /// Runs of the occurrence under way that failed.
    package var attempts = 0
    /// When it is tried again after those.
    package var retryAt: Int64?
    /// Later than this it is not tried again; nil before the first attempt.
    package var windowEnd: Int64?
    /// The run that works on it.
    package var run: String?
    /// The one that was over last.
    package var lastRun: String?
    /// Occurrences in a row that came to nothing.
    package var missed = 0
    /// What the occurrence under way waits for, for people.
    package var waits: String?
    /// How the last one came to nothing, for people.
    package var note: String?

    package init(host: Int32, kind: RunKind, schedule: String, handled: Int64, next: Int64?) {
        self.host = host
        self.kind = kind
        self.schedule = schedule
        self.handled = handled
        self.next = next
    }

    init(_ row: PostgresResult.Row) throws(PostgresError) {
        host = try row.int32("host_id")
        guard let kind = RunKind(rawValue: try row.string("kind")) else {
            throw .misuse("a job is of a kind that this program does not know")
        }
        self.kind = kind
        schedule = try row.string("schedule")
        handled = try row.int64("handled")
        next = try row.optionalInt64("next")
        due = try row.optionalInt64("due")
        attempts = try row.int("attempts")
        retryAt = try row.optionalInt64("retry_at")
        windowEnd = try row.optionalInt64("window_end")
        run = try row.text("run_id")
        lastRun = try row.text("last_run")
        missed = try row.int("missed")
        waits = try row.text("waits")
        note = try row.text("note")
    }

    var parameters: [(any PostgresParameter)?] {
        [
            host, kind.rawValue, schedule, handled, next, due, attempts, retryAt, windowEnd, run, lastRun,
            missed,
            waits, note,
        ]
    }
}

/// When a run that came to something was begun and ended.
package struct GoodRun: Sendable, Equatable {
    package let started: Int64
    package let ended: Int64

    package init(started: Int64, ended: Int64) {
        self.started = started
        self.ended = ended
    }
}
