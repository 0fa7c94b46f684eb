extension JSON {
    /// The text as UTF-8, members in their order.
    ///
    /// - Parameters:
    ///   - pretty: One member or element to a line, two spaces per level, and a newline at the end; else no
    ///     white space at all.
    ///   - escapeHTML: Escape as Go's encoder does by default: also `<`, `>` and `&`.
    package func encoded(pretty: Bool = false, escapeHTML: Bool = false) -> [UInt8] {
        var output: [UInt8] = []
        append(to: &output, indent: pretty ? 0 : nil, escapeHTML)
        if pretty { output.append(0x0A) }
        return output
    }

    package func text(pretty: Bool = false) -> String {
        String(decoding: encoded(pretty: pretty), as: UTF8.self)
    }

    private func append(to output: inout [UInt8], indent: Int?, _ escapeHTML: Bool) {
        switch self {
        case .null: output.append(contentsOf: "null".utf8)
        case .bool(let value): output.append(contentsOf: (value ? "true" : "false").utf8)
        case .integer(let value):
            if value < 0 { output.append(0x2D) }
            appendDecimal(value.magnitude, to: &output)
        case .unsigned(let value): appendDecimal(value, to: &output)
        // JSON has no infinity and no NaN.
        case .double(let value): output.append(contentsOf: (value.isFinite ? "\(value)" : "null").utf8)
        case .string(let value): appendString(value, to: &output, escapeHTML)
        case .array(let values):
            if values.isEmpty { return output.append(contentsOf: "[]".utf8) }
            output.append(0x5B)
            for (index, value) in values.enumerated() {
                if index > 0 { output.append(0x2C) }
                newLine(indent.map { $0 + 1 }, &output)
                value.append(to: &output, indent: indent.map { $0 + 1 }, escapeHTML)
            }
            newLine(indent, &output)
            output.append(0x5D)
        case .object(let object):
            if object.members.isEmpty { return output.append(contentsOf: "{}".utf8) }
            output.append(0x7B)
            for (index, member) in object.members.enumerated() {
                if index > 0 { output.append(0x2C) }
                newLine(indent.map { $0 + 1 }, &output)
                appendString(member.key, to: &output, escapeHTML)
                output.append(0x3A)
                if indent != nil { output.append(0x20) }
                member.value.append(to: &output, indent: indent.map { $0 + 1 }, escapeHTML)
            }
            newLine(indent, &output)
            output.append(0x7D)
        }
    }

    private func newLine(_ indent: Int?, _ output: inout [UInt8]) {
        guard let indent else { return }
        output.append(0x0A)
        for _ in 0..<indent * 2 { output.append(0x20) }
    }

    private func appendString(_ string: String, to output: inout [UInt8], _ escapeHTML: Bool) {
        var string = string
        string.withUTF8 { appendJSONString($0, to: &output, escapeHTML: escapeHTML) }
    }
}

/// Appends `bytes` as a JSON string with its quotes, escaped as Go's encoder does it: `"` and `\` with a
/// backslash, `\n \r \t \b \f`, other control characters as `\u00XX`, U+2028 and U+2029 as `\u2028` and
/// `\u2029`, each invalid byte as `\ufffd`; with `escapeHTML` also `<`, `>`, `&`; all else as it is.
package func appendJSONString(
    _ bytes: UnsafeBufferPointer<UInt8>,
    to output: inout [UInt8],
    escapeHTML: Bool
) {
    output.append(0x22)
    var start = 0
    var index = 0
    while index < bytes.count {
        let byte = bytes[index]
        if byte < 0x80 {
            if !needsEscape(byte, escapeHTML) {
                index += 1
                continue
            }
            output.append(contentsOf: UnsafeBufferPointer(rebasing: bytes[start..<index]))
            appendEscape(byte, to: &output)
            index += 1
        } else if let scalar = decodeScalar(bytes, at: index) {
            index += scalar.width
            guard scalar.value | 1 == 0x2029 else { continue }
            output.append(contentsOf: UnsafeBufferPointer(rebasing: bytes[start..<index - scalar.width]))
            output.append(contentsOf: (scalar.value == 0x2028 ? "\\u2028" : "\\u2029").utf8)
        } else {
            output.append(contentsOf: UnsafeBufferPointer(rebasing: bytes[start..<index]))
            output.append(contentsOf: "\\ufffd".utf8)
            index += 1
        }
        start = index
    }
    output.append(contentsOf: UnsafeBufferPointer(rebasing: bytes[start..<index]))
    output.append(0x22)
}

/// Appends decimal digits.
package func appendDecimal(_ value: UInt64, to output: inout [UInt8]) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 20) { digits in
        var rest = value
        var index = 20
        repeat {
            index -= 1
            digits[index] = 0x30 + UInt8(truncatingIfNeeded: rest % 10)
            rest /= 10
        } while rest != 0
        output.append(contentsOf: UnsafeBufferPointer(rebasing: digits[index..<20]))
    }
}

private func needsEscape(_ byte: UInt8, _ escapeHTML: Bool) -> Bool {
    if byte < 0x20 || byte == 0x22 || byte == 0x5C { return true }
    return escapeHTML && (byte == 0x3C || byte == 0x3E || byte == 0x26)
}

private func appendEscape(_ byte: UInt8, to output: inout [UInt8]) {
    output.append(0x5C)
    switch byte {
    case 0x22, 0x5C: output.append(byte)
    case 0x0A: output.append(0x6E)
    case 0x0D: output.append(0x72)
    case 0x09: output.append(0x74)
    case 0x08: output.append(0x62)
    case 0x0C: output.append(0x66)
    default:
        output.append(contentsOf: "u00".utf8)
        let digits: StaticString = "0123456789abcdef"
        output.append(digits.utf8Start[Int(byte >> 4)])
        output.append(digits.utf8Start[Int(byte & 15)])
    }
}
