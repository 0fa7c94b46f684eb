import Posix
import Postgres
package import Wire

/// A snapshot of a host's repository. Times are nanoseconds since 1970-01-01T00:00:00Z, sizes bytes.
package struct SnapshotRow: Sendable, Equatable {
    package enum State: String, Sendable {
        /// Its file is among the repository's snapshots.
        case present
        /// Its file lies in `holdfast/forgotten/`: it still counts as used, and `snapshot recall` brings it back.
        case forgotten
        /// Its file was set aside, because it could not be verified.
        case aside
    }

    /// Restic's id: 64 hexadecimal digits.
    package var id: String
    package var kind: CaptureKind
    package var run: String?
    package var time: Int64
    /// Restic's id of the root tree.
    package var tree: String
    package var epoch: Int64
    /// `originals` or `everything`; empty for one of the database alone.
    package var scope: String
    package var dumpName: String?
    package var dumpBytes: Int64?
    package var immichVersion: String?
    package var postgresVersion: String?
    package var files: Int64
    package var bytes: Int64
    /// What it added to the repository.
    package var storedBytes: Int64
    /// Files are missing or changed while they were read.
    package var incomplete: Bool
    package var state: State
    /// When it was forgotten; nil for the others.
    package var forgotten: Int64?

    package init(
        id: String,
        kind: CaptureKind = .full,
        run: String?,
        time: Int64,
        tree: String,
        epoch: Int64,
        scope: String,
        dumpName: String? = nil,
        dumpBytes: Int64? = nil,
        immichVersion: String? = nil,
        postgresVersion: String? = nil,
        files: Int64,
        bytes: Int64,
        storedBytes: Int64,
        incomplete: Bool,
        state: State = .present
    ) {
        self.id = id
        self.kind = kind
        self.run = run
        self.time = time
        self.tree = tree
        self.epoch = epoch
        self.scope = scope
        self.dumpName = dumpName
        self.dumpBytes = dumpBytes
        self.immichVersion = immichVersion
        self.postgresVersion = postgresVersion
        self.files = files
        self.bytes = bytes
        self.storedBytes = storedBytes
        self.incomplete = incomplete
        self.state = state
    }

    init(_ row: PostgresResult.Row) throws(PostgresError) {
        id = try row.string("id")
        guard let kind = CaptureKind(name: try row.string("kind")) else {
            throw .misuse("a snapshot is of a kind that this program does not know")
        }
        self.kind = kind
        forgotten = try row.optionalInt64("forgotten")
        run = try row.text("run_id")
        time = try row.int64("time")
        tree = try row.string("tree")
        epoch = try row.int64("epoch")
        scope = try row.string("scope")
        dumpName = try row.text("dump_name")
        dumpBytes = try row.optionalInt64("dump_bytes")
        immichVersion = try row.text("immich_version")
        postgresVersion = try row.text("postgres_version")
        files = try row.int64("files")
        bytes = try row.int64("bytes")
        storedBytes = try row.int64("stored_bytes")
        incomplete = try row.bool("incomplete")
        guard let state = State(rawValue: try row.string("state")) else {
            throw .misuse("a snapshot has a state that this program does not know")
        }
        self.state = state
    }
}

extension Catalogue {
    /// Adds a snapshot's row, or replaces the one it has, as when a file without a row is adopted or set aside.
    /// A new snapshot is published with `HostLease.publish` instead.
    package func put(_ snapshot: SnapshotRow, host: Int32) throws {
        try connection.execute(
            """
            INSERT INTO snapshots (host_id, id, run_id, time, tree, epoch, scope, dump_name, dump_bytes,
                immich_version, postgres_version, files, bytes, stored_bytes, incomplete, state, kind, forgotten)
            VALUES ($1, $2, (SELECT id FROM runs WHERE id = $3), $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                $15, $16, $17, $18)
            ON CONFLICT (host_id, id) DO UPDATE SET run_id = excluded.run_id, time = excluded.time,
                tree = excluded.tree, epoch = excluded.epoch, scope = excluded.scope,
                dump_name = excluded.dump_name, dump_bytes = excluded.dump_bytes,
                immich_version = excluded.immich_version, postgres_version = excluded.postgres_version,
                files = excluded.files, bytes = excluded.bytes, stored_bytes = excluded.stored_bytes,
                incomplete = excluded.incomplete, state = excluded.state,
                kind = excluded.kind, forgotten = excluded.forgotten
            """,
            [
                host, snapshot.id, snapshot.run, snapshot.time, snapshot.tree, snapshot.epoch, snapshot.scope,
                snapshot.dumpName, snapshot.dumpBytes, snapshot.immichVersion, snapshot.postgresVersion,
                snapshot.files, snapshot.bytes, snapshot.storedBytes, snapshot.incomplete,
                snapshot.state.rawValue, snapshot.kind.name, snapshot.forgotten,
            ]
        )
    }

    /// A host's snapshots, the newest first; those that are forgotten or set aside only if asked for.
    package func snapshots(of host: HostRow, asideToo: Bool = false) throws -> [SnapshotRow] {
        try connection.query(
            "SELECT * FROM snapshots WHERE host_id = $1 AND (state = 'present' OR $2) ORDER BY time DESC, id",
            [host.id, asideToo]
        ).map { try SnapshotRow($0) }
    }

    /// The newest of a host that is of this kind; never one of the database alone where a library is wanted.
    package func latestSnapshot(of host: HostRow, kind: CaptureKind = .full) throws -> SnapshotRow? {
        try connection.query(
            """
            SELECT * FROM snapshots WHERE host_id = $1 AND kind = $2 AND state = 'present'
            ORDER BY time DESC, id LIMIT 1
            """,
            [host.id, kind.name]
        ).first.map { try SnapshotRow($0) }
    }

    /// The newest snapshot of this kind of every host that has one, by the host's id; of one host alone if it is named.
    package func latestSnapshots(kind: CaptureKind = .full, host: Int32? = nil) throws -> [Int32: SnapshotRow]
    {
        let rows = try connection.query(
            """
            SELECT s.* FROM hosts h CROSS JOIN LATERAL (
                SELECT * FROM snapshots WHERE host_id = h.id AND state = 'present' AND kind = $2
                ORDER BY time DESC, id LIMIT 1) s
            WHERE h.removed IS NULL AND ($1::int IS NULL OR h.id = $1)
            """,
            [host, kind.name]
        )
        return try Dictionary(
            rows.map { (try $0.int32("host_id"), try SnapshotRow($0)) },
            uniquingKeysWith: { first, _ in first }
        )
    }

    /// Takes a snapshot's row away, as when its file was forgotten.
    package func removeSnapshot(_ id: String, host: Int32) throws {
        try connection.execute("DELETE FROM snapshots WHERE host_id = $1 AND id = $2", [host, id])
    }
}
