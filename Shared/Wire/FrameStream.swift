/// Bytes in both directions: an SSH channel, or a pair of buffers in a test. Calls block.
package protocol ByteChannel: AnyObject {
    /// Reads at least one byte; 0 at the end of the connection.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int
    /// Writes all bytes.
    func write(_ bytes: UnsafeRawBufferPointer) throws
    /// Whether `read` would return at once (bytes, the end or an error wait); never blocks.
    func inputWaits() throws -> Bool
}

/// Frames over a channel (protocol.md). Small frames are gathered and leave together when the buffer is full, at
/// `flush`, and before `receive` would block. For one thread at a time.
package final class FrameStream {
    private let channel: any ByteChannel
    private let incoming: UnsafeMutableRawBufferPointer
    private var start = 0
    private var end = 0
    private let outgoing: UnsafeMutableRawBufferPointer
    private var filled = 0
    private var writer = ByteWriter()

    private static let header = 5
    /// Bytes after which frames are not kept back any longer.
    private static let gathered = 256 << 10

    package init(_ channel: any ByteChannel) {
        self.channel = channel
        incoming = .allocate(byteCount: WireLimit.body + Self.header, alignment: 16)
        outgoing = .allocate(byteCount: Self.gathered + WireLimit.body + Self.header, alignment: 16)
    }

    deinit {
        incoming.deallocate()
        outgoing.deallocate()
    }

    package func send(_ message: AgentMessage) throws {
        try send(type: message.type) { message.encode(to: &$0) }
    }

    package func send(_ message: CoordinatorMessage) throws {
        try send(type: message.type) { message.encode(to: &$0) }
    }

    /// Sends a frame whose body is what `encode` writes.
    func send(type: UInt8, encode: (inout ByteWriter) -> Void) throws {
        writer.removeAll()
        encode(&writer)
        try writer.bytes.withUnsafeBytes { try send(type: type, body: $0) }
    }

    /// Sends a frame whose body is `body`. A frame always leaves whole and with its header, so that a large one is
    /// not split into a tiny and a large packet below.
    ///
    /// - Throws: `WireError.oversize` over `WireLimit.body` bytes, when nothing is sent; the channel's errors.
    package func send(type: UInt8, body: UnsafeRawBufferPointer) throws {
        guard body.count <= WireLimit.body else { throw WireError.oversize(type: type, length: body.count) }
        if filled + Self.header + body.count > outgoing.count { try flush() }
        UnsafeMutableRawBufferPointer(rebasing: outgoing[(filled + Self.header)...]).copyMemory(from: body)
        try close(type, body.count)
    }

    /// Sends a frame whose body `fill` puts in place, up to `count` bytes of it, without a copy between; none when it
    /// has none.
    ///
    /// - Parameter count: At most `WireLimit.body`.
    /// - Returns: The bytes of the body.
    package func send(
        type: UInt8,
        upTo count: Int,
        _ fill: (UnsafeMutableRawBufferPointer) throws -> Int
    ) throws -> Int {
        guard count <= WireLimit.body else { throw WireError.oversize(type: type, length: count) }
        if filled + Self.header + count > outgoing.count { try flush() }
        let place = filled + Self.header
        let size = try fill(UnsafeMutableRawBufferPointer(rebasing: outgoing[place..<place + count]))
        if size > 0 { try close(type, size) }
        return size
    }

    /// Gives the body of `size` bytes that lies behind what is gathered its header.
    private func close(_ type: UInt8, _ size: Int) throws {
        outgoing.storeBytes(of: UInt32(size).littleEndian, toByteOffset: filled, as: UInt32.self)
        outgoing[filled + 4] = type
        filled += Self.header + size
        if filled >= Self.gathered { try flush() }
    }

    package func flush() throws {
        guard filled > 0 else { return }
        let ready = UnsafeRawBufferPointer(rebasing: outgoing[..<filled])
        filled = 0
        try channel.write(ready)
    }

    /// Whether a whole frame has been read already, so that `receive` will not block.
    package var hasFrame: Bool {
        guard end - start >= Self.header else { return false }
        return end - start >= Self.header + length()
    }

    /// Whether a frame has begun to arrive, so that `receive` will not block for long. Lets a side that sends much
    /// hear an `abort` between two frames.
    package func frameWaits() throws -> Bool {
        if hasFrame { return true }
        return try channel.inputWaits()
    }

    private func length() -> Int {
        Int(UInt32(littleEndian: incoming.loadUnaligned(fromByteOffset: start, as: UInt32.self)))
    }

    /// Waits for the next frame and hands its type and body to `body`; the bytes are valid only there.
    ///
    /// - Throws: `WireError.closed`, `.oversize`, the channel's errors, and those of `body`.
    package func receive<R>(_ body: (UInt8, UnsafeRawBufferPointer) throws -> R) throws -> R {
        if !hasFrame { try flush() }
        try fill(Self.header)
        let length = self.length()
        let type = incoming[start + 4]
        guard length <= WireLimit.body else { throw WireError.oversize(type: type, length: length) }
        try fill(Self.header + length)
        let first = start + Self.header
        start = first + length
        return try body(type, UnsafeRawBufferPointer(rebasing: incoming[first..<first + length]))
    }

    package func receiveFromCoordinator() throws -> CoordinatorMessage {
        try receive { try CoordinatorMessage(type: $0, body: $1) }
    }

    /// Reads until at least `count` bytes lie between `start` and `end`.
    private func fill(_ count: Int) throws {
        if start == end {
            start = 0
            end = 0
        }
        if start + count > incoming.count {
            incoming.copyMemory(from: UnsafeRawBufferPointer(rebasing: incoming[start..<end]))
            end -= start
            start = 0
        }
        while end - start < count {
            let got = try channel.read(into: UnsafeMutableRawBufferPointer(rebasing: incoming[end...]))
            if got == 0 { throw WireError.closed }
            end += got
        }
    }
}
