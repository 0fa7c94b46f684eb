import Glibc

/// A thread that runs jobs one after the other, in the order in which they were given. Few may wait, so that
/// who gives them goes no faster than they are done. The first job that throws ends it: those behind it are
/// dropped, and its error comes out of the next call.
package final class SerialWorker: Sendable {
    private let state: State

    /// - Parameters:
    ///   - name: Shows in ps(1), at most 15 bytes of it.
    ///   - depth: Jobs that may wait beside the one that runs.
    package init(_ name: String, depth: Int) throws(SystemCallError) {
        let state = State(depth: depth)
        self.state = state
        let thread = try Thread(name) { state.run() }
        thread.detach()
    }
    deinit { state.end() }

    /// Gives a job; blocks while as many wait as may.
    /// - Throws: What an earlier job threw.
    package func submit(_ job: @escaping @Sendable () throws -> Void) throws { try state.submit(job) }

    /// Blocks until every job is done.
    /// - Throws: What a job threw.
    package func drain() throws { try state.drain() }

    /// Drops the jobs that wait and blocks until the one that runs is done; nothing runs after that.
    package func cancel() { state.cancel() }

    private final class State: @unchecked Sendable {
        // Everything below is touched under the mutex only.
        private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        private var jobs: [@Sendable () throws -> Void] = []
        private var running = false
        private var ended = false
        private var error: (any Error)?
        private let depth: Int

        init(depth: Int) {
            self.depth = depth
            pthread_mutex_init(mutex, nil)
            pthread_cond_init(changed, nil)
        }
        deinit {
            pthread_cond_destroy(changed)
            pthread_mutex_destroy(mutex)
            changed.deallocate()
            mutex.deallocate()
        }

        private func locked<R>(_ body: () throws -> R) rethrows -> R {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            return try body()
        }

        func run() {
            while let job = next() {
                var failure: (any Error)?
                do { try job() } catch { failure = error }
                locked {
                    running = false
                    if let failure {
                        error = failure
                        jobs = []
                    }
                    pthread_cond_broadcast(changed)
                }
            }
        }

        private func next() -> (@Sendable () throws -> Void)? {
            locked {
                while jobs.isEmpty {
                    if ended { return nil }
                    pthread_cond_wait(changed, mutex)
                }
                running = true
                let job = jobs.removeFirst()
                pthread_cond_broadcast(changed)
                return job
            }
        }

        func submit(_ job: @escaping @Sendable () throws -> Void) throws {
            try locked {
                while error == nil && jobs.count >= depth { pthread_cond_wait(changed, mutex) }
                if let error { throw error }
                if ended { throw SystemCallError("submit", errno: ECANCELED) }
                jobs.append(job)
                pthread_cond_broadcast(changed)
            }
        }

        func drain() throws {
            try locked {
                while running || !jobs.isEmpty { pthread_cond_wait(changed, mutex) }
                if let error { throw error }
            }
        }

        func cancel() {
            locked {
                jobs = []
                ended = true
                pthread_cond_broadcast(changed)
                while running { pthread_cond_wait(changed, mutex) }
            }
        }

        /// The thread finishes what waits and goes.
        func end() {
            locked {
                ended = true
                pthread_cond_broadcast(changed)
            }
        }
    }
}
