package import Catalogue

/// What is known of one host at one moment. Times are nanoseconds since 1970-01-01T00:00:00Z, sizes bytes.
package struct HostFacts: Sendable, Equatable {
    /// A dump that a snapshot holds.
    package struct Dump: Sendable, Equatable {
        package var time: Int64
        package var bytes: Int64

        package init(time: Int64, bytes: Int64) {
            self.time = time
            self.bytes = bytes
        }
    }

    /// The files that a full snapshot holds, without the dump.
    package struct Library: Sendable, Equatable {
        package var time: Int64
        /// Those of one scope are compared.
        package var scope: String
        package var bytes: Int64
        package var files: Int64

        package init(time: Int64, scope: String, bytes: Int64, files: Int64) {
            self.time = time
            self.scope = scope
            self.bytes = bytes
            self.files = files
        }
    }

    package struct Running: Sendable, Equatable {
        package var kind: RunKind
        package var started: Int64
        /// The median of those before it, in nanoseconds; nil before there are three.
        package var usual: Int64?
        /// 0 to 1.
        package var fraction: Double?

        package init(kind: RunKind, started: Int64, usual: Int64? = nil, fraction: Double? = nil) {
            self.kind = kind
            self.started = started
            self.usual = usual
            self.fraction = fraction
        }
    }

    /// The newest run of a kind that is over, where it failed or was interrupted.
    package struct Failure: Sendable, Equatable {
        package var kind: RunKind
        package var ended: Int64
        package var error: String

        package init(kind: RunKind, ended: Int64, error: String) {
            self.kind = kind
            self.ended = ended
            self.error = error
        }
    }

    /// A finding that stays until what it was measured against is reached again, or a person closes it.
    package struct Standing: Sendable, Equatable {
        package var message: String
        package var referenceBytes: Int64?
        package var referenceFiles: Int64?
        package var dataOf: Int64?

        package init(
            message: String,
            referenceBytes: Int64? = nil,
            referenceFiles: Int64? = nil,
            dataOf: Int64? = nil
        ) {
            self.message = message
            self.referenceBytes = referenceBytes
            self.referenceFiles = referenceFiles
            self.dataOf = dataOf
        }
    }

    /// How many snapshots a new one is compared with.
    package static let remembered = 8

    package var id: Int32
    package var name: String
    package var added: Int64
    package var hasKey = true
    package var lastContact: Int64?
    /// How far the clock of the agent's machine was ahead of the coordinator's at the last contact, in nanoseconds.
    package var clockSkew: Int64?

    // What the snapshots that are present say; those that lie further in the future than clocks may differ count only
    // as `future`.

    /// The moment the newest whole dump is of, whatever snapshot holds it.
    package var newestDump: Int64?
    /// The moment the newest complete full snapshot is of.
    package var newestFull: Int64?
    /// The moment the newest snapshot of all is of that is dated in the future.
    package var future: Int64?
    /// The newest first, at most `remembered`.
    package var dumps: [Dump] = []
    package var libraries: [Library] = []
    /// Entries that the newest full snapshot lacks; nil when it is complete, or there is none.
    package var missing: Int64?
    /// Immich's version in the newest snapshot, and in the newest complete full one.
    package var version: String?
    package var fullVersion: String?

    package var running: [Running] = []
    package var failures: [Failure] = []

    // There is nothing yet that could set these.
    package var newestProof: Int64?
    package var newestDrill: Int64?
    package var newestCopy: Int64?

    /// In the order of the policy's outside backups; empty where nobody looked.
    package var outside: [OutsideFile] = []

    /// Open findings, by their kind.
    package var standing: [Condition.Kind: Standing] = [:]
    /// The moment the data was of in what a person closed last, by the finding's kind.
    package var settled: [Condition.Kind: Int64] = [:]

    package init(id: Int32 = 0, name: String, added: Int64) {
        self.id = id
        self.name = name
        self.added = added
    }

    /// The moment that a clock counts from; nil when there never was one.
    package func moment(_ clock: Clock) -> Int64? {
        switch clock {
        case .contact: lastContact
        case .dump: newestDump
        case .full: newestFull
        case .proof: newestProof
        case .drill: newestDrill
        case .copy: newestCopy
        }
    }
}

/// The newest file of a backup that others make.
package struct OutsideFile: Sendable, Equatable {
    /// Nil when no file that holds anything matches.
    package var path: String?
    package var time: Int64?
    package var bytes: Int64?
    /// Why nobody knows.
    package var problem: String?

    package init(path: String? = nil, time: Int64? = nil, bytes: Int64? = nil, problem: String? = nil) {
        self.path = path
        self.time = time
        self.bytes = bytes
        self.problem = problem
    }
}
