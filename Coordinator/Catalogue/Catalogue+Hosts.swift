import Fleet
import Posix
import Postgres

/// One Immich machine of the fleet.
package struct HostRow: Sendable, Equatable {
    package let id: Int32
    package let name: String
    package let added: Int64
    /// When it was taken out of the fleet; nil while it belongs to it.
    package let removed: Int64?
    /// When its agent was here last; nil before the first time.
    package let lastContact: Int64?
    /// The highest epoch that was given out for it.
    package let epoch: Int64
    /// By how much at least its agent's clock was ahead of the coordinator's, nanoseconds; negative when it was
    /// behind; nil before it was looked at.
    package let clockSkew: Int64?
    /// When that was.
    package let clockSeen: Int64?

    fileprivate init(_ row: PostgresResult.Row) throws(PostgresError) {
        id = try row.int32("id")
        name = try row.string("name")
        added = try row.int64("added")
        removed = try row.optionalInt64("removed")
        lastContact = try row.optionalInt64("last_contact")
        epoch = try row.int64("epoch")
        clockSkew = try row.optionalInt64("clock_skew")
        clockSeen = try row.optionalInt64("clock_seen")
    }
}

extension Catalogue {
    private static let hostColumns =
        "h.id, h.name, h.added, h.removed, h.last_contact, h.epoch, h.clock_skew, h.clock_seen"

    /// Adds a host. One that was removed comes back with its id and epoch, which never start again.
    ///
    /// - Throws: `CatalogueError.badHostName` or `hostExists`.
    package func addHost(_ name: String) throws -> HostRow {
        if let problem = HostName.problem(name) { throw CatalogueError.badHostName(problem) }
        let rows = try connection.query(
            """
            INSERT INTO hosts AS h (name, added) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET removed = NULL, added = excluded.added WHERE h.removed IS NOT NULL
            RETURNING \(Self.hostColumns)
            """,
            [name, Time.now()]
        )
        guard let row = rows.first else { throw CatalogueError.hostExists(name) }
        return try HostRow(row)
    }

    /// The hosts by name, those that were removed only if asked for.
    package func hosts(removedToo: Bool = false) throws -> [HostRow] {
        try connection.query(
            "SELECT \(Self.hostColumns) FROM hosts h WHERE removed IS NULL OR $1 ORDER BY name",
            [removedToo]
        ).map { try HostRow($0) }
    }

    /// The host of that name.
    ///
    /// - Throws: `CatalogueError.noHost` when there is none, or it was removed.
    package func host(named name: String) throws -> HostRow {
        let rows = try connection.query(
            "SELECT \(Self.hostColumns) FROM hosts h WHERE name = $1 AND removed IS NULL",
            [name]
        )
        guard let row = rows.first else { throw CatalogueError.noHost(name) }
        return try HostRow(row)
    }

    package func host(id: Int32) throws -> HostRow? {
        try connection.query("SELECT \(Self.hostColumns) FROM hosts h WHERE id = $1", [id]).first.map {
            try HostRow($0)
        }
    }

    /// The host whose agent has this key; nil for a key that is unknown or revoked, or a host that was removed.
    package func host(keyFingerprint: String) throws -> HostRow? {
        try connection.query(
            """
            SELECT \(Self.hostColumns) FROM hosts h JOIN agent_keys k ON k.host_id = h.id
            WHERE k.fingerprint = $1 AND k.revoked IS NULL AND h.removed IS NULL
            """,
            [keyFingerprint]
        ).first.map { try HostRow($0) }
    }

    /// Takes a host out of the fleet: its keys and tokens count no more and nothing queued is run. Its rows and its
    /// repository stay.
    package func removeHost(_ name: String) throws {
        try connection.transaction {
            let host = try host(named: name)
            let now = Time.now()
            try connection.execute("UPDATE hosts SET removed = $2 WHERE id = $1", [host.id, now])
            try connection.execute(
                "UPDATE agent_keys SET revoked = $2 WHERE host_id = $1 AND revoked IS NULL",
                [host.id, now]
            )
            try connection.execute("DELETE FROM join_tokens WHERE host_id = $1", [host.id])
            try cancelQueuedRuns(host: host.id)
        }
    }
}
