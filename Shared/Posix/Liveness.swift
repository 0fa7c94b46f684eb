import CLinux
import Glibc

/// How soon a TCP connection whose other machine went away is given up.
///
/// TCP_USER_TIMEOUT is not used: it also ends a connection whose other machine lives but takes nothing, as a busy session
/// does while it waits for its disk.
package struct Liveness: Sendable {
    /// Seconds of silence before the first keep-alive probe, and between probes, while nothing is under way.
    package var idle: Int32
    package var interval: Int32
    package var probes: Int32
    /// Seconds that the other machine may leave data or a probe without an answer.
    package var silence: Double

    package init(idle: Int32, interval: Int32, probes: Int32, silence: Double) {
        self.idle = idle
        self.interval = interval
        self.probes = probes
        self.silence = silence
    }

    /// A dead machine is noticed within 60 s, whether the connection is idle or busy.
    package static let standard = Liveness(idle: 15, interval: 10, probes: 3, silence: 40)

    /// Sets keep-alive and TCP_NODELAY on a connected socket.
    package func apply(to socket: Int32) throws(SystemCallError) {
        if clinux_tcp_liveness(socket, idle, interval, probes, 0) != 0 {
            throw SystemCallError("setsockopt", errno: errno)
        }
    }
}

/// Watches a TCP connection while something is under way, when the kernel sends no keep-alive probes and would
/// go on for a quarter of an hour.
package struct SilenceWatch {
    private let limit: Double
    private var since: Int64?

    package init(_ liveness: Liveness) { limit = liveness.silence }

    /// Seconds between looks.
    package var step: Double { limit / 8 }

    /// Looks at the connection; call it about every `step`.
    ///
    /// - Returns: Whether the other machine has left us without an answer for too long.
    package mutating func isDead(_ socket: Int32) -> Bool {
        let now = Time.monotonic()
        var waits: Int32 = 0
        var milliseconds: UInt32 = 0
        guard clinux_tcp_silence(socket, &waits, &milliseconds) == 0, waits != 0,
            Double(milliseconds) / 1000 > step
        else {
            since = nil
            return false
        }
        guard let since else {
            self.since = now
            return false
        }
        return Double(now - since) / 1e9 >= limit
    }

    /// Whether an answer of the other machine is outstanding.
    package func isWaiting(_ socket: Int32) -> Bool {
        var waits: Int32 = 0
        var milliseconds: UInt32 = 0
        return clinux_tcp_silence(socket, &waits, &milliseconds) == 0 && waits != 0
    }
}
