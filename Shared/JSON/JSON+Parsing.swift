extension JSON {
    /// Reads one JSON text: UTF-8 without a byte order mark, nothing after it but white space.
    ///
    /// - Parameter maximumDepth: How deep arrays and objects may nest.
    package init(parsing text: [UInt8], maximumDepth: Int = 128) throws(JSONError) {
        self = try text.withUnsafeBufferPointer { (bytes) throws(JSONError) in
            try JSON(parsing: bytes, maximumDepth: maximumDepth)
        }
    }

    package init(parsing text: String, maximumDepth: Int = 128) throws(JSONError) {
        try self.init(parsing: Array(text.utf8), maximumDepth: maximumDepth)
    }

    package init(parsing text: UnsafeBufferPointer<UInt8>, maximumDepth: Int = 128) throws(JSONError) {
        var builder = Builder()
        var scanner = JSONScanner(text, maximumDepth: maximumDepth)
        self = try builder.value(&scanner)
        try scanner.end()
    }
}

private struct Builder {
    // The size of the last object and array is the best guess for the next: most texts repeat one shape.
    private var members = 4
    private var elements = 4

    mutating func value(_ scanner: inout JSONScanner) throws(JSONError) -> JSON {
        switch try scanner.peek() {
        case 0x22: return .string(try scanner.string())
        case 0x7B:
            var result: [JSON.Object.Member] = []
            result.reserveCapacity(members)
            try scanner.object { (scanner, key) throws(JSONError) in
                let key = String(decoding: key, as: UTF8.self)
                result.append(JSON.Object.Member(key: key, value: try value(&scanner)))
            }
            members = min(16, result.count)
            return .object(JSON.Object(members: result))
        case 0x5B:
            var result: [JSON] = []
            result.reserveCapacity(elements)
            try scanner.array { (scanner) throws(JSONError) in result.append(try value(&scanner)) }
            elements = min(16, result.count)
            return .array(result)
        case 0x74, 0x66: return .bool(try scanner.bool())
        case 0x6E:
            guard try scanner.null() else { return .null }
            return .null
        default:
            switch try scanner.number() {
            case .integer(let value): return .integer(value)
            case .unsigned(let value): return .unsigned(value)
            case .double(let value): return .double(value)
            }
        }
    }
}

extension JSONScanner {
    /// Takes any value and builds it.
    package mutating func value() throws(JSONError) -> JSON {
        var builder = Builder()
        return try builder.value(&self)
    }
}
