import TestSupport
import Testing
import Wire

/// A channel in memory: what is written is kept, what is read comes from `input` in pieces of given sizes.
private final class Memory: ByteChannel {
    var input: [UInt8] = []
    var position = 0
    var written: [UInt8] = []
    var writes: [Int] = []
    var piece: (Int) -> Int

    init(_ piece: @escaping (Int) -> Int = { $0 }) { self.piece = piece }

    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        let count = min(max(1, piece(buffer.count)), buffer.count, input.count - position)
        input.withUnsafeBytes {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[position..<position + count]))
        }
        position += count
        return count
    }

    func write(_ bytes: UnsafeRawBufferPointer) {
        written.append(contentsOf: bytes)
        writes.append(bytes.count)
    }

    func inputWaits() -> Bool { position < input.count }
}

@Suite("Frames")
struct FrameStreamTests {
    private func frame(_ type: UInt8, _ body: [UInt8]) -> [UInt8] {
        withUnsafeBytes(of: UInt32(body.count).littleEndian) { Array($0) } + [type] + body
    }

    private func receive(_ stream: FrameStream) throws -> (UInt8, [UInt8]) {
        try stream.receive { ($0, Array($1)) }
    }

    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 64, 1000, 4096, 65_537, 1 << 20, 1 << 24])
    func `arrive whole whatever the size of the reads`(piece: Int) throws {
        var random = SplitMix(UInt64(piece))
        let memory = Memory { _ in piece }
        var frames: [(UInt8, [UInt8])] = []
        let most = piece < 64 ? 300 : 200_000
        for _ in 0..<40 {
            let body = [UInt8](
                repeating: UInt8(truncatingIfNeeded: random.next()),
                count: Int.random(in: 0...most, using: &random)
            )
            frames.append((UInt8(truncatingIfNeeded: random.next()), body))
        }
        if piece >= 64 { frames.append((6, [UInt8](repeating: 9, count: WireLimit.body))) }
        frames.append((6, []))
        for (type, body) in frames { memory.input += frame(type, body) }
        let stream = FrameStream(memory)
        for (type, body) in frames {
            let got = try receive(stream)
            #expect(got.0 == type)
            #expect(got.1 == body)
        }
        #expect(!stream.hasFrame)
        #expect(throws: WireError.closed) { try receive(stream) }
    }

    @Test func `that are cut are the connection's end`() throws {
        let whole = frame(14, [1, 2, 3])
        for end in whole.indices {
            let memory = Memory()
            memory.input = Array(whole[..<end])
            #expect(throws: WireError.closed) { try receive(FrameStream(memory)) }
        }
    }

    @Test func `over the limit are refused before they are read, and not sent`() throws {
        let memory = Memory()
        memory.input = [1, 0, 0x10, 0, 6] + [UInt8](repeating: 0, count: 100)
        #expect(throws: WireError.oversize(type: 6, length: WireLimit.body + 1)) {
            try receive(FrameStream(memory))
        }
        memory.input = [0xFF, 0xFF, 0xFF, 0xFF, 6]
        memory.position = 0
        #expect(throws: WireError.oversize(type: 6, length: 0xFFFF_FFFF)) { try receive(FrameStream(memory)) }

        let stream = FrameStream(memory)
        var entry = Entry(kind: .file, name: [0x61])
        entry.attributes = [.init(name: [0x62], value: [UInt8](repeating: 0, count: WireLimit.body))]
        #expect(throws: WireError.self) { try stream.send(AgentMessage.list(entries: [entry], last: true)) }
        try stream.flush()
        #expect(memory.written.isEmpty)
    }

    @Test func `are gathered until a flush, a full buffer, or a wait`() throws {
        let memory = Memory()
        let stream = FrameStream(memory)
        try stream.send(AgentMessage.wait)
        try stream.send(AgentMessage.request(.full))
        #expect(memory.written.isEmpty)
        try stream.flush()
        #expect(memory.written == [0, 0, 0, 0, 3, 1, 0, 0, 0, 4, 0])
        try stream.flush()
        #expect(memory.writes == [11])
        // Waiting for an answer sends the question.
        memory.input = frame(70, [0, 0])
        try stream.send(AgentMessage.commit)
        #expect(try stream.receiveFromCoordinator() == .committed(snapshot: ""))
        #expect(memory.writes == [11, 5])
        // Large bodies leave with their headers, in one piece.
        let body = [UInt8](repeating: 7, count: 256 << 10)
        for _ in 0..<4 { try body.withUnsafeBytes { try stream.send(type: 6, body: $0) } }
        #expect(memory.writes.suffix(4).allSatisfy { $0 == body.count + 5 })
    }

    @Test func `are told to be there only when whole`() throws {
        let memory = Memory { _ in 3 }
        let stream = FrameStream(memory)
        #expect(try !stream.frameWaits())
        memory.input = frame(3, []) + frame(4, [])
        #expect(try stream.frameWaits())
        #expect(try receive(stream).0 == 3)
        #expect(!stream.hasFrame)
        #expect(try receive(stream).0 == 4)
        #expect(try !stream.frameWaits())
    }

    @Test(arguments: 0..<20) func `of any kind go through a pair of streams`(seed: Int) throws {
        var random = SplitMix(UInt64(seed))
        let out = Memory()
        let sender = FrameStream(out)
        var sent: [AgentMessage] = []
        for _ in 0..<30 {
            for message in random.agentMessages() {
                try sender.send(message)
                sent.append(message)
            }
        }
        try sender.flush()
        var sizes = SplitMix(UInt64(seed) + 1000)
        let into = Memory { _ in Int.random(in: 1...5000, using: &sizes) }
        into.input = out.written
        let receiver = FrameStream(into)
        for message in sent {
            #expect(try receiver.receive { try AgentMessage(type: $0, body: $1) } == message)
        }
    }
}
