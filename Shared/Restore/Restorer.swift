import Glibc
import Posix
package import Repository

/// A file that is to be written.
struct FileJob: Sendable {
    let node: Node
    let folder: OpenFolder
    let path: [UInt8]
}

/// Writes a snapshot into a folder.
///
/// Whatever a tree says, nothing outside the target is touched: every step goes one name down from an open
/// directory and never through a symbolic link. A file gets its name when its bytes have been read back from
/// the target and each part's hash is right; nothing that exists is replaced.
package struct Restorer {
    private let repository: Repository
    private let index: BlobIndex
    private let snapshot: Snapshot
    private let selection: Selection
    private let threads: Int

    /// - Parameters:
    ///   - include: Paths in the snapshot as bytes, names joined with `/`: what lies at or below one of them is
    ///     restored. None: everything.
    ///   - threads: That write files at the same time.
    package init(
        _ repository: Repository,
        _ index: BlobIndex,
        snapshot: Snapshot,
        include: [[UInt8]] = [],
        threads: Int = 2
    ) {
        self.repository = repository
        self.index = index
        self.snapshot = snapshot
        self.selection = Selection(include)
        self.threads = max(1, threads)
    }

    /// Restores into `target`, a folder that is missing or empty.
    ///
    /// Damaged and refused entries are in the report and stop nothing else.
    /// - Parameter progress: Called from any thread, at most five times a second and once at the end.
    /// - Throws: `RestoreError`, and `SystemCallError` for a target that cannot be made.
    package func run(
        to target: String,
        progress: @escaping @Sendable (RestoreProgress) -> Void = { _ in }
    ) throws -> RestoreReport {
        // One descriptor for each level of the tree that is being restored.
        Host.raiseDescriptorLimit()
        let reader = try BlobReader(repository, index)
        let plan = try RestorePlan(reader, snapshot.tree, selection)
        let folder = OpenFolder(try TargetFolder.open(target))
        let free = try Files.space(target).free
        if plan.space > free {
            throw RestoreError.notEnoughSpace(path: target, needed: plan.space, free: free)
        }

        let state = RestoreState(plan, progress)
        let queue = WorkQueue<FileJob>(capacity: 128)
        var pass = RestorePass(target: folder, state: state, queue: queue)
        var workers: [Worker] = []
        do {
            for _ in 0..<threads { workers.append(try startWorker(queue, state)) }
            try pass.run(SelectedWalk(TreeWalk(reader, from: snapshot.tree), selection))
        } catch {
            queue.close(dropping: true)
            for worker in workers { worker.join() }
            throw error
        }
        queue.close()
        for worker in workers { worker.join() }
        if let reason = state.failure { throw RestoreError.targetFailed(path: target, reason: reason) }
        try pass.finish()
        do throws(SystemCallError) { try Files.syncFileSystem(of: folder.descriptor) } catch {
            throw RestoreError.targetFailed(path: target, reason: "\(error)")
        }
        state.tellEnd()
        return state.report
    }

    private func startWorker(_ queue: WorkQueue<FileJob>, _ state: RestoreState) throws -> Worker {
        let (repository, index) = (repository, index)
        return Worker(
            try Thread("restore") {
                do {
                    let restorer = try FileRestorer(repository, index) { state.advance(files: 0, bytes: $0) }
                    while let job = queue.next() {
                        let (outcome, missed) = try restorer.restore(job.node, in: job.folder)
                        state.missed(missed, job.path)
                        state.finished(job, outcome)
                    }
                } catch {
                    let failure = error as? FileRestorer.TargetFailure
                    state.fail(failure?.reason ?? "\(error)")
                    queue.close(dropping: true)
                }
            }
        )
    }
}

/// A thread that can be kept in an array.
private final class Worker {
    private var thread: Thread?
    init(_ thread: consuming Thread) { self.thread = consume thread }
    func join() {
        // The body hands its errors on itself.
        try? thread.take()?.join()
    }
}
