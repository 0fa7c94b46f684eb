import Posix
import SSH
import Synchronization

/// Ends the connection of an agent that holds its host's lock and says nothing whole for half an hour: one that
/// trickles bytes would otherwise hold it for ever.
final class Patience: Sendable {
    static let seconds = 1800.0

    private let last = Atomic(Time.monotonic())
    private let ended = StopFlag()
    /// Whether it ended the connection.
    let isOver = StopFlag()

    init(_ breaker: Breaker) throws {
        // Looked at now and then, so that a job that never began ends it too.
        let thread = try Thread("patience") { [weak self] in
            while let patience = self, !patience.ended.isSet {
                if patience.isExhausted {
                    patience.isOver.set()
                    return breaker.breakOff()
                }
                Time.sleep(seconds: 5)
            }
        }
        thread.detach()
    }

    private var isExhausted: Bool {
        Double(Time.monotonic() - last.load(ordering: .relaxed)) / 1e9 >= Self.seconds
    }

    /// A whole frame came.
    func heard() { last.store(Time.monotonic(), ordering: .relaxed) }
    func end() { ended.set() }
}
