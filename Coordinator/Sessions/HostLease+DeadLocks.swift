package import Catalogue
package import Repository

extension HostLease {
    /// Removes the lock files that processes of ours left in `repository` when they were killed, so that they stand in
    /// nobody's way. Who lives is asked once the files are listed: a lease is older than its lock file, so that none is
    /// taken for dead that has just begun.
    package func removeDeadLocks(of repository: Repository) throws {
        _ = try repository.removeDeadLocks { try catalogue.liveLeases().contains($0) }
    }
}
