import Posix
import Repository

/// Reads, opens and verifies the blobs of files on a thread of its own, in the order in which they will be sent and ahead
/// of it, so that reading and sending overlap.
final class BlobFeed {
    private let shared = Shared()
    private var thread: Thread?

    /// Plain bytes that are read ahead; one blob more may be on its way.
    private static let ahead = 32 << 20

    init(_ repository: Repository, _ index: BlobIndex) throws {
        let lane = Lane(reader: try BlobReader(repository, index))
        let shared = shared
        thread = try Thread("read blobs") {
            while let id = shared.nextWish() {
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
                shared.deliver(delivery)
            }
        }
    }

    deinit {
        shared.end()
        try? thread.take()?.join()
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

    /// The thread's own reader.
    private struct Lane: @unchecked Sendable {
        let reader: BlobReader
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
        private var ready = Queue<Delivery>()
        private var readyBytes = 0
        /// Memory of deliveries that were given back, to be used again: fresh memory costs as much as hashing.
        private var spare: [UnsafeMutableRawBufferPointer] = []
        private var spareBytes = 0
        private var ended = false

        deinit {
            while let delivery = ready.popFirst() { delivery.buffer.deallocate() }
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

        func nextWish() -> BlobID? {
            monitor.locked {
                while !ended && (wishes.isEmpty || readyBytes >= BlobFeed.ahead) {
                    monitor.wait()
                }
                return ended ? nil : wishes.popFirst()
            }
        }

        func deliver(_ delivery: Delivery) {
            monitor.locked {
                ready.append(delivery)
                readyBytes += delivery.buffer.count
                if ready.count == 1 { monitor.wakeAll() }
            }
        }

        func take() -> Delivery {
            monitor.locked {
                while true {
                    if let delivery = ready.popFirst() {
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
