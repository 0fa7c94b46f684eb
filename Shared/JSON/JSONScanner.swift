/// Steps through JSON text without building values: for readers of large documents of known shape.
///
/// It borrows the bytes, so it must not outlive the closure that lent them. After an error its position means
/// nothing. Every value must be taken or skipped exactly once.
package struct JSONScanner {
    package let bytes: UnsafeBufferPointer<UInt8>
    /// Bytes from the beginning of the text.
    package private(set) var offset = 0
    private var depth = 0
    private let maximumDepth: Int

    package init(_ bytes: UnsafeBufferPointer<UInt8>, maximumDepth: Int = 128) {
        self.bytes = bytes
        self.maximumDepth = maximumDepth
    }

    // MARK: Structure

    /// The first byte of the next value, which tells its kind.
    package mutating func peek() throws(JSONError) -> UInt8 {
        skipSpace()
        guard offset < bytes.count else { throw JSONError(.unexpectedEnd, at: offset) }
        return bytes[offset]
    }

    /// Takes an object; `member` is called with each key, decoded and valid during the call, and must take or
    /// skip the value.
    package mutating func object(
        _ member: (inout JSONScanner, UnsafeBufferPointer<UInt8>) throws(JSONError) -> Void
    ) throws(JSONError) {
        try enter(0x7B, "an object")
        if try peek() == 0x7D {
            leave()
            return
        }
        while true {
            guard try peek() == 0x22 else { throw JSONError(.expected("a key"), at: offset) }
            let key = try scanString()
            guard try peek() == 0x3A else { throw JSONError(.expected("a colon"), at: offset) }
            offset += 1
            if key.escaped {
                let decoded = try decode(key)
                try decoded.withUnsafeBufferPointer { (decoded) throws(JSONError) in
                    try member(&self, decoded)
                }
            } else {
                try member(&self, slice(key))
            }
            let next = try peek()
            if next == 0x7D { break }
            guard next == 0x2C else {
                throw JSONError(.expected("a comma or the end of an object"), at: offset)
            }
            offset += 1
        }
        leave()
    }

    /// Takes an array; `element` must take or skip each element.
    package mutating func array(_ element: (inout JSONScanner) throws(JSONError) -> Void) throws(JSONError) {
        try enter(0x5B, "an array")
        if try peek() == 0x5D {
            leave()
            return
        }
        while true {
            try element(&self)
            let next = try peek()
            if next == 0x5D { break }
            guard next == 0x2C else {
                throw JSONError(.expected("a comma or the end of an array"), at: offset)
            }
            offset += 1
        }
        leave()
    }

    /// Takes `null` if that comes next.
    package mutating func null() throws(JSONError) -> Bool {
        guard try peek() == 0x6E else { return false }
        try word("null")
        return true
    }

    package mutating func bool() throws(JSONError) -> Bool {
        switch try peek() {
        case 0x74:
            try word("true")
            return true
        case 0x66:
            try word("false")
            return false
        default: throw JSONError(.expected("true or false"), at: offset)
        }
    }

    /// Takes and checks any value.
    package mutating func skip() throws(JSONError) {
        switch try peek() {
        case 0x7B: try object { (scanner, _) throws(JSONError) in try scanner.skip() }
        case 0x5B: try array { (scanner) throws(JSONError) in try scanner.skip() }
        case 0x22: _ = try withString { _ in }
        case 0x74, 0x66: _ = try bool()
        case 0x6E: _ = try null()
        default: _ = try number()
        }
    }

    /// Demands that nothing but white space is left.
    package mutating func end() throws(JSONError) {
        skipSpace()
        if offset != bytes.count { throw JSONError(.trailingBytes, at: offset) }
    }

    private mutating func enter(_ bracket: UInt8, _ what: String) throws(JSONError) {
        guard try peek() == bracket else { throw JSONError(.expected(what), at: offset) }
        depth += 1
        if depth > maximumDepth { throw JSONError(.tooDeep(maximumDepth), at: offset) }
        offset += 1
    }

    private mutating func leave() {
        depth -= 1
        offset += 1
    }

    private mutating func skipSpace() {
        while offset < bytes.count {
            let byte = bytes[offset]
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
            offset += 1
        }
    }

    private mutating func word(_ word: StaticString) throws(JSONError) {
        let count = word.utf8CodeUnitCount
        guard bytes.count - offset >= count else { throw JSONError(.unexpectedEnd, at: bytes.count) }
        for index in 0..<count where bytes[offset + index] != word.utf8Start[index] {
            throw JSONError(.expected("a value"), at: offset)
        }
        offset += count
    }

    // MARK: Numbers

    package mutating func unsigned() throws(JSONError) -> UInt64 {
        let start = offset
        switch try number() {
        case .integer(let value) where value >= 0: return UInt64(value)
        case .unsigned(let value): return value
        default: throw JSONError(.expected("a whole number that is not negative"), at: start)
        }
    }

    package mutating func integer() throws(JSONError) -> Int64 {
        let start = offset
        guard case .integer(let value) = try number() else {
            throw JSONError(.expected("a whole number"), at: start)
        }
        return value
    }

    package enum Number {
        case integer(Int64)
        case unsigned(UInt64)
        case double(Double)
    }

    package mutating func number() throws(JSONError) -> Number {
        var first = try peek()
        let start = offset
        let negative = first == 0x2D
        if negative {
            offset += 1
            guard offset < bytes.count else { throw JSONError(.unexpectedEnd, at: offset) }
            first = bytes[offset]
        }
        guard isDigit(first) else { throw JSONError(.expected("a value"), at: start) }
        var value: UInt64 = 0
        var exact = true
        let digits = offset
        while offset < bytes.count, isDigit(bytes[offset]) {
            let (scaled, carried) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflow) = scaled.addingReportingOverflow(UInt64(bytes[offset] & 0x0F))
            if carried || overflow { exact = false }
            value = sum
            offset += 1
        }
        // No leading zero.
        if first == 0x30 && offset - digits > 1 { throw JSONError(.number, at: start) }
        if offset < bytes.count, bytes[offset] == 0x2E {
            exact = false
            offset += 1
            try takeDigits(start)
        }
        if offset < bytes.count, bytes[offset] | 0x20 == 0x65 {
            exact = false
            offset += 1
            if offset < bytes.count, bytes[offset] == 0x2B || bytes[offset] == 0x2D { offset += 1 }
            try takeDigits(start)
        }
        if exact {
            if !negative {
                if let small = Int64(exactly: value) { return .integer(small) }
                return .unsigned(value)
            }
            if value <= 1 << 63 { return .integer(Int64(truncatingIfNeeded: 0 &- value)) }
        }
        // Only ASCII stands between `start` and `offset`.
        let text = String(decoding: UnsafeBufferPointer(rebasing: bytes[start..<offset]), as: UTF8.self)
        guard let double = Double(text), double.isFinite else { throw JSONError(.number, at: start) }
        return .double(double)
    }

    private func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

    private mutating func takeDigits(_ start: Int) throws(JSONError) {
        guard offset < bytes.count, isDigit(bytes[offset]) else { throw JSONError(.number, at: start) }
        while offset < bytes.count, isDigit(bytes[offset]) { offset += 1 }
    }

    // MARK: Strings

    /// Takes a string; `body` sees its decoded UTF-8, valid during the call.
    package mutating func withString<R>(_ body: (UnsafeBufferPointer<UInt8>) throws(JSONError) -> R)
        throws(JSONError) -> R
    {
        let string = try scanString()
        if !string.escaped { return try body(slice(string)) }
        let decoded = try decode(string)
        return try decoded.withUnsafeBufferPointer { (decoded) throws(JSONError) in try body(decoded) }
    }

    package mutating func string() throws(JSONError) -> String {
        try withString { String(decoding: $0, as: UTF8.self) }
    }

    /// The UTF-8 of a string.
    package mutating func stringBytes() throws(JSONError) -> [UInt8] { try withString { Array($0) } }

    private struct StringRange {
        /// Without the quotes.
        var range: Range<Int>
        var escaped: Bool
    }

    private func slice(_ string: StringRange) -> UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(rebasing: bytes[string.range])
    }

    /// Finds the end of a string and checks its UTF-8, eight bytes at a time.
    private mutating func scanString() throws(JSONError) -> StringRange {
        guard try peek() == 0x22 else { throw JSONError(.expected("a string"), at: offset) }
        let start = offset + 1
        let raw = UnsafeRawBufferPointer(bytes)
        var index = start
        var escaped = false
        var ascii = true
        while true {
            if index + 8 <= raw.count {
                let word = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: index, as: UInt64.self))
                let hits = special(word)
                if hits == 0 {
                    index += 8
                    continue
                }
                index += hits.trailingZeroBitCount >> 3
            }
            guard index < raw.count else { throw JSONError(.unexpectedEnd, at: index) }
            let byte = raw[index]
            if byte == 0x22 { break }
            if byte == 0x5C {
                escaped = true
                // What follows is checked while decoding; here it only must not end the string.
                index += 2
            } else if byte < 0x20 {
                throw JSONError(.controlCharacter, at: index)
            } else {
                if byte >= 0x80 { ascii = false }
                index += 1
            }
        }
        if !ascii {
            var at = start
            while at < index {
                guard let scalar = decodeScalar(bytes, at: at) else { throw JSONError(.invalidUTF8, at: at) }
                at += scalar.width
            }
        }
        offset = index + 1
        return StringRange(range: start..<index, escaped: escaped)
    }

    /// High bit set in each byte of `word` that is a quote, a backslash, a control character or not ASCII;
    /// only the lowest set bit is exact.
    private func special(_ word: UInt64) -> UInt64 {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = 0x8080_8080_8080_8080
        let quote = word ^ (ones &* 0x22)
        let backslash = word ^ (ones &* 0x5C)
        let found =
            (quote &- ones) & ~quote | (backslash &- ones) & ~backslash | (word &- (ones &* 0x20)) & ~word
            | word
        return found & highs
    }

    private func decode(_ string: StringRange) throws(JSONError) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(string.range.count)
        let end = string.range.upperBound
        var index = string.range.lowerBound
        while index < end {
            let byte = bytes[index]
            if byte != 0x5C {
                result.append(byte)
                index += 1
                continue
            }
            // A backslash is never the last byte: the quote after it would not have ended the string.
            let at = index
            index += 2
            switch bytes[at + 1] {
            case 0x22: result.append(0x22)
            case 0x5C: result.append(0x5C)
            case 0x2F: result.append(0x2F)
            case 0x62: result.append(0x08)
            case 0x66: result.append(0x0C)
            case 0x6E: result.append(0x0A)
            case 0x72: result.append(0x0D)
            case 0x74: result.append(0x09)
            case 0x75:
                guard let unit = hexUnit(index, end) else { throw JSONError(.unknownEscape, at: at) }
                index += 4
                var value = unit
                if (0xD800...0xDFFF).contains(unit) {
                    guard unit < 0xDC00, index + 6 <= end, bytes[index] == 0x5C, bytes[index + 1] == 0x75,
                        let low = hexUnit(index + 2, end), (0xDC00...0xDFFF).contains(low)
                    else { throw JSONError(.loneSurrogate, at: at) }
                    index += 6
                    value = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
                }
                appendScalar(value, to: &result)
            default: throw JSONError(.unknownEscape, at: at)
            }
        }
        return result
    }

    private func hexUnit(_ start: Int, _ end: Int) -> UInt32? {
        guard start + 4 <= end else { return nil }
        var value: UInt32 = 0
        for index in start..<start + 4 {
            let byte = bytes[index]
            switch byte {
            case 0x30...0x39: value = value << 4 | UInt32(byte - 0x30)
            case 0x41...0x46: value = value << 4 | UInt32(byte - 0x41 + 10)
            case 0x61...0x66: value = value << 4 | UInt32(byte - 0x61 + 10)
            default: return nil
            }
        }
        return value
    }
}
