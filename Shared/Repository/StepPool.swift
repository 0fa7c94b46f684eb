import Posix
import Synchronization

/// Memory for the steps of packs, used again: new memory costs as much as what is done with it.
final class StepPool: Sendable {
    private let free = Mutex<[Pages]>([])

    /// Bytes of a buffer that is kept, of which only those take memory that were used; larger blobs are rare.
    private static let capacity = 4 << 20

    /// As many as can be under way: one in each open pack, two that wait and one that is written.
    private static let most = 5

    func take(atLeast count: Int) throws(SystemCallError) -> Pages {
        if count <= Self.capacity, let kept = free.withLock({ $0.popLast() }) { return kept }
        return try Pages(max(count, Self.capacity))
    }

    func giveBack(_ buffer: Pages) {
        guard buffer.memory.count == Self.capacity else { return }
        free.withLock { if $0.count < Self.most { $0.append(buffer) } }
    }
}
