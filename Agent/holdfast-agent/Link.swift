import Capture
import Configuration
import Posix
import SSH
import Wire

/// A connection to the coordinator, greeted.
struct Link {
    let channel: SSHChannel
    let conversation: Conversation
    /// This host's name there.
    let host: String

    init(
        _ file: AgentFile,
        folder: String,
        stop: StopFlag,
        connected: (Breaker) -> Void = { _ in },
        show: @escaping (Progress) -> Void = { _ in }
    ) throws {
        channel = try SSHClient.connect(
            host: file.coordinator.host,
            port: file.coordinator.port,
            expectedHostKey: file.hostKey,
            key: try KeyPair.load(AgentFile.keyPath(folder))
        )
        connected(channel.breaker)
        conversation = Conversation(FrameStream(channel), settings: file.settings, stop: stop, show: show)
        host = try conversation.greet(program: "holdfast-agent \(version)")
    }
}
