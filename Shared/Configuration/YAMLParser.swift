import CLibYAML
import Glibc
import Posix

extension YAMLNode {
    /// Files are small and written by people: what is larger or deeper is a mistake or an attack.
    private static let sizeLimit = 1 << 20
    fileprivate static let depthLimit = 20

    /// Reads the one document in `bytes` (UTF-8). Anchors, aliases, tags, a second document and a key that stands
    /// twice in a mapping are refused, because each makes a file mean something else than what one reads in it.
    ///
    /// - Parameter file: The name for messages.
    /// - Throws: `ConfigurationError` with the line.
    package static func parse(_ bytes: [UInt8], file: String) throws(ConfigurationError) -> YAMLNode {
        if bytes.count > sizeLimit {
            throw ConfigurationError(
                file: file,
                line: nil,
                "is over \(sizeLimit >> 20) MiB, which no configuration is"
            )
        }
        var reader = EventReader(bytes, file: file)
        return try reader.document()
    }

    /// Reads the YAML file at `path`.
    package static func read(_ path: String) throws(ConfigurationError) -> YAMLNode {
        try parse(bytes(of: path), file: path)
    }

    /// What the file at `path` holds, for `parse`.
    package static func bytes(of path: String) throws(ConfigurationError) -> [UInt8] {
        do { return try Files.read(path, limit: sizeLimit) } catch {
            throw ConfigurationError(file: path, line: nil, "cannot be read: \(error.reason)")
        }
    }
}

/// Builds nodes from libyaml's events; the tree is ours, so that every node knows its line.
private struct EventReader: ~Copyable {
    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private let input: UnsafeMutableBufferPointer<UInt8>
    private let file: String

    private struct Event {
        enum Kind { case streamStart, streamEnd, documentStart, documentEnd, sequenceEnd, mappingEnd }
        enum What { case mark(Kind), scalar(String, plain: Bool), sequence, mapping }
        var what: What
        var line: Int
    }

    init(_ bytes: [UInt8], file: String) {
        parser = .allocate(capacity: 1)
        // libyaml's parser keeps a pointer to its input.
        input = .allocate(capacity: max(1, bytes.count))
        _ = input.update(fromContentsOf: bytes)
        self.file = file
        // It fails only without memory, and then the first event fails.
        _ = yaml_parser_initialize(parser)
        yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
        yaml_parser_set_input_string(parser, input.baseAddress, bytes.count)
    }

    deinit {
        yaml_parser_delete(parser)
        parser.deallocate()
        input.deallocate()
    }

    mutating func document() throws(ConfigurationError) -> YAMLNode {
        _ = try next()
        var event = try next()
        guard case .mark(.documentStart) = event.what else { return YAMLNode(line: 1, content: .empty) }
        let root = try node(try next(), depth: 0)
        _ = try next()
        event = try next()
        guard case .mark(.streamEnd) = event.what else {
            throw error(event.line, "a second document starts here: remove the `---` before it")
        }
        return root
    }

    private mutating func node(_ event: Event, depth: Int) throws(ConfigurationError) -> YAMLNode {
        if depth > YAMLNode.depthLimit { throw error(event.line, "is nested too deeply") }
        switch event.what {
        case .scalar(let text, let plain):
            let empty = plain && ["", "~", "null"].contains(text)
            return YAMLNode(line: event.line, content: empty ? .empty : .scalar(text))
        case .sequence:
            var items: [YAMLNode] = []
            while true {
                let item = try next()
                if case .mark(.sequenceEnd) = item.what { break }
                items.append(try node(item, depth: depth + 1))
            }
            return YAMLNode(line: event.line, content: .sequence(items))
        case .mapping:
            var entries: [YAMLNode.Entry] = []
            var lines: [String: Int] = [:]
            while true {
                let key = try next()
                if case .mark(.mappingEnd) = key.what { break }
                guard case .scalar(let name, _) = key.what else {
                    throw error(key.line, "a key must be a plain word")
                }
                if let first = lines.updateValue(key.line, forKey: name) {
                    throw error(
                        key.line,
                        "`\(name)` stands here a second time, first in line \(first): keep one of them"
                    )
                }
                let value = try node(try next(), depth: depth + 1)
                entries.append(.init(key: name, line: key.line, value: value))
            }
            return YAMLNode(line: event.line, content: .mapping(entries))
        case .mark:
            throw error(event.line, "ends in the middle")
        }
    }

    private func next() throws(ConfigurationError) -> Event {
        var event = yaml_event_t()
        guard yaml_parser_parse(parser, &event) == 1 else { throw syntaxError() }
        defer { yaml_event_delete(&event) }
        let line = Int(event.start_mark.line) + 1
        func plain(_ anchor: UnsafeMutablePointer<yaml_char_t>?, _ tag: UnsafeMutablePointer<yaml_char_t>?)
            throws(ConfigurationError)
        {
            if anchor != nil {
                throw error(line, "anchors (&name) are not taken: write the value where it is needed")
            }
            if tag != nil {
                throw error(line, "tags (!name) are not taken: write the value alone, in quotes if need be")
            }
        }
        switch event.type {
        case YAML_SCALAR_EVENT:
            let scalar = event.data.scalar
            try plain(scalar.anchor, scalar.tag)
            let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
            if bytes.contains(0) { throw error(line, "a value cannot hold a NUL character") }
            let text = String(decoding: bytes, as: UTF8.self)
            return Event(what: .scalar(text, plain: scalar.style == YAML_PLAIN_SCALAR_STYLE), line: line)
        case YAML_SEQUENCE_START_EVENT:
            try plain(event.data.sequence_start.anchor, event.data.sequence_start.tag)
            return Event(what: .sequence, line: line)
        case YAML_MAPPING_START_EVENT:
            try plain(event.data.mapping_start.anchor, event.data.mapping_start.tag)
            return Event(what: .mapping, line: line)
        case YAML_ALIAS_EVENT:
            throw error(
                line,
                "aliases (*name) are not taken: write the value where it is needed, in quotes if it starts with `*`"
            )
        case YAML_STREAM_START_EVENT: return Event(what: .mark(.streamStart), line: line)
        case YAML_STREAM_END_EVENT: return Event(what: .mark(.streamEnd), line: line)
        case YAML_DOCUMENT_START_EVENT: return Event(what: .mark(.documentStart), line: line)
        case YAML_DOCUMENT_END_EVENT: return Event(what: .mark(.documentEnd), line: line)
        case YAML_SEQUENCE_END_EVENT: return Event(what: .mark(.sequenceEnd), line: line)
        case YAML_MAPPING_END_EVENT: return Event(what: .mark(.mappingEnd), line: line)
        default: throw error(line, "cannot be read as YAML")
        }
    }

    private func syntaxError() -> ConfigurationError {
        let problem = parser.pointee.problem.map { String(cString: $0) } ?? "no memory"
        if parser.pointee.error == YAML_READER_ERROR {
            let offset = min(Int(parser.pointee.problem_offset), input.count)
            let line = input[..<offset].count(where: { $0 == UInt8(ascii: "\n") }) + 1
            return error(line, "is not UTF-8 text (\(problem))")
        }
        let line = Int(parser.pointee.problem_mark.line) + 1
        if let number = tabIndented(near: line) {
            return error(number, "is indented with a tab: YAML wants spaces")
        }
        let context = parser.pointee.context.map { String(cString: $0) + ": " } ?? ""
        let advice = context.contains("alias") ? "; put a text that starts with `*` in quotes" : ""
        return error(line, "cannot be read as YAML: \(context)\(problem)\(advice)")
    }

    /// The line at or just above `line` whose indentation holds a tab.
    private func tabIndented(near line: Int) -> Int? {
        let lines = input.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for number in [line, line - 1] where number >= 1 && number <= lines.count {
            if lines[number - 1].prefix(while: { $0 == 0x20 || $0 == 0x09 }).contains(0x09) { return number }
        }
        return nil
    }

    private func error(_ line: Int, _ message: String) -> ConfigurationError {
        ConfigurationError(file: file, line: line, message)
    }
}
