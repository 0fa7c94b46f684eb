import Posix
import Wire

extension FrameStream {
    /// Sends what waits and hears the agent's clock, which is its answer to `welcome` and `capture` (protocol.md).
    ///
    /// - Returns: By how much at least that clock is ahead of this machine's, nanoseconds; negative when it is behind.
    func agentClockSkew() throws -> Int64 {
        let before = Time.now()
        try flush()
        let message = try receive { try AgentMessage(type: $0, body: $1) }
        let after = Time.now()
        guard case .clock(let time) = message else {
            throw WireError.unexpected(type: message.type, state: "the agent's clock is due")
        }
        if time > after { return time - after }
        guard time < before else { return 0 }
        let (difference, isTooFar) = time.subtractingReportingOverflow(before)
        return isTooFar ? .min : difference
    }
}
