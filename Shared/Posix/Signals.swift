import Glibc

/// Signals as a call on a thread of its own.
package enum Signals {
    /// From now on `signals` do nothing but call `body` with their number, on one thread. Call it on the main
    /// thread before any other is started: the block is inherited by threads, not by `ChildProcess`.
    package static func watch(
        _ signals: [Int32],
        _ body: @escaping @Sendable (Int32) -> Void
    ) throws(SystemCallError) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        let watched = set
        let thread = try Thread("signals") {
            var set = watched
            while true {
                var number: Int32 = 0
                if sigwait(&set, &number) == 0 { body(number) }
            }
        }
        thread.detach()
    }

    /// Ignores `signal`. Processes that hold a restic lock ignore SIGHUP, because a stock restic on the same
    /// machine sends it to see whether they live.
    package static func ignore(_ signal: Int32) { _ = Glibc.signal(signal, SIG_IGN) }
}
