import Glibc
import Posix
import Postgres

/// The right to work on one host, held by advisory locks on a connection of its own and, for whoever changes
/// something, by an epoch. It ends with `release`, with this value, or with the process, however that ends.
///
/// The connection is named `holdfast ID` in `pg_stat_activity`; restic lock files carry the same id. It may be
/// used for everything else that the work writes into the catalogue, by one thread at a time.
package final class HostLease {
    package enum Kind: String, Sendable, CaseIterable {
        /// run exclusive, repository shared, and a new epoch: one at a time publishes snapshots.
        case capture
        /// repository shared: restore and check, any number, also beside a capture.
        case reading
        /// repository exclusive and a new epoch: a capture that lost its locks meanwhile cannot publish any more.
        case deleting
        /// repository exclusive: the catalogue is compared with the repository and made again.
        case rebuilding

        fileprivate var locks: [(class: Int32, shared: Bool)] {
            switch self {
            case .capture: [(LockClass.run, false), (LockClass.repository, true)]
            case .reading: [(LockClass.repository, true)]
            case .deleting, .rebuilding: [(LockClass.repository, false)]
            }
        }
    }

    /// UUID.
    package let id: String
    package let kind: Kind
    package let host: HostRow
    /// Greater than every epoch that was given out for the host before; nil for `reading` and `rebuilding`.
    package let epoch: Int64?
    package let catalogue: Catalogue

    /// Takes the locks of `kind`, at once or not at all.
    ///
    /// - Parameters:
    ///   - epochFloor: The highest epoch that the repository itself knows of. The new one is above it as well, so that
    ///     a catalogue that was lost or restored never gives an epoch out twice.
    ///   - id: What the holder is called; a new UUID unless a test wants one.
    /// - Throws: `CatalogueError.locked` with those who hold them.
    package init(
        _ host: HostRow,
        _ kind: Kind,
        server: String,
        epochFloor: Int64 = 0,
        id: String = newUUID()
    ) throws {
        self.id = id
        self.kind = kind
        self.host = host
        let catalogue = try Catalogue(address: server, applicationName: "holdfast \(id)")
        self.catalogue = catalogue
        let connection = catalogue.connection
        for lock in kind.locks
        where try !connection.tryLock(class: lock.class, object: host.id, shared: lock.shared) {
            let holders = try catalogue.holders(host: host.id).filter { $0.lease != id }
            Self.unlock(connection)
            throw CatalogueError.locked(host: host.name, wanted: kind.rawValue, holders: holders)
        }
        epoch = try connection.transaction {
            var epoch: Int64?
            if kind == .capture || kind == .deleting {
                epoch = try connection.query(
                    "UPDATE hosts SET epoch = greatest(epoch, $2) + 1 WHERE id = $1 RETURNING epoch",
                    [host.id, epochFloor]
                ).single().int64("epoch")
            }
            try connection.execute(
                "DELETE FROM leases WHERE NOT EXISTS (SELECT FROM (\(Catalogue.liveLeasesSQL)) l WHERE l.lease = id::text)"
            )
            try connection.execute(
                "INSERT INTO leases (id, host_id, kind, epoch, machine, pid, since) VALUES ($1, $2, $3, $4, $5, $6, $7)",
                [id, host.id, kind.rawValue, epoch, Host.name, getpid(), Time.now()]
            )
            return epoch
        }
    }

    deinit { release() }

    /// Gives the locks back. Doing it twice does no harm.
    package func release() {
        _ = try? catalogue.connection.execute("DELETE FROM leases WHERE id = $1", [id])
        Self.unlock(catalogue.connection)
    }

    /// Closing alone would do, but the server takes its time to notice, and the next one would be refused.
    private static func unlock(_ connection: PostgresConnection) {
        _ = try? connection.execute("SELECT pg_advisory_unlock_all()")
        connection.close()
    }

    /// Asks the server whether this connection still holds every lock, for long work to do before it changes
    /// something that cannot be taken back.
    ///
    /// - Throws: `CatalogueError.lockLost`.
    package func verifyStillHeld() throws {
        try translating {
            try requireLocks()
            guard let epoch else { return }
            try requireEpoch(
                epoch,
                catalogue.connection.query("SELECT epoch FROM hosts WHERE id = $1", [host.id])
            )
        }
    }

    /// Publishes a snapshot in one transaction: `place` brings the file into place, the row is added, and the run gets
    /// its id.
    ///
    /// - Throws: As `change`; a file that `place` brought there may then be without its row.
    package func publish(_ snapshot: SnapshotRow, place: () throws -> Void) throws {
        var snapshot = snapshot
        try change { epoch in
            snapshot.epoch = epoch
            try place()
            try catalogue.put(snapshot, host: host.id)
            try catalogue.connection.execute(
                "UPDATE runs SET snapshot = $2 WHERE id = $1 AND holder = $3",
                [snapshot.run, snapshot.id, id]
            )
        }
    }

    /// Changes files of the repository and their rows in one transaction on the lock's own connection, after the host's
    /// row was locked and its epoch compared. `body` is given the epoch.
    ///
    /// A holder that was paused and lost its locks fails before `body`. Once the epoch was compared, nobody can take
    /// the host over until this is committed. When `body` throws, no row is changed and the error goes on.
    ///
    /// - Throws: `CatalogueError.lockLost` when somebody else took over or the connection is gone, `publishUnknown`
    ///   when it broke during the commit; what `body` did to files then stands, and the rows may not say so.
    package func change(_ body: (_ epoch: Int64) throws -> Void) throws {
        guard let epoch else { throw PostgresError.misuse("a lease for \(kind.rawValue) changes nothing") }
        try translating {
            try catalogue.connection.transaction {
                // As strong as the update of a takeover, and no more: rows that refer to the host may still be added.
                let rows = try catalogue.connection.query(
                    "SELECT epoch FROM hosts WHERE id = $1 FOR NO KEY UPDATE",
                    [host.id]
                )
                try requireEpoch(epoch, rows)
                try requireLocks()
                try body(epoch)
            }
        }
    }

    // MARK: - Checks

    private func requireEpoch(_ epoch: Int64, _ rows: PostgresResult) throws {
        let now = try rows.single().int64("epoch")
        if now != epoch {
            throw CatalogueError.lockLost(
                host: host.name,
                reason: "epoch \(epoch) was taken over by epoch \(now)"
            )
        }
    }

    private func requireLocks() throws {
        let held = try catalogue.connection.query(
            """
            SELECT classid::bigint AS class, mode FROM pg_locks
            WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND granted AND objsubid = 2
                AND objid::bigint = $1
            """,
            [host.id]
        ).map { (try $0.int32("class"), try $0.string("mode") == "ShareLock") }
        for lock in kind.locks where !held.contains(where: { $0 == lock.class && $1 == lock.shared }) {
            throw CatalogueError.lockLost(host: host.name, reason: "the server no longer knows of it")
        }
    }

    private func translating(_ body: () throws -> Void) throws {
        do { try body() } catch let error as PostgresError {
            switch error {
            case .connectionLost(let reason), .cannotConnect(let reason):
                throw CatalogueError.lockLost(host: host.name, reason: reason)
            case .commitUnknown(let reason):
                throw CatalogueError.publishUnknown(host: host.name, reason: reason)
            default: throw error
            }
        }
    }
}
