import JSON

/// How names of files stand in a tree: bytes in Go's quoted form (strconv.Quote without the outer quotes),
/// and that as a JSON string.
package enum NodeName {
    /// Why `name` cannot be the name of a file, or nil. Such a name must never reach the file system.
    package static func problem(_ name: [UInt8]) -> String? {
        if name.isEmpty { return "the name is empty" }
        if name == [0x2E] || name == [0x2E, 0x2E] { return "the name is a directory's own" }
        for byte in name {
            if byte == 0x2F { return "the name holds a slash" }
            if byte == 0 { return "the name holds a zero byte" }
        }
        return nil
    }

    /// Appends the quoted name as a JSON string.
    static func append(_ name: [UInt8], to text: inout [UInt8]) {
        if name.allSatisfy(isPlain) {
            text.append(0x22)
            text.append(contentsOf: name)
            text.append(0x22)
            return
        }
        let quoted = quote(name)
        quoted.withUnsafeBufferPointer { appendJSONString($0, to: &text, escapeHTML: true) }
    }

    /// Bytes that stand for themselves in both layers.
    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x22, 0x26, 0x3C, 0x3E, 0x5C: false
        case 0x20...0x7E: true
        default: false
        }
    }

    /// Go's quoted form without the outer quotes: always valid UTF-8.
    package static func quote(_ name: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(name.count + 8)
        name.withUnsafeBufferPointer { bytes in
            var index = 0
            while index < bytes.count {
                guard let scalar = decodeScalar(bytes, at: index) else {
                    appendEscape("x", UInt32(bytes[index]), digits: 2, to: &result)
                    index += 1
                    continue
                }
                if let short = shortEscape(scalar.value) {
                    result.append(0x5C)
                    result.append(short)
                } else if isPrintable(scalar.value) {
                    result.append(contentsOf: bytes[index..<index + scalar.width])
                } else if scalar.value < 0x80 {
                    appendEscape("x", scalar.value, digits: 2, to: &result)
                } else if scalar.value < 0x10000 {
                    appendEscape("u", scalar.value, digits: 4, to: &result)
                } else {
                    appendEscape("U", scalar.value, digits: 8, to: &result)
                }
                index += scalar.width
            }
        }
        return result
    }

    private static func shortEscape(_ scalar: UInt32) -> UInt8? {
        switch scalar {
        case 0x22: 0x22
        case 0x5C: 0x5C
        case 0x07: 0x61
        case 0x08: 0x62
        case 0x0C: 0x66
        case 0x0A: 0x6E
        case 0x0D: 0x72
        case 0x09: 0x74
        case 0x0B: 0x76
        default: nil
        }
    }

    private static func appendEscape(
        _ letter: Unicode.Scalar,
        _ value: UInt32,
        digits: Int,
        to text: inout [UInt8]
    ) {
        text.append(0x5C)
        text.append(UInt8(ascii: letter))
        for shift in stride(from: (digits - 1) * 4, through: 0, by: -4) {
            let nibble = UInt8(truncatingIfNeeded: value >> UInt32(shift)) & 15
            text.append(nibble < 10 ? 0x30 &+ nibble : 0x57 &+ nibble)
        }
    }

    /// Go's idea of a printable character: letters, marks, numbers, punctuation, symbols and the ASCII space.
    private static func isPrintable(_ value: UInt32) -> Bool {
        if value < 0x80 { return value >= 0x20 && value != 0x7F }
        guard let scalar = Unicode.Scalar(value) else { return false }
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .spaceSeparator, .lineSeparator,
            .paragraphSeparator:
            return false
        default: return true
        }
    }

    /// The bytes of a quoted name; nil where Go's strconv.Unquote refuses it.
    package static func unquote(_ quoted: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        if !quoted.contains(where: { $0 == 0x5C || $0 == 0x22 || $0 == 0x0A }) { return Array(quoted) }
        var result: [UInt8] = []
        result.reserveCapacity(quoted.count)
        var index = 0
        /// The next `count` digits of base 1 << `bits`.
        func digits(_ count: Int, bits: UInt32) -> UInt32? {
            guard index + count <= quoted.count else { return nil }
            var value: UInt32 = 0
            for digit in quoted[index..<index + count] {
                let number: UInt8
                switch digit {
                case 0x30...0x39: number = digit - 0x30
                case 0x41...0x46: number = digit - 0x41 + 10
                case 0x61...0x66: number = digit - 0x61 + 10
                default: return nil
                }
                guard number < 1 << bits else { return nil }
                value = value << bits | UInt32(number)
            }
            index += count
            return value
        }
        while index < quoted.count {
            let byte = quoted[index]
            index += 1
            if byte == 0x22 || byte == 0x0A { return nil }
            if byte != 0x5C {
                result.append(byte)
                continue
            }
            guard index < quoted.count else { return nil }
            let letter = quoted[index]
            index += 1
            switch letter {
            case 0x22, 0x5C: result.append(letter)
            case 0x61: result.append(0x07)
            case 0x62: result.append(0x08)
            case 0x66: result.append(0x0C)
            case 0x6E: result.append(0x0A)
            case 0x72: result.append(0x0D)
            case 0x74: result.append(0x09)
            case 0x76: result.append(0x0B)
            case 0x78:
                guard let value = digits(2, bits: 4) else { return nil }
                result.append(UInt8(value))
            case 0x30...0x37:
                index -= 1
                guard let value = digits(3, bits: 3), value < 256 else { return nil }
                result.append(UInt8(value))
            case 0x75, 0x55:
                guard let value = digits(letter == 0x75 ? 4 : 8, bits: 4), Unicode.Scalar(value) != nil else {
                    return nil
                }
                appendScalar(value, to: &result)
            default: return nil
            }
        }
        return result
    }
}
