package import Catalogue
package import Repository

extension HostLease {
    /// Removes the lock files that processes of ours left in `repository` when they were killed, so that they stand in
    /// nobody's way. Who lives is asked once the files are listed: a lease is older than its lock file, so that none is
    /// taken for dead that has just begun.
    package func removeDeadLocks(of repository: Repository) throws {
        _ = try repository.removeDeadLocks { try catalogue.liveLeases().contains($0) }
    }

    /// Begins work that takes something out of a host's repository: the exclusive lock, and the run of `kind` that waits or
    /// a new one.
    ///
    /// - Throws: `CatalogueError.locked` with those who work on the host.
    static func deleting(
        _ kind: RunKind,
        _ host: HostRow,
        _ repository: Repository,
        _ server: CatalogueServer
    )
        throws -> (lease: HostLease, run: RunRow)
    {
        let lease = try HostLease(
            host,
            .deleting,
            server: server.address,
            epochFloor: repository.epoch()
        )
        // Before anything else, so that no epoch is given out again when the catalogue is made anew.
        try repository.recordEpoch(lease.epoch ?? 0)
        let run =
            try lease.catalogue.claimRun(for: lease, kind: kind)
            ?? lease.catalogue.startRun(for: lease, kind: kind)
        return (lease, run)
    }
}
