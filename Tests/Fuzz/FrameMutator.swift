import TestSupport
import Wire

/// A frame before it is bytes.
struct Frame {
    var type: UInt8
    var body: [UInt8]

    init(_ message: AgentMessage) {
        var writer = ByteWriter()
        message.encode(to: &writer)
        self.init(message.type, writer.bytes)
    }

    init(_ message: CoordinatorMessage) {
        var writer = ByteWriter()
        message.encode(to: &writer)
        self.init(message.type, writer.bytes)
    }

    init(_ type: UInt8, _ body: [UInt8]) {
        self.type = type
        self.body = body
    }

    func bytes(length: UInt32? = nil) -> [UInt8] {
        withUnsafeBytes(of: (length ?? UInt32(body.count)).littleEndian) { Array($0) } + [type] + body
    }
}

/// Turns the frames of a valid conversation into the bytes of one that is not.
struct FrameMutator {
    /// One frame in so many is changed; 0: none.
    let rate: Int
    /// Kept back, to come after the next.
    private var held: Frame?
    private var earlier: [Frame] = []
    /// The stream ends here.
    private(set) var isClosed = false
    private(set) var changed = 0

    init(rate: Int) { self.rate = rate }

    mutating func bytes(_ frame: Frame, _ random: inout SplitMix) -> [UInt8] {
        var result: [UInt8] = []
        if rate != 0 && random.once(in: rate) {
            changed += 1
            result = change(frame, &random)
        } else {
            result = frame.bytes()
        }
        if let late = held, !random.once(in: 2) {
            held = nil
            result += late.bytes()
        }
        if earlier.count < 16 { earlier.append(frame) } else { earlier[random.below(16)] = frame }
        return result
    }

    private mutating func change(_ frame: Frame, _ random: inout SplitMix) -> [UInt8] {
        var frame = frame
        switch random.below(16) {
        case 0...4:
            random.mutate(&frame.body)
            return frame.bytes()
        case 5:
            frame.type = UInt8(random.below(256))
            return frame.bytes()
        case 6:
            frame.type = UInt8(1 + random.below(17))
            return frame.bytes()
        case 7: return frame.bytes() + frame.bytes()
        case 8: return []
        case 9:
            held = frame
            return []
        case 10:
            // A length that is not the body's.
            let length: UInt32 = random.pick([
                0, 1, 1 << 20, (1 << 20) + 1, 1 << 24, .max, UInt32(frame.body.count + 1),
            ])
            return frame.bytes(length: length)
        case 11: return Frame(UInt8(1 + random.below(17)), random.bytes(random.below(200))).bytes()
        case 12: return frame.bytes() + random.bytes(1 + random.below(64))
        case 13:
            guard let other = earlier.randomElement(using: &random) else { return frame.bytes() }
            return frame.bytes() + other.bytes()
        case 14:
            frame.body = earlier.randomElement(using: &random)?.body ?? []
            return frame.bytes()
        default:
            isClosed = true
            return Array(frame.bytes().prefix(random.below(frame.body.count + 5)))
        }
    }
}

/// What the other side is given to read, and what it said: the bytes of a channel without a thread.
final class Script: ByteChannel {
    private var incoming: [UInt8] = []
    private var start = 0
    private var said: [UInt8] = []
    private let more: () -> [UInt8]?
    private let hear: (Frame) -> Void
    private var random: SplitMix

    /// - Parameters:
    ///   - more: The next bytes to read, when they are needed; nil at the end.
    ///   - hear: Gets every frame that was written.
    init(seed: UInt64, more: @escaping () -> [UInt8]?, hear: @escaping (Frame) -> Void) {
        random = SplitMix(seed)
        self.more = more
        self.hear = hear
    }

    private var left: Int { incoming.count - start }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while left == 0 {
            guard let next = more() else { return 0 }
            incoming = next
            start = 0
        }
        // Mostly whole, at times in pieces, as a network has it.
        let most = random.once(in: 20) ? 1 + random.below(7) : left
        let count = min(most, left, buffer.count)
        buffer.copyBytes(from: incoming[start..<start + count])
        start += count
        return count
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        said.append(contentsOf: bytes)
        var place = 0
        while said.count - place >= 5 {
            let length = said[place..<place + 4].reversed().reduce(0) { $0 << 8 | Int($1) }
            guard said.count - place >= 5 + length else { break }
            hear(Frame(said[place + 4], Array(said[place + 5..<place + 5 + length])))
            place += 5 + length
        }
        said.removeFirst(place)
    }

    func inputWaits() throws -> Bool { left > 0 }
}
