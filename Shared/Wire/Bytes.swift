/// Builds a frame's body: numbers are little-endian.
package struct ByteWriter {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    package mutating func number<I: FixedWidthInteger>(_ value: I) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// The bytes alone.
    package mutating func raw(_ value: some Collection<UInt8>) { bytes.append(contentsOf: value) }

    /// A 2-byte length and the bytes; more than 65,535 are cut there.
    package mutating func short(_ value: some Collection<UInt8>) {
        let kept = value.prefix(Int(UInt16.max))
        number(UInt16(kept.count))
        bytes.append(contentsOf: kept)
    }

    /// A 4-byte length and the bytes.
    package mutating func long(_ value: some Collection<UInt8>) {
        number(UInt32(value.count))
        bytes.append(contentsOf: value)
    }

    /// UTF-8, at most 65,535 bytes, cut between characters; a control character (from a program's output, say) becomes
    /// `?`, because the reader refuses it.
    package mutating func text(_ value: String) {
        var value = value
        if value.unicodeScalars.contains(where: isControl) {
            var clean = String.UnicodeScalarView()
            for scalar in value.unicodeScalars { clean.append(isControl(scalar) ? "?" : scalar) }
            value = String(clean)
        }
        guard value.utf8.count > Int(UInt16.max) else { return short(value.utf8) }
        var kept = 0
        for scalar in value.unicodeScalars {
            let size = UTF8.width(scalar)
            if kept + size > Int(UInt16.max) { break }
            kept += size
        }
        short(value.utf8.prefix(kept))
    }

    /// The bytes as they are.
    package mutating func append(_ value: some Collection<UInt8>) { bytes.append(contentsOf: value) }

    package mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }
}

/// Takes a frame's body apart; everything is checked against its end.
package struct ByteReader {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    package mutating func number<I: FixedWidthInteger>(_ type: I.Type = I.self) throws(WireError) -> I {
        let size = MemoryLayout<I>.size
        guard bytes.count - position >= size else { throw .malformed("a number is cut short") }
        defer { position += size }
        return I(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: I.self))
    }

    package mutating func take(_ count: Int) throws(WireError) -> [UInt8] {
        guard count >= 0, bytes.count - position >= count else { throw .malformed("a field is cut short") }
        defer { position += count }
        return [UInt8](UnsafeRawBufferPointer(rebasing: bytes[position..<position + count]))
    }

    package mutating func short() throws(WireError) -> [UInt8] { try take(Int(number(UInt16.self))) }
    package mutating func long() throws(WireError) -> [UInt8] { try take(Int(number(UInt32.self))) }

    /// UTF-8 text without control characters.
    package mutating func text() throws(WireError) -> String {
        let raw = try short()
        guard let text = String(validating: raw, as: UTF8.self) else { throw .malformed("text is not UTF-8") }
        if text.unicodeScalars.contains(where: isControl) {
            throw .malformed("text holds a control character")
        }
        return text
    }

    package var isAtEnd: Bool { position == bytes.count }

    /// Throws when bytes are left over.
    package func end() throws(WireError) {
        guard position == bytes.count else { throw .malformed("\(bytes.count - position) bytes too many") }
    }
}

/// Whether a terminal might take the character for a command: C0 but tab and line end, DEL, C1.
private func isControl(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value < 0x20 && scalar != "\n" && scalar != "\t" || (0x7F...0x9F).contains(scalar.value)
}
