import Arguments
import Catalogue
import Fleet
import Posix
import Repository
import Sessions

extension FleetConfiguration {
    /// Runs `body` under the host's shared locks, of the catalogue and of restic, so that nothing is deleted
    /// meanwhile.
    func reading<R>(_ name: String, _ body: (Catalogue, HostRow, Repository) throws -> R) throws -> R {
        try withServer { server, catalogue in
            let host = try catalogue.host(named: name)
            let repository = try openRepository(of: name)
            let lease = try HostLease(host, .reading, server: server.address)
            defer { lease.release() }
            // One that was killed before must not stand in a stock client's way once this is done.
            try lease.removeDeadLocks(of: repository)
            let lock = try KeptLock(repository, owner: lease.id)
            try lock.confirm()
            defer { lock.release() }
            return try body(lease.catalogue, host, repository)
        }
    }
}

extension Repository {
    /// The snapshot of a full id.
    func snapshot(_ id: String) throws -> Snapshot {
        guard let file = BlobID(hex: id) else {
            throw CommandFailure(.failed, "\(id) is no id of a snapshot")
        }
        guard Files.exists(filePath(.snapshots, file)) || !Files.exists(filePath(.forgotten, file)) else {
            // Its row does not say so yet when whoever forgot it was cut off.
            throw CommandFailure(
                .failed,
                "snapshot \(file.short) is forgotten: `holdfast-coordinator snapshot recall \(file.short)` brings it back"
            )
        }
        return try snapshot(file)
    }
}
