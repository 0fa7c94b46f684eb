import Posix
import Wire

/// Two ends of a connection inside this process: the restore on the NAS itself takes the same road as one over SSH.
final class LocalChannel: ByteChannel, @unchecked Sendable {
    private let incoming: Pipe
    private let outgoing: Pipe

    private init(_ incoming: Pipe, _ outgoing: Pipe) {
        self.incoming = incoming
        self.outgoing = outgoing
    }

    static func pair() -> (LocalChannel, LocalChannel) {
        let (one, two) = (Pipe(), Pipe())
        return (LocalChannel(one, two), LocalChannel(two, one))
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int { incoming.read(into: buffer) }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        if !outgoing.write(bytes) { throw WireError.closed }
    }

    func inputWaits() -> Bool { incoming.hasInput }

    /// Ends both directions; what is under way can still be read.
    func close() {
        incoming.close()
        outgoing.close()
    }

    /// Bytes in one direction. Both ends may be used at the same time, each by one thread.
    private final class Pipe: @unchecked Sendable {
        // Guards everything below; the bytes between the marks are guarded by their order.
        private let monitor = Monitor()
        private let ring = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        private var written = 0
        private var taken = 0
        private var closed = false

        deinit { ring.deallocate() }

        var hasInput: Bool { monitor.locked { written > taken || closed } }

        func close() {
            monitor.locked {
                closed = true
                monitor.wakeAll()
            }
        }

        /// 0 at the end.
        func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
            let (start, count) = monitor.locked {
                while written == taken && !closed { monitor.wait() }
                return (
                    taken % ring.count, min(written - taken, buffer.count, ring.count - taken % ring.count)
                )
            }
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: ring[start..<start + count]))
            monitor.locked {
                taken += count
                monitor.wakeAll()
            }
            return count
        }

        /// False when the other end is closed.
        func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
            var done = 0
            while done < bytes.count {
                let (start, count) = monitor.locked {
                    while written - taken == ring.count && !closed { monitor.wait() }
                    let room = min(ring.count - (written - taken), ring.count - written % ring.count)
                    return (written % ring.count, closed ? 0 : min(bytes.count - done, room))
                }
                if count == 0 { return false }
                UnsafeMutableRawBufferPointer(rebasing: ring[start..<start + count]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[done..<done + count])
                )
                monitor.locked {
                    written += count
                    monitor.wakeAll()
                }
                done += count
            }
            return true
        }
    }
}
