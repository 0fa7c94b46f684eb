import Posix
import Postgres

/// The key that an agent is known by.
package struct AgentKeyRow: Sendable, Equatable {
    package let host: Int32
    package let fingerprint: String
    /// The public key as SSH encodes it.
    package let publicKey: [UInt8]
    package let added: Int64
    package let revoked: Int64?

    fileprivate init(_ row: PostgresResult.Row) throws(PostgresError) {
        host = try row.int32("host_id")
        fingerprint = try row.string("fingerprint")
        publicKey = try row.bytes("public_key")
        added = try row.int64("added")
        revoked = try row.optionalInt64("revoked")
    }
}

extension Catalogue {
    /// Makes a token that lets one machine join as `host`. Tokens given out before and not yet used count no more,
    /// so that the newest line that was printed is the only one that works.
    ///
    /// - Parameter lifetime: Nanoseconds until it expires.
    /// - Returns: 16 random bytes. Only their SHA-256 is kept.
    package func makeToken(
        for host: HostRow,
        lifetime: Int64 = 3600 * 1_000_000_000,
        now: Int64 = Time.now()
    ) throws -> [UInt8] {
        let secret = randomBytes(16)
        try connection.transaction {
            try connection.execute("DELETE FROM join_tokens WHERE host_id = $1 AND used IS NULL", [host.id])
            try connection.execute(
                "INSERT INTO join_tokens (sha256, host_id, expires) VALUES (sha256($1::bytea), $2, $3)",
                [secret, host.id, now + lifetime]
            )
        }
        return secret
    }

    /// Uses a token: registers the agent's key for the token's host and revokes the keys the host had before,
    /// because the machine was replaced. Of several that use one token at once, one succeeds. The agent that
    /// succeeded may ask again with the same key and gets the same answer, because the first may have been lost.
    ///
    /// - Throws: `CatalogueError.unknownToken`, `usedToken`, `expiredToken` or `keyTaken`.
    package func join(
        token secret: [UInt8],
        publicKey: [UInt8],
        fingerprint: String,
        now: Int64 = Time.now()
    ) throws -> HostRow {
        try connection.transaction {
            // The row stays locked until the commit, so a second one waits here and then sees it used.
            let tokens = try connection.query(
                """
                SELECT t.host_id, t.expires, t.used, t.fingerprint, h.name FROM join_tokens t
                JOIN hosts h ON h.id = t.host_id
                WHERE t.sha256 = sha256($1::bytea) AND h.removed IS NULL FOR UPDATE OF t
                """,
                [secret]
            )
            guard let token = tokens.first else { throw CatalogueError.unknownToken }
            let name = try token.string("name")
            if try token.text("used") != nil {
                guard try token.text("fingerprint") == fingerprint,
                    let known = try host(keyFingerprint: fingerprint)
                else { throw CatalogueError.usedToken(host: name) }
                return known
            }
            guard try token.int64("expires") > now else { throw CatalogueError.expiredToken(host: name) }
            let id = try token.int32("host_id")
            try register(host: id, publicKey: publicKey, fingerprint: fingerprint, now: now)
            try connection.execute(
                "UPDATE join_tokens SET used = $2, fingerprint = $3 WHERE sha256 = sha256($1::bytea)",
                [secret, now, fingerprint]
            )
            return try host(named: name)
        }
    }

    private func register(host: Int32, publicKey: [UInt8], fingerprint: String, now: Int64) throws {
        try connection.execute(
            "UPDATE agent_keys SET revoked = $2 WHERE host_id = $1 AND revoked IS NULL AND fingerprint <> $3",
            [host, now, fingerprint]
        )
        // A key that was revoked may be given to a host again by a token; one that is in use stays where it is.
        let taken = try connection.execute(
            """
            INSERT INTO agent_keys AS k (fingerprint, host_id, public_key, added) VALUES ($1, $2, $3, $4)
            ON CONFLICT (fingerprint) DO UPDATE
                SET host_id = excluded.host_id, added = excluded.added, revoked = NULL
                WHERE k.host_id = excluded.host_id OR k.revoked IS NOT NULL
            """,
            [fingerprint, host, publicKey, now]
        )
        if taken == 0 {
            let other = try connection.query(
                "SELECT h.name FROM agent_keys k JOIN hosts h ON h.id = k.host_id WHERE k.fingerprint = $1",
                [fingerprint]
            )
            throw CatalogueError.keyTaken(host: try other.first?.string("name") ?? "unknown")
        }
    }

    /// All keys a host ever had, the newest first.
    package func keys(of host: HostRow) throws -> [AgentKeyRow] {
        try connection.query(
            "SELECT * FROM agent_keys WHERE host_id = $1 ORDER BY added DESC, fingerprint",
            [host.id]
        ).map { try AgentKeyRow($0) }
    }

    /// Makes a key count no more.
    ///
    /// - Returns: False when it did not count already.
    @discardableResult
    package func revokeKey(fingerprint: String) throws -> Bool {
        try connection.execute(
            "UPDATE agent_keys SET revoked = $2 WHERE fingerprint = $1 AND revoked IS NULL",
            [fingerprint, Time.now()]
        ) == 1
    }
}
