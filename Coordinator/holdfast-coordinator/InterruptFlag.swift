import Glibc
import Posix
import Synchronization

/// Becomes set on Ctrl-C or SIGTERM, so that a command can end in order.
final class InterruptFlag: Sendable {
    private let value = Atomic(false)

    init() throws {
        try Signals.watch([SIGINT, SIGTERM]) { [self] _ in value.store(true, ordering: .relaxed) }
    }

    var isSet: Bool { value.load(ordering: .relaxed) }
}
