/// Reads one Unicode scalar of UTF-8 at `index`, which must be inside `bytes`; nil where no valid sequence
/// begins (overlong forms, surrogates and values above U+10FFFF are invalid).
@inlinable
package func decodeScalar(_ bytes: UnsafeBufferPointer<UInt8>, at index: Int) -> (value: UInt32, width: Int)?
{
    let first = bytes[index]
    if first < 0x80 { return (UInt32(first), 1) }
    func continuation(_ offset: Int) -> UInt32? {
        guard index + offset < bytes.count, bytes[index + offset] & 0xC0 == 0x80 else { return nil }
        return UInt32(bytes[index + offset] & 0x3F)
    }
    switch first {
    case 0xC2...0xDF:
        guard let second = continuation(1) else { return nil }
        return (UInt32(first & 0x1F) << 6 | second, 2)
    case 0xE0...0xEF:
        guard let second = continuation(1), let third = continuation(2) else { return nil }
        let value = UInt32(first & 0x0F) << 12 | second << 6 | third
        return value < 0x800 || (0xD800...0xDFFF).contains(value) ? nil : (value, 3)
    case 0xF0...0xF4:
        guard let second = continuation(1), let third = continuation(2), let fourth = continuation(3) else {
            return nil
        }
        let value = UInt32(first & 0x07) << 18 | second << 12 | third << 6 | fourth
        return value < 0x10000 || value > 0x10FFFF ? nil : (value, 4)
    default: return nil
    }
}

/// Whether all of `bytes` is valid UTF-8.
package func isUTF8(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    var index = 0
    while index < bytes.count {
        guard let scalar = decodeScalar(bytes, at: index) else { return false }
        index += scalar.width
    }
    return true
}

package func isUTF8(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBufferPointer { isUTF8($0) } }

/// Appends the UTF-8 form of a scalar value that is known to be valid.
@inlinable
package func appendScalar(_ value: UInt32, to bytes: inout [UInt8]) {
    switch value {
    case 0..<0x80: bytes.append(UInt8(value))
    case 0x80..<0x800:
        bytes.append(UInt8(0xC0 | value >> 6))
        bytes.append(UInt8(0x80 | value & 0x3F))
    case 0x800..<0x10000:
        bytes.append(UInt8(0xE0 | value >> 12))
        bytes.append(UInt8(0x80 | value >> 6 & 0x3F))
        bytes.append(UInt8(0x80 | value & 0x3F))
    default:
        bytes.append(UInt8(0xF0 | value >> 18 & 7))
        bytes.append(UInt8(0x80 | value >> 12 & 0x3F))
        bytes.append(UInt8(0x80 | value >> 6 & 0x3F))
        bytes.append(UInt8(0x80 | value & 0x3F))
    }
}
