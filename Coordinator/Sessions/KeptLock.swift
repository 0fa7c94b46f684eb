import Glibc
import Posix
package import Repository
import Synchronization

/// A restic lock on a repository, kept fresh by a thread of its own as long as it is held: work goes on for hours
/// without a moment at which it could do that itself.
package final class KeptLock {
    /// What the thread works on. Only who is inside `turn` touches the lock, until the thread was joined.
    private final class State: @unchecked Sendable {
        let lock: RepositoryLock
        let turn = Mutex(())
        let failure = Mutex<String?>(nil)
        init(_ lock: RepositoryLock) { self.lock = lock }

        func refresh() {
            turn.withLock { _ in
                do { try lock.refreshIfDue() } catch {
                    let reason = "\(error)"
                    failure.withLock { $0 = reason }
                }
            }
        }

        func requireThere() throws { try turn.withLock { _ in try lock.requireThere() } }
    }

    private let state: State
    private var stop: Int32?
    private var thread: Thread?

    /// Writes the lock; nothing may rely on it before `confirm` has returned.
    ///
    /// - Parameters:
    ///   - exclusive: A shared one excludes exclusive ones, an exclusive one all others.
    ///   - owner: The id of the lease that this process holds.
    /// - Throws: `RepositoryError.locked`, `.unreadableLock`.
    package init(_ repository: Repository, exclusive: Bool = false, owner: String) throws {
        state = State(try RepositoryLock(repository, exclusive: exclusive, owner: owner))
    }

    /// Waits out the fifth of a second in which another's lock may have come, and keeps the lock fresh from then on.
    ///
    /// - Throws: `RepositoryError.locked`, `.unreadableLock`.
    package func confirm() throws {
        try state.lock.confirm()
        let (ours, theirs) = try socketPair()
        stop = ours
        let state = self.state
        thread = try Thread("lock") {
            let end = FileDescriptor(owning: theirs)
            while try waitReadable([end.raw], seconds: 20).isEmpty { state.refresh() }
        }
    }

    /// Throws when the lock could not be kept, or somebody has removed it: others may take the repository for free.
    package func requireHeld() throws {
        if let reason = state.failure.withLock({ $0 }) { throw RepositoryError.invalid(reason) }
        try state.requireThere()
    }

    /// Removes the lock. Doing it twice does no harm.
    package func release() {
        // Its end of the pair going is the thread's sign to end.
        if let stop { close(stop) }
        stop = nil
        try? thread.take()?.join()
        state.lock.release()
    }

    deinit { release() }
}
