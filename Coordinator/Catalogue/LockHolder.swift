import Posix
import Postgres

/// The classes of Holdfast's advisory locks, `classid` in `pg_locks`; `objid` is the host's id. They are
/// 0x484F0000 and following, where other programs hardly are.
package enum LockClass {
    /// Migrations of the schema; `objid` is 0.
    static let schema: Int32 = 0x484F_0000
    /// Exclusive: one capture of a host at a time.
    package static let run: Int32 = 0x484F_0001
    /// Shared while a repository is used, exclusive while something is deleted from it.
    package static let repository: Int32 = 0x484F_0002
    /// Shared by every running `serve`; `objid` is 0.
    static let serve: Int32 = 0x484F_0003
    /// Exclusive: one rebuild of the catalogue at a time; `objid` is 0.
    static let rebuild: Int32 = 0x484F_0004
    /// Exclusive: of coordinators that share a catalogue one does a duty; `objid` is the duty's number.
    package static let duty: Int32 = 0x484F_0005
    /// Exclusive for a transaction: one at a time compares findings with what is the case; `objid` is 0.
    package static let findings: Int32 = 0x484F_0006
}

/// Somebody who holds locks of a host.
package struct LockHolder: Sendable, Equatable, CustomStringConvertible {
    package let host: Int32
    package let hostName: String
    /// Which locks: `run` for the exclusive one, `repository` for the shared, `repository!` for the exclusive.
    package let locks: [String]
    /// UUID in the connection's name; nil for a connection that is none of Holdfast's leases.
    package let lease: String?
    /// Process id on the server, for `pg_terminate_backend`.
    package let backend: Int32
    /// When the connection was made, nanoseconds since 1970-01-01T00:00:00Z.
    package let since: Int64
    /// `capture`, `reading` or `deleting`; nil without a lease's row.
    package let kind: String?
    /// Where the process runs.
    package let machine: String?
    package let pid: Int32?
    package let epoch: Int64?
    /// The run it works on.
    package let run: String?
    package let phase: String?
    /// 0 to 1.
    package let fraction: Double?

    fileprivate init(_ row: PostgresResult.Row) throws(PostgresError) {
        host = try row.int32("host_id")
        hostName = try row.string("host_name")
        locks = try row.string("locks").split(separator: " ").map(String.init)
        lease = try row.text("lease")
        backend = try row.int32("backend")
        since = try row.int64("since")
        kind = try row.text("kind")
        machine = try row.text("machine")
        pid = try row.text("pid") == nil ? nil : row.int32("pid")
        epoch = try row.optionalInt64("epoch")
        run = try row.text("run")
        phase = try row.text("phase")
        var figures = RunFigures()
        figures.filesSeen = try row.optionalInt64("files_seen") ?? 0
        figures.bytesSeen = try row.optionalInt64("bytes_seen") ?? 0
        figures.filesExpected = try row.optionalInt64("files_expected")
        figures.bytesExpected = try row.optionalInt64("bytes_expected")
        fraction = figures.fraction
    }

    package var description: String {
        var text = kind ?? "somebody"
        if let pid { text += " by process \(pid)" }
        if let machine { text += " on \(machine)" }
        text += " since \(Time.local(since))"
        if let run { text += ", run \(run)" }
        if let phase { text += ", \(phase)" }
        if let fraction { text += ", \(Int(fraction * 100)) %" }
        return text
    }
}

extension Catalogue {
    /// Leases whose connection lives and holds a lock. The lock is asked for as well as the name, because a pooler
    /// may keep an old name on a connection that nobody uses.
    static let liveLeasesSQL = """
        SELECT substr(a.application_name, 10) AS lease, a.pid FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.application_name LIKE 'holdfast %' AND EXISTS (
            SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted
                AND l.objsubid = 2 AND l.classid IN (\(LockClass.run), \(LockClass.repository)))
        """

    /// The ids of the leases that somebody holds now. A restic lock file of Holdfast whose id is not among them
    /// belongs to a dead process.
    package func liveLeases() throws -> Set<String> {
        Set(try connection.query(Self.liveLeasesSQL).map { try $0.string("lease") })
    }

    /// Everybody who holds locks, of one host or of all, the oldest first.
    package func holders(host: Int32? = nil) throws -> [LockHolder] {
        try connection.query(
            """
            SELECT h.id AS host_id, h.name AS host_name, a.pid AS backend, l.locks,
                (extract(epoch FROM a.backend_start) * 1000000)::bigint * 1000 AS since,
                e.id AS lease, e.kind, e.machine, e.pid, e.epoch, r.id AS run, r.phase,
                r.files_seen, r.bytes_seen, r.files_expected, r.bytes_expected
            FROM (
                SELECT pid, objid, string_agg(
                    CASE classid WHEN \(LockClass.run) THEN 'run' ELSE 'repository' END
                        || CASE WHEN classid = \(LockClass.repository) AND mode = 'ExclusiveLock' THEN '!' ELSE '' END,
                    ' ' ORDER BY classid, mode) AS locks
                FROM pg_locks
                WHERE locktype = 'advisory' AND granted AND objsubid = 2
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND classid IN (\(LockClass.run), \(LockClass.repository))
                GROUP BY pid, objid) l
            JOIN pg_stat_activity a ON a.pid = l.pid
            JOIN hosts h ON h.id = l.objid::bigint
            LEFT JOIN leases e ON 'holdfast ' || e.id = a.application_name
            LEFT JOIN runs r ON r.holder = e.id AND r.state = 'running'
            WHERE $1::int IS NULL OR h.id = $1
            ORDER BY since, backend
            """,
            [host]
        ).map { try LockHolder($0) }
    }
}
