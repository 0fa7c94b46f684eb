import Posix
import Repository

/// Reads, opens and verifies the blobs of files on threads of its own, ahead of sending them and in the order in which
/// they will be sent. While one waits for the disk, the other opens and hashes.
final class BlobFeed {
    private let shared = Shared()
    private let lanes: [Lane]

    /// Plain bytes that are read ahead; a blob more for each thread may be on its way.
    private static let ahead = 32 << 20

    init(_ repository: Repository, _ index: BlobIndex) throws {
        lanes = try (0..<2).map { _ in Lane(try BlobReader(repository, index, pastCache: true)) }
        for lane in lanes {
            let shared = shared
            lane.thread = try Thread("read blobs") { Self.run(lane, shared) }
        }
    }

    private static func run(_ lane: Lane, _ shared: Shared) {
        while let (id, turn) = shared.nextWish() {
            // Damage, or a pack that this user may not read: the other parts and files are worth having.
            var delivery = Delivery()
            do {
                let bytes = try lane.reader.read(id, .data) { count in
                    shared.giveBack(delivery.buffer)
                    delivery.buffer = shared.room(count)
                    return UnsafeMutableRawBufferPointer(rebasing: delivery.buffer[..<count])
                }
                delivery.count = bytes.count
            } catch { delivery.damage = "\(error)" }
            shared.deliver(delivery, turn)
        }
    }

    deinit {
        shared.end()
        for lane in lanes { try? lane.thread.take()?.join() }
    }

    /// Asks for a blob, after all that were asked for before.
    func wish(_ id: BlobID) { shared.wish(id) }

    /// Waits for the next blob; `body` gets its bytes, or `damaged` the reason why there are none.
    func next(_ body: (UnsafeRawBufferPointer) throws -> Void, damaged: (String) throws -> Void) throws {
        let delivery = shared.take()
        defer { shared.giveBack(delivery.buffer) }
        if let reason = delivery.damage { return try damaged(reason) }
        try body(UnsafeRawBufferPointer(rebasing: delivery.buffer[..<delivery.count]))
    }

    private final class Lane: @unchecked Sendable {
        /// Used by the thread alone.
        let reader: BlobReader
        /// The feed's.
        var thread: Thread?
        init(_ reader: BlobReader) { self.reader = reader }
    }

    fileprivate struct Delivery {
        var buffer = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        var count = 0
        var damage: String?
    }

    private final class Shared: @unchecked Sendable {
        // Guards everything below.
        private let monitor = Monitor()
        private var wishes = Queue<BlobID>()
        /// By turn. Wishes get theirs when they are begun, deliveries are taken in their order.
        private var ready: [Int: Delivery] = [:]
        private var begun = 0
        private var taken = 0
        private var readyBytes = 0
        /// Memory of deliveries that were given back, to be used again: fresh memory costs as much as hashing.
        private var spare: [UnsafeMutableRawBufferPointer] = []
        private var spareBytes = 0
        private var ended = false

        deinit {
            for delivery in ready.values { delivery.buffer.deallocate() }
            for buffer in spare { buffer.deallocate() }
        }

        func wish(_ id: BlobID) {
            monitor.locked {
                wishes.append(id)
                if wishes.count == 1 { monitor.wakeAll() }
            }
        }

        func end() {
            monitor.locked {
                ended = true
                monitor.wakeAll()
            }
        }

        func nextWish() -> (BlobID, turn: Int)? {
            monitor.locked {
                while !ended && (wishes.isEmpty || readyBytes >= BlobFeed.ahead) {
                    monitor.wait()
                }
                guard !ended, let id = wishes.popFirst() else { return nil }
                begun += 1
                return (id, begun - 1)
            }
        }

        func deliver(_ delivery: Delivery, _ turn: Int) {
            monitor.locked {
                ready[turn] = delivery
                readyBytes += delivery.buffer.count
                if turn == taken { monitor.wakeAll() }
            }
        }

        func take() -> Delivery {
            monitor.locked {
                while true {
                    if let delivery = ready.removeValue(forKey: taken) {
                        taken += 1
                        let was = readyBytes
                        readyBytes -= delivery.buffer.count
                        if was >= BlobFeed.ahead && readyBytes < BlobFeed.ahead {
                            monitor.wakeAll()
                        }
                        return delivery
                    }
                    monitor.wait()
                }
            }
        }

        /// The smallest spare piece that is large enough and not far too large, or a new one.
        func room(_ count: Int) -> UnsafeMutableRawBufferPointer {
            let found: UnsafeMutableRawBufferPointer? = monitor.locked {
                let best = spare.indices.filter { spare[$0].count >= count && spare[$0].count / 8 <= count }
                    .min { spare[$0].count < spare[$1].count }
                guard let best else { return nil }
                let buffer = spare.remove(at: best)
                spareBytes -= buffer.count
                return buffer
            }
            return found ?? .allocate(byteCount: max(4096, count), alignment: 16)
        }

        func giveBack(_ buffer: UnsafeMutableRawBufferPointer) {
            let kept = monitor.locked { () -> Bool in
                // Small ones come cheap from the allocator.
                guard buffer.count >= 64 << 10, spareBytes + buffer.count <= BlobFeed.ahead else {
                    return false
                }
                spare.append(buffer)
                spareBytes += buffer.count
                return true
            }
            if !kept { buffer.deallocate() }
        }
    }
}
