import Arguments
package import Catalogue
package import Fleet
import Health
import Posix
package import Repository

/// Prunes the repository of one host, as a run of its own under the exclusive locks of the catalogue and of restic.
/// Before every step that cannot be taken back the locks are asked for, and nothing is deleted from the moment on at
/// which somebody finds that something is wrong with the host.
package final class PruneJob {
    /// What was done.
    package struct Result {
        package let report: PruneReport
        /// Why not all of it was done: an open finding.
        package let held: String?
        /// It was told to stop, or its run was cancelled, before it was through.
        package let isInterrupted: Bool
    }

    private enum Ended: Error {
        case held(String)
        case stopped
        case cancelled
    }

    private let host: HostRow
    private let fleet: FleetConfiguration
    private let repository: Repository
    private let lease: HostLease
    private let run: RunRow
    private var lock: KeptLock?
    private var figures = RunFigures()
    private var looked: Int64 = 0
    private var noted: Int64 = 0

    /// Takes the host's locks, and the run that waits or a new one.
    ///
    /// - Throws: `CatalogueError.locked` with those who work on the host.
    package init(_ host: HostRow, fleet: FleetConfiguration, server: CatalogueServer) throws {
        self.host = host
        self.fleet = fleet
        repository = try fleet.openRepository(of: host.name)
        (lease, run) = try HostLease.deleting(.prune, host, repository, server)
    }

    /// Does it, and records how it ended.
    ///
    /// - Parameters:
    ///   - stop: Asked at every step.
    ///   - progress: Told where it is, on the thread that works.
    /// - Throws: `RepositoryError.locked` with who uses the repository; `PruneRefused` and what else `Prune.run` throws.
    package func perform(
        stop: @escaping () -> Bool,
        progress: @escaping (PruneProgress) -> Void
    ) throws -> Result {
        defer {
            lock?.release()
            lease.release()
        }
        do {
            try takeRepository()
            return try prune(stop, progress)
        } catch {
            Log.write(.error, "\(host.name): pruning failed: \(error)")
            let end = CaptureEnd(error)
            finish(end.state, "\(error)", error is PruneRefused ? .storage : end.failure)
            if Self.isDamage(error) {
                try? lease.catalogue.openFinding(
                    Self.damageFinding,
                    host: host.id,
                    .critical,
                    "\(error); `holdfast-coordinator check \(host.name) --read-data` names all that is damaged"
                )
            }
            try? lease.catalogue.addEvent(.error, kind: "prune", host: host.id, "pruning failed: \(error)")
            throw error
        }
    }

    private func takeRepository() throws {
        try lease.removeDeadLocks(of: repository)
        let lock = try KeptLock(repository, exclusive: true, owner: lease.id)
        self.lock = lock
        try lock.confirm()
    }

    private func prune(_ stop: @escaping () -> Bool, _ progress: @escaping (PruneProgress) -> Void) throws
        -> Result
    {
        // What is wrong by now, though no round of the watch has found it yet.
        try Watch.look(at: host, lease.catalogue, fleet.policy(of: host.name))
        let prune = Prune(repository, try repository.pruneTerms(of: host, fleet)) { [self] in
            try confirm(stop)
        } progress: { [self] step in
            if stop() { throw Ended.stopped }
            progress(step)
            try note(step)
        } drop: { [self] id in
            // The file goes only while nobody else can have taken the host over.
            try lease.change { _ in
                try repository.dropForgotten(id)
                try removeRows(of: id)
            }
        }
        defer { record(prune.report) }
        var held: String?
        do {
            _ = try prune.run()
            try dropRows()
            figures.bytesStored = prune.report.writtenBytes
            // Everything that is kept was found, and what was rewritten was read.
            try lease.catalogue.closeFinding(
                Self.damageFinding,
                host: host.id,
                why: "it was pruned without any"
            )
            try lease.catalogue.finish(run.id, lease: lease, state: .done, figures: figures)
        } catch Ended.held(let why) {
            held = why
            finish(.incomplete, why, nil)
        } catch Ended.stopped {
            finish(.interrupted, Self.goesOn, .stopped)
            return Result(report: prune.report, held: nil, isInterrupted: true)
        } catch Ended.cancelled {
            finish(.cancelled, Self.goesOn, .cancelled)
            return Result(report: prune.report, held: nil, isInterrupted: true)
        }
        return Result(report: prune.report, held: held, isInterrupted: false)
    }

    /// What a prune came upon and could not go on with.
    private static let damageFinding = "damage"

    private static func isDamage(_ error: any Error) -> Bool {
        switch error {
        case is PruneRefused, RepositoryError.damaged, RepositoryError.damagedBlob: true
        default: false
        }
    }

    private static let goesOn = "it was stopped; everything is in order, and the next one goes on from here"

    /// Rows of forgotten snapshots whose files a prune removed that then was killed.
    private func dropRows() throws {
        for row in try lease.catalogue.forgottenSnapshots(of: host) {
            guard let id = BlobID(hex: row.id),
                !Files.exists(repository.filePath(.forgotten, id)),
                !Files.exists(repository.filePath(.snapshots, id))
            else { continue }
            try lease.change { _ in try removeRows(of: id) }
        }
    }

    private func removeRows(of id: BlobID) throws {
        try lease.catalogue.removeSnapshot(id.hex, host: host.id)
        try lease.catalogue.removeProofs(of: id.hex, host: host.id)
    }

    // MARK: On the way

    private func confirm(_ stop: () -> Bool) throws {
        if stop() { throw Ended.stopped }
        try lease.verifyStillHeld()
        try lock?.requireHeld()
        let now = Time.monotonic()
        guard looked == 0 || now - looked >= 1_000_000_000 else { return }
        looked = now
        let found = try lease.catalogue.freezingFindings(of: host)
        guard found.isEmpty else {
            throw Ended.held(
                "nothing more of \(host.name) is deleted while this is open: "
                    + found.map(\.message).joined(separator: "; ")
            )
        }
    }

    private func note(_ step: PruneProgress) throws {
        switch step.phase {
        case .reading: figures.filesSeen = Int64(clamping: step.done)
        case .rewriting:
            figures.bytesSeen = Int64(clamping: step.done)
            figures.bytesExpected = Int64(clamping: step.total)
        case .deleting, .index: break
        }
        let now = Time.monotonic()
        guard now - noted >= 1_000_000_000 else { return }
        noted = now
        if try lease.catalogue.progress(run.id, lease: lease, phase: step.phase.rawValue, figures: figures) {
            throw Ended.cancelled
        }
        try lock?.requireHeld()
    }

    // MARK: The end

    private func record(_ report: PruneReport) {
        let text =
            "\(Human.bytes(report.deletedBytes)) were freed and \(Human.bytes(report.waitingBytes)) follow; "
            + "\(report.dropped.count) forgotten snapshots are gone"
        Log.write(.notice, "\(host.name): \(text)")
        for damage in report.aside {
            Log.write(
                .warning,
                "\(host.name): a pack was damaged and set aside: \(damage.pack): \(damage.reason)"
            )
        }
        // The repository itself says it too.
        try? lease.catalogue.log(text, run: run.id)
        try? lease.catalogue.addEvent(.info, kind: "pruned", host: host.id, text)
    }

    private func finish(_ state: RunRow.State, _ error: String, _ failure: RunRow.Failure?) {
        // When the catalogue is gone, the next who looks marks the run as interrupted.
        try? lease.catalogue.finish(
            run.id,
            lease: lease,
            state: state,
            figures: figures,
            error: error,
            failure: failure
        )
    }
}

extension Repository {
    /// What an interrupted backup stored is kept for so long after it was cut off: its next run goes on from there.
    /// Later, or when it cannot be read, it costs that run time and nothing else.
    private static let resumable: Int64 = 30 * 86_400_000_000_000

    /// What a prune of this host goes by now.
    package func pruneTerms(of host: HostRow, _ fleet: FleetConfiguration) throws -> Prune.Terms {
        let now = Time.now()
        let (_, total) = try Files.space(path)
        var terms = Prune.Terms(
            now: now,
            grace: fleet.policy(of: host.name).grace,
            reserve: fleet.reserve(ofTotal: total)
        )
        func isFresh(_ name: String) -> Bool {
            guard let file = try? sidePath(name), let status = try? FileStatus(path: file) else {
                return false
            }
            return now - status.mtime < Self.resumable
        }
        if isFresh(Checkpoint.fileName), let record = try? readSealed(Checkpoint.fileName),
            let checkpoint = Checkpoint(record)
        {
            terms.heldTrees = [checkpoint.tree]
            terms.heldBlobs = checkpoint.partials.flatMap(\.content)
        }
        if isFresh(CaptureJournal.fileName) {
            terms.heldBlobs += CaptureJournal.blobs(in: self)
        }
        // As long as a person may want to look at them.
        terms.heldTrees += try treesAside()
        return terms
    }
}
