import Posix

/// A SHA-256: of a blob's plaintext for blobs, of the bytes on disk for files (packs, index, snapshots,
/// keys, locks). Four big-endian words, so that order is the order of the bytes.
package struct BlobID: Hashable, Comparable, Sendable {
    private let a: UInt64
    private let b: UInt64
    private let c: UInt64
    private let d: UInt64

    package static let byteCount = 32

    /// - Parameter bytes: At least 32 bytes; the first 32 are taken.
    init(raw bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= Self.byteCount)
        a = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        b = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        c = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
        d = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
    }

    /// nil unless there are exactly 32 bytes.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self = Array(bytes).withUnsafeBytes { BlobID(raw: $0) }
    }

    /// nil unless `hex` is exactly 64 hexadecimal digits, of either case.
    package init?(hex text: some StringProtocol) {
        guard text.utf8.count == 64, let bytes = Posix.bytes(hex: text) else { return nil }
        self.init(bytes: bytes)
    }

    /// The 64 ASCII digits at `digits`; nil when one of them is no hexadecimal digit.
    init?(digits: UnsafeRawBufferPointer) {
        guard digits.count == 64 else { return nil }
        func word(_ start: Int) -> UInt64? {
            var value: UInt64 = 0
            for index in start..<start + 16 {
                let digit = digits[index]
                let nibble: UInt8
                switch digit {
                case 0x30...0x39: nibble = digit &- 0x30
                case 0x61...0x66: nibble = digit &- 0x61 &+ 10
                case 0x41...0x46: nibble = digit &- 0x41 &+ 10
                default: return nil
                }
                value = value << 4 | UInt64(nibble)
            }
            return value
        }
        guard let a = word(0), let b = word(16), let c = word(32), let d = word(48) else { return nil }
        self.a = a
        self.b = b
        self.c = c
        self.d = d
    }

    package static func < (left: BlobID, right: BlobID) -> Bool {
        (left.a, left.b, left.c, left.d) < (right.a, right.b, right.c, right.d)
    }

    package func hash(into hasher: inout Hasher) {
        // The bytes are uniform already; one word and the hasher's seed are enough.
        hasher.combine(b)
    }

    /// A well mixed word, for tables of our own.
    var word: UInt64 { a ^ d }

    /// Writes the 32 bytes to the start of `room`.
    func copy(to room: UnsafeMutableRawBufferPointer) {
        for (index, word) in [a, b, c, d].enumerated() {
            room.storeBytes(of: word.bigEndian, toByteOffset: 8 * index, as: UInt64.self)
        }
    }

    package var bytes: [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(Self.byteCount)
        for word in [a, b, c, d] {
            withUnsafeBytes(of: word.bigEndian) { result.append(contentsOf: $0) }
        }
        return result
    }

    /// 64 lower-case hexadecimal digits.
    package var hex: String { Posix.hex(bytes) }

    /// The first eight digits, as people and restic name snapshots.
    package var short: String { String(hex.prefix(8)) }

    /// Appends the 64 digits to JSON text that is being built.
    package func appendHex(to text: inout [UInt8]) {
        for word in [a, b, c, d] {
            for shift in stride(from: 60, through: 0, by: -4) {
                let nibble = UInt8(truncatingIfNeeded: word >> UInt64(shift)) & 15
                text.append(nibble < 10 ? 0x30 &+ nibble : 0x61 &- 10 &+ nibble)
            }
        }
    }
}

extension BlobID: CustomStringConvertible {
    package var description: String { hex }
}

/// What a blob holds. A data blob and a tree blob with the same bytes are two different blobs.
package enum BlobKind: UInt8, Sendable, CustomStringConvertible {
    case data = 0
    case tree = 1

    package var description: String { self == .data ? "data" : "tree" }
}
