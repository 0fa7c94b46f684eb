import Postgres
package import Wire

/// How far a run is. Sizes in bytes.
package struct RunFigures: Sendable, Equatable {
    /// What the agent described.
    package var filesSeen: Int64 = 0
    package var bytesSeen: Int64 = 0
    /// Files that were opened and read on the host.
    package var filesRead: Int64 = 0
    /// What came over the wire.
    package var filesSent: Int64 = 0
    package var bytesSent: Int64 = 0
    /// What the repository grew by.
    package var bytesStored: Int64 = 0
    /// Nil until it was counted.
    package var filesExpected: Int64?
    package var bytesExpected: Int64?
    package var problems: Int64 = 0

    package init() {}

    /// Columns in the order of `parameters`.
    static let assignments = """
        files_seen = $3, bytes_seen = $4, files_read = $5, files_sent = $6, bytes_sent = $7,
        bytes_stored = $8, files_expected = $9, bytes_expected = $10, problems = $11
        """

    var parameters: [(any PostgresParameter)?] {
        [
            filesSeen, bytesSeen, filesRead, filesSent, bytesSent, bytesStored, filesExpected, bytesExpected,
            problems,
        ]
    }

    /// Part of what is expected that was seen so far, 0 to 1; nil while that is not known.
    package var fraction: Double? {
        if let bytesExpected, bytesExpected > 0 { return min(1, Double(bytesSeen) / Double(bytesExpected)) }
        if let filesExpected, filesExpected > 0 { return min(1, Double(filesSeen) / Double(filesExpected)) }
        return nil
    }
}

/// What a run does.
package enum RunKind: String, Sendable, CaseIterable {
    /// A capture of everything, by the host's agent.
    case full
    /// A capture of the database alone, by the host's agent.
    case database
    /// Moves snapshots that retention lets go to `holdfast/forgotten/`.
    case forget
    /// Takes out of the repository what no snapshot needs.
    case prune

    /// What the agent is to take; nil for what the coordinator does alone.
    package var capture: CaptureKind? {
        switch self {
        case .full: .full
        case .database: .database
        case .forget, .prune: nil
        }
    }

    package init(_ kind: CaptureKind) { self = kind == .full ? .full : .database }

    /// What an agent is needed for, as a list in SQL.
    static let capturesSQL = "('full', 'database')"
}

/// One piece of work for one host. Times are nanoseconds since 1970-01-01T00:00:00Z.
package struct RunRow: Sendable, Equatable {
    package enum State: String, Sendable, CaseIterable {
        /// Waits for the host's agent.
        case queued
        case running
        case done
        /// Published, with problems of single files.
        case incomplete
        case failed
        /// Its process ended without a word.
        case interrupted
        case cancelled

        package var isOver: Bool { self != .queued && self != .running }
    }

    /// Why a run ended without a snapshot, for programs; people read `error`.
    package enum Failure: String, Sendable, CaseIterable {
        /// The disk with the repository is full, or a quota is used up.
        case space
        /// The host's repository may not grow any more.
        case limit
        /// The repository can't be read or written for another reason.
        case storage
        /// The catalogue was not there, or the locks in it were lost.
        case catalogue
        /// The database could not be dumped.
        case dump
        /// The agent could not go on, or what it sent makes no snapshot.
        case agent
        /// The connection to the agent ended.
        case connection
        /// The coordinator was stopped.
        case stopped
        /// Somebody else works on the host or its repository.
        case locked
        /// Somebody asked for its end.
        case cancelled
        case other
    }

    /// UUID.
    package let id: String
    package let host: Int32
    package let hostName: String
    package let kind: RunKind
    package let state: State
    package let requested: Int64
    package let started: Int64?
    package let ended: Int64?
    package let phase: String?
    package let epoch: Int64?
    /// The lease that works on it.
    package let holder: String?
    package let figures: RunFigures
    package let error: String?
    package let failure: Failure?
    /// Restic's id of the snapshot it published.
    package let snapshot: String?
    /// The schedule queued it, and no person asked for it since.
    package let isScheduled: Bool
    /// When somebody asked for its end while it was running.
    package let cancelRequested: Int64?

    static let columns = "r.*, h.name AS host_name"

    init(_ row: PostgresResult.Row) throws(PostgresError) {
        id = try row.string("id")
        host = try row.int32("host_id")
        hostName = try row.string("host_name")
        guard let kind = RunKind(rawValue: try row.string("kind")) else {
            throw .misuse("a run is of a kind that this program does not know")
        }
        self.kind = kind
        guard let state = State(rawValue: try row.string("state")) else {
            throw .misuse("a run has a state that this program does not know")
        }
        self.state = state
        requested = try row.int64("requested")
        started = try row.optionalInt64("started")
        ended = try row.optionalInt64("ended")
        phase = try row.text("phase")
        epoch = try row.optionalInt64("epoch")
        holder = try row.text("holder")
        var figures = RunFigures()
        figures.filesSeen = try row.int64("files_seen")
        figures.bytesSeen = try row.int64("bytes_seen")
        figures.filesRead = try row.int64("files_read")
        figures.filesSent = try row.int64("files_sent")
        figures.bytesSent = try row.int64("bytes_sent")
        figures.bytesStored = try row.int64("bytes_stored")
        figures.filesExpected = try row.optionalInt64("files_expected")
        figures.bytesExpected = try row.optionalInt64("bytes_expected")
        figures.problems = try row.int64("problems")
        self.figures = figures
        error = try row.text("error")
        failure = try row.text("failure").map { Failure(rawValue: $0) ?? .other }
        snapshot = try row.text("snapshot")
        isScheduled = try row.bool("scheduled")
        cancelRequested = try row.optionalInt64("cancel_requested")
    }
}

/// A file that a run could not take as it was.
package struct RunProblem: Sendable, Equatable {
    /// Path in the snapshot, as bytes.
    package let path: [UInt8]
    package let message: String

    package init(path: [UInt8], message: String) {
        self.path = path
        self.message = message
    }
}
