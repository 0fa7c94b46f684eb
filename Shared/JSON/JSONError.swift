/// Why a text is not the JSON that was expected, and where.
package struct JSONError: Error, Equatable, CustomStringConvertible {
    package enum Reason: Equatable, Sendable {
        case unexpectedEnd
        /// What should have stood here.
        case expected(String)
        case trailingBytes
        case invalidUTF8
        case controlCharacter
        case unknownEscape
        case loneSurrogate
        case number
        case tooDeep(Int)
    }

    package let reason: Reason
    /// Bytes from the beginning of the text.
    package let offset: Int

    package init(_ reason: Reason, at offset: Int) {
        self.reason = reason
        self.offset = offset
    }

    package var description: String {
        let what =
            switch reason {
            case .unexpectedEnd: "it ends too early"
            case .expected(let what): "expected \(what)"
            case .trailingBytes: "something follows the value"
            case .invalidUTF8: "a string is not UTF-8"
            case .controlCharacter: "a control character stands unescaped in a string"
            case .unknownEscape: "unknown escape in a string"
            case .loneSurrogate: "half of a surrogate pair in a string"
            case .number: "a number that is malformed or does not fit"
            case .tooDeep(let limit): "nested deeper than \(limit) levels"
            }
        return "not valid JSON at byte \(offset): \(what)"
    }
}
