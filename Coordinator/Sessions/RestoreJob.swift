import Catalogue
import Fleet
import Posix
import Repository
import Restore
import Retrieval
import SSH
import Wire

/// One connection that has come for what a person granted it: a snapshot, under the host's shared locks.
final class RestoreJob {
    private let fleet: FleetConfiguration
    private let server: CatalogueServer
    private let stream: FrameStream
    private let stop: StopFlag

    init(fleet: FleetConfiguration, server: CatalogueServer, stream: FrameStream, stop: StopFlag) {
        self.fleet = fleet
        self.server = server
        self.stream = stream
        self.stop = stop
    }

    /// Checks the token and sends what it is good for.
    ///
    /// - Parameter granted: Called when the token is good.
    func perform(
        version: UInt16,
        token text: String,
        key: PublicKey,
        peer: String,
        granted: (HostRow) -> Void
    )
        throws
    {
        guard version == protocolVersion else {
            return try refuse("\(WireError.version(theirs: version, ours: protocolVersion))", peer)
        }
        guard let token = JoinToken(text), token.purpose == .restore else {
            return try refuse("this is no token for a restore", peer)
        }
        let grant: RestoreGrant
        do {
            let fingerprint = key.fingerprint.text
            let (found, isFirst) = try server.use { catalogue in
                let used = try catalogue.useGrant(token.secret, fingerprint: fingerprint)
                if used.isFirst {
                    let short = used.grant.snapshot.prefix(8)
                    try catalogue.addEvent(
                        .info,
                        kind: "restore",
                        host: used.grant.host.id,
                        "\(peer) with the key \(fingerprint) began to restore snapshot \(short)"
                    )
                }
                return used
            }
            grant = found
            Log.write(
                .notice,
                "\(grant.host.name): \(peer) restores snapshot \(grant.snapshot.prefix(8))\(isFirst ? "" : ", again")"
            )
        } catch let error as CatalogueError {
            return try refuse("\(error)", peer)
        }
        granted(grant.host)
        do { try send(grant) } catch let error as CatalogueError {
            guard case .locked = error else { throw error }
            return try busy("\(error)", peer)
        } catch let error as RepositoryError {
            if case .locked = error { return try busy("\(error)", peer) }
            return try refuse("\(error)", peer)
        } catch let error as RestoreError {
            return try refuse("\(error)", peer)
        } catch let error as PasswordUnreadable {
            return try refuse("\(error)", peer)
        }
        Log.write(.notice, "\(grant.host.name): \(peer) has all of snapshot \(grant.snapshot.prefix(8))")
    }

    private func refuse(_ reason: String, _ peer: String) throws {
        Log.write(.warning, "refused a restore from \(peer): \(reason)")
        try stream.send(CoordinatorMessage.refused(message: reason))
        try stream.flush()
    }

    private func busy(_ reason: String, _ peer: String) throws {
        Log.write(.info, "put off a restore from \(peer): \(reason)")
        try stream.send(CoordinatorMessage.busy(message: reason))
        try stream.flush()
    }

    private func send(_ grant: RestoreGrant) throws {
        let repository = try fleet.openRepository(of: grant.host.name)
        let lease = try HostLease(grant.host, .reading, server: server.address)
        defer { lease.release() }
        let lock = try KeptLock(repository, owner: lease.id)
        defer { lock.release() }
        guard let id = BlobID(hex: grant.snapshot) else {
            throw RepositoryError.invalid("the grant names no snapshot")
        }
        let sender = try SnapshotSender(
            repository,
            repository.loadIndex(),
            host: grant.host.name,
            id: grant.snapshot,
            snapshot: repository.snapshot(id),
            include: grant.includes
        )
        var asked = Time.monotonic()
        do {
            try sender.run(stream) {
                if stop.isSet { throw CaptureError.refused("the coordinator was stopped") }
                guard Time.monotonic() - asked > 1_000_000_000 else { return }
                asked = Time.monotonic()
                try lock.requireHeld()
            }
        } catch let error as WireError { throw error } catch let error as SSHError { throw error } catch {
            // Halfway nothing can be refused any more.
            try stream.send(CoordinatorMessage.abort(message: "\(error)"))
            try stream.flush()
        }
    }
}
