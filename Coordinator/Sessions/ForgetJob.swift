package import Catalogue
package import Fleet
import Health
import Posix
package import Repository
import Retention

/// Forgets what retention lets go of one host, as a run of its own under the exclusive locks of the catalogue and of
/// restic.
///
/// For each snapshot: the record of when, then one transaction on the connection that holds the locks, in which the
/// epoch is compared, the file moved, and the row changed. A process that ends in between leaves a row that does not
/// follow its file yet; whoever takes the host next puts it right (`SnapshotAdoption`).
package final class ForgetJob {
    /// What was done.
    package struct Result {
        package let outlook: RetentionOutlook
        /// In the order in which they went.
        package let forgotten: [BlobID]
        /// When, nanoseconds since 1970-01-01T00:00:00Z.
        package let time: Int64
        /// Why what the policy lets go was not, or not all, forgotten: an open finding.
        package let held: String?
        /// It was told to stop before it was through.
        package let isInterrupted: Bool
    }

    private let host: HostRow
    private let policy: HostPolicy
    private let repository: Repository
    private let lease: HostLease
    private let run: RunRow

    /// Takes the host's locks, and the run that waits or a new one.
    ///
    /// - Throws: `CatalogueError.locked` with those who work on the host.
    package init(_ host: HostRow, fleet: FleetConfiguration, server: CatalogueServer) throws {
        self.host = host
        policy = fleet.policy(of: host.name)
        repository = try fleet.openRepository(of: host.name)
        (lease, run) = try HostLease.deleting(.forget, host, repository, server)
    }

    /// Does it, and records how it ended.
    ///
    /// - Parameters:
    ///   - stop: Asked between two snapshots.
    ///   - progress: Told how many of how many are done.
    /// - Throws: `RepositoryError.locked` with who uses the repository; `damaged` before anything was done.
    package func perform(stop: () -> Bool, progress: (_ done: Int, _ all: Int) -> Void) throws -> Result {
        defer { lease.release() }
        do {
            let result = try forget(stop, progress)
            try lease.catalogue.finish(
                run.id,
                lease: lease,
                state: result.isInterrupted ? .interrupted : result.held == nil ? .done : .incomplete,
                figures: RunFigures(),
                error: result.held ?? (result.isInterrupted ? "it was stopped" : nil),
                failure: result.isInterrupted ? .stopped : nil
            )
            return result
        } catch {
            Log.write(.error, "\(host.name): forgetting failed: \(error)")
            let end = CaptureEnd(error)
            // When the catalogue is gone, the next who looks marks the run as interrupted.
            try? lease.catalogue.finish(
                run.id,
                lease: lease,
                state: end.state,
                figures: RunFigures(),
                error: "\(error)",
                failure: end.failure
            )
            throw error
        }
    }

    private func forget(_ stop: () -> Bool, _ progress: (Int, Int) -> Void) throws -> Result {
        try lease.removeDeadLocks(of: repository)
        let lock = try RepositoryLock(repository, exclusive: true, owner: lease.id)
        defer { lock.release() }
        try lock.confirm()
        try repository.syncNames()
        try SnapshotAdoption(repository, lease).run { try repository.loadIndex() }

        let now = Time.now()
        // What is wrong by now, though no round of the watch has found it yet.
        try Watch.look(at: host, lease.catalogue, policy, now: now)
        let outlook = try RetentionOutlook(host, policy, lease.catalogue, repository, now: now)
        let going = outlook.plan.going
        var done: [BlobID] = []
        var held = outlook.heldBack
        var isInterrupted = false
        defer { record(done) }
        // The oldest first: whatever ends this, the newer ones are there.
        for candidate in going.reversed() {
            isInterrupted = stop()
            if isInterrupted { break }
            try lock.refreshIfDue()
            // Nothing goes from the moment on at which somebody finds that something is wrong.
            let found = try lease.catalogue.freezingFindings(of: host)
            guard found.isEmpty else {
                held = RetentionOutlook.heldBack(going.count - done.count, found)
                break
            }
            try lease.change { _ in
                try repository.forget(candidate.id, at: now)
                try lease.catalogue.setForgotten(candidate.id.hex, host: host.id, at: now)
            }
            done.append(candidate.id)
            progress(done.count, going.count)
        }
        return Result(
            outlook: outlook,
            forgotten: done,
            time: now,
            held: held,
            isInterrupted: isInterrupted
        )
    }

    private func record(_ done: [BlobID]) {
        guard !done.isEmpty else { return }
        let ids = done.prefix(20).map(\.short).joined(separator: ", ")
        let text = "\(done.count) snapshots were forgotten: \(ids)\(done.count > 20 ? " and more" : "")"
        Log.write(.notice, "\(host.name): \(text)")
        // The files themselves say it too.
        try? lease.catalogue.log(text, run: run.id)
        try? lease.catalogue.addEvent(.info, kind: "forgotten", host: host.id, text)
    }
}
