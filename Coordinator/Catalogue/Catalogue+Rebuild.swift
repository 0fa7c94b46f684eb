import Postgres

/// What only `catalogue rebuild` writes: rows with the times and numbers that the repositories know.
extension Catalogue {
    /// Keeps every other rebuild away until this connection ends.
    ///
    /// - Returns: False when one is under way.
    package func lockForRebuild() throws -> Bool {
        try connection.tryLock(class: LockClass.rebuild, object: 0, shared: false)
    }

    /// Adds a host as it was, or raises the epoch of the one that is there.
    package func restoreHost(_ name: String, added: Int64, removed: Int64?, epoch: Int64) throws -> HostRow {
        try connection.execute(
            """
            INSERT INTO hosts AS h (name, added, removed, epoch) VALUES ($1, $2, $3, $4)
            ON CONFLICT (name) DO UPDATE SET epoch = greatest(h.epoch, excluded.epoch)
            """,
            [name, added, removed, epoch]
        )
        guard let host = try hosts(removedToo: true).first(where: { $0.name == name }) else {
            throw CatalogueError.noHost(name)
        }
        return host
    }

    /// Adds the key of a host's agent as it was.
    ///
    /// - Throws: `CatalogueError.keyTaken` when it is another host's.
    package func restoreKey(host: HostRow, publicKey: [UInt8], fingerprint: String, added: Int64) throws {
        try connection.execute(
            """
            INSERT INTO agent_keys (fingerprint, host_id, public_key, added) VALUES ($1, $2, $3, $4)
            ON CONFLICT (fingerprint) DO NOTHING
            """,
            [fingerprint, host.id, publicKey, added]
        )
        let owner = try connection.query(
            "SELECT h.id, h.name FROM agent_keys k JOIN hosts h ON h.id = k.host_id WHERE k.fingerprint = $1",
            [fingerprint]
        ).single()
        if try owner.int32("id") != host.id { throw CatalogueError.keyTaken(host: try owner.string("name")) }
    }
}
