import Posix
import Postgres

/// What a person allowed one machine to have.
package struct RestoreGrant: Sendable, Equatable {
    package let host: HostRow
    /// The snapshot's full id.
    package let snapshot: String
    /// Paths in it; none: everything.
    package let includes: [[UInt8]]
    package let expires: Int64
}

extension Catalogue {
    /// Lets the machine that shows the returned 16 bytes first have a snapshot, as often as it asks until it expires: a
    /// restore that was cut must be able to go on. Only their SHA-256 is kept. Grants that expired are forgotten.
    ///
    /// - Parameters:
    ///   - includes: Paths in the snapshot, without zero bytes; none: everything.
    ///   - lifetime: Nanoseconds until it expires.
    package func grantRestore(
        of host: HostRow,
        snapshot: String,
        includes: [[UInt8]],
        lifetime: Int64,
        now: Int64 = Time.now()
    ) throws -> [UInt8] {
        let secret = randomBytes(16)
        let paths: [UInt8] = Array(includes.map { $0 + [0] }.joined())
        try connection.transaction {
            // Kept for a while, so that who comes late is told what happened.
            let month: Int64 = 30 * 86_400 * 1_000_000_000
            try connection.execute("DELETE FROM restore_grants WHERE expires < $1", [now - month])
            try connection.execute(
                """
                INSERT INTO restore_grants (sha256, host_id, snapshot, includes, expires)
                VALUES (sha256($1::bytea), $2, $3, $4::bytea, $5)
                """,
                [secret, host.id, snapshot, paths, now + lifetime]
            )
        }
        return secret
    }

    /// What the holder of `secret` with the key `fingerprint` may have; from the first time on nobody else's key.
    ///
    /// - Returns: The grant, and whether this was the first time.
    /// - Throws: `CatalogueError.unknownGrant`, `expiredGrant` or `grantTaken`.
    package func useGrant(
        _ secret: [UInt8],
        fingerprint: String,
        now: Int64 = Time.now()
    ) throws -> (grant: RestoreGrant, isFirst: Bool) {
        try connection.transaction {
            // The row stays locked until the commit: of two that come at once the second sees the first's key.
            let rows = try connection.query(
                """
                SELECT g.snapshot, g.includes, g.expires, g.fingerprint, h.name FROM restore_grants g
                JOIN hosts h ON h.id = g.host_id
                WHERE g.sha256 = sha256($1::bytea) AND h.removed IS NULL FOR UPDATE OF g
                """,
                [secret]
            )
            guard let row = rows.first else { throw CatalogueError.unknownGrant }
            let name = try row.string("name")
            let expires = try row.int64("expires")
            guard expires > now else { throw CatalogueError.expiredGrant(host: name) }
            let holder = try row.text("fingerprint")
            guard holder == nil || holder == fingerprint else { throw CatalogueError.grantTaken(host: name) }
            if holder == nil {
                try connection.execute(
                    "UPDATE restore_grants SET fingerprint = $2 WHERE sha256 = sha256($1::bytea)",
                    [secret, fingerprint]
                )
            }
            let grant = RestoreGrant(
                host: try host(named: name),
                snapshot: try row.string("snapshot"),
                includes: try row.bytes("includes").split(separator: 0).map { Array($0) },
                expires: expires
            )
            return (grant, holder == nil)
        }
    }
}
