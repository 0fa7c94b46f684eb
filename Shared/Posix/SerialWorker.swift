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
        private let monitor = Monitor()
        // Everything below is touched inside the monitor only.
        private var jobs: [@Sendable () throws -> Void] = []
        private var running = false
        private var ended = false
        private var error: (any Error)?
        private let depth: Int

        init(depth: Int) { self.depth = depth }

        func run() {
            while let job = next() {
                var failure: (any Error)?
                do { try job() } catch { failure = error }
                monitor.locked {
                    running = false
                    if let failure {
                        error = failure
                        jobs = []
                    }
                    monitor.wakeAll()
                }
            }
        }

        private func next() -> (@Sendable () throws -> Void)? {
            monitor.locked {
                while jobs.isEmpty {
                    if ended { return nil }
                    monitor.wait()
                }
                running = true
                let job = jobs.removeFirst()
                monitor.wakeAll()
                return job
            }
        }

        func submit(_ job: @escaping @Sendable () throws -> Void) throws {
            try monitor.locked {
                while error == nil && jobs.count >= depth { monitor.wait() }
                if let error { throw error }
                if ended { throw SystemCallError("submit", errno: ECANCELED) }
                jobs.append(job)
                monitor.wakeAll()
            }
        }

        func drain() throws {
            try monitor.locked {
                while running || !jobs.isEmpty { monitor.wait() }
                if let error { throw error }
            }
        }

        func cancel() {
            monitor.locked {
                jobs = []
                ended = true
                monitor.wakeAll()
                while running { monitor.wait() }
            }
        }

        /// The thread finishes what waits and goes.
        func end() {
            monitor.locked {
                ended = true
                monitor.wakeAll()
            }
        }
    }
}
