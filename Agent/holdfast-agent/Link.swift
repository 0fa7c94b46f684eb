import Arguments
import Capture
import Configuration
import Posix
import SSH
import Wire

/// A connection to a coordinator, greeted.
struct Link {
    let coordinator: AgentFile.Coordinator
    let channel: SSHChannel
    let conversation: Conversation
    /// This host's name there.
    let host: String

    init(
        _ coordinator: AgentFile.Coordinator,
        _ file: AgentFile,
        folder: String,
        stop: StopFlag,
        connected: (Breaker) -> Void = { _ in },
        show: @escaping (Progress) -> Void = { _ in }
    ) throws {
        self.coordinator = coordinator
        channel = try SSHClient.connect(
            host: coordinator.address.host,
            port: coordinator.address.port,
            expectedHostKey: coordinator.hostKey,
            key: try KeyPair.load(AgentFile.keyPath(folder))
        )
        connected(channel.breaker)
        conversation = Conversation(
            FrameStream(channel),
            settings: file.settings,
            stop: stop,
            show: show,
            learn: { places in
                do { try AgentFile.learn(places, from: coordinator, folder: folder) } catch {
                    Log.write(.warning, "the other coordinators could not be written down: \(error)")
                }
            }
        )
        host = try conversation.greet(program: "holdfast-agent \(version)")
    }

    /// Goes from one coordinator to the next until one greets.
    ///
    /// - Parameter last: The one that is tried first: it greeted last.
    /// - Throws: When none does, why; of several coordinators each says it.
    static func open(
        _ folder: String,
        after last: AgentFile.Coordinator? = nil,
        stop: StopFlag,
        connected: (Breaker) -> Void = { _ in },
        show: @escaping (Progress) -> Void = { _ in }
    ) throws -> Link {
        let file = try AgentFile.load(folder)
        let first = file.coordinators.filter { $0 == last }
        var reasons: [String] = []
        for coordinator in first + file.coordinators.filter({ $0 != last }) {
            do {
                return try Link(
                    coordinator,
                    file,
                    folder: folder,
                    stop: stop,
                    connected: connected,
                    show: show
                )
            } catch {
                guard file.coordinators.count > 1, !stop.isSet else { throw error }
                if case SSHError.keyFile = error { throw error }
                reasons.append("\(error)")
            }
        }
        throw CommandFailure(
            .unreachable,
            "none of the \(reasons.count) coordinators can be reached: \(reasons.joined(separator: "; "))"
        )
    }
}
