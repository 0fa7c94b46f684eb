/// Takes the keys out of one mapping. Keys that nobody asked for are refused at the end, with the nearest known
/// one, so that a slip of the pen is never a setting that silently does nothing.
package final class MappingReader {
    package let file: String
    /// The line the mapping starts on.
    package let line: Int
    private let path: [String]
    private let entries: [YAMLNode.Entry]
    private var known: [String] = []
    private let taken: Taken

    /// What was taken out of a document so far, in all its mappings.
    private final class Taken { var lines: [[String]: Int] = [:] }

    private init(_ entries: [YAMLNode.Entry], file: String, line: Int, path: [String], taken: Taken) {
        self.entries = entries
        self.file = file
        self.line = line
        self.path = path
        self.taken = taken
    }

    /// The line of every value that was taken out of the document so far, by the keys that lead to it from the top.
    package var lines: [[String]: Int] { taken.lines }

    /// Hands the top of a document to `body`, which takes out every key it knows; an empty file is an empty mapping.
    package static func read<R>(
        _ document: YAMLNode,
        file: String,
        _ body: (MappingReader) throws(ConfigurationError) -> R
    ) throws(ConfigurationError) -> R {
        try read(document, file: file, path: [], taken: Taken(), body)
    }

    private static func read<R>(
        _ node: YAMLNode,
        file: String,
        path: [String],
        taken: Taken,
        _ body: (MappingReader) throws(ConfigurationError) -> R
    ) throws(ConfigurationError) -> R {
        let entries: [YAMLNode.Entry]
        switch node.content {
        case .mapping(let found): entries = found
        case .empty: entries = []
        default:
            let place = path.isEmpty ? "the file" : "`\(path.joined(separator: "."))`"
            throw ConfigurationError(
                file: file,
                line: node.line,
                "\(place) must hold `key: value` lines, not \(node.kind)"
            )
        }
        let reader = MappingReader(entries, file: file, line: node.line, path: path, taken: taken)
        let result = try body(reader)
        try reader.refuseUnknownKeys()
        return result
    }

    // MARK: - Values

    /// The entry of `key`; nil when the key is missing or has no value.
    private func entry(_ key: String) -> YAMLNode.Entry? {
        known.append(key)
        return entries.first { $0.key == key && $0.value.content != .empty }
    }

    /// The scalar of `key` turned into something by `convert`; nil when it is missing.
    ///
    /// - Parameters:
    ///   - expected: What would be right, for the message: ``a size like `64 MiB` ``.
    ///   - convert: Gives nil for what is not that.
    package func value<T>(_ key: String, expected: String, _ convert: (String) -> T?)
        throws(ConfigurationError) -> T?
    {
        guard let entry = entry(key) else { return nil }
        if case .scalar(let text) = entry.value.content, let value = convert(text) {
            note(entry)
            return value
        }
        throw error(entry.line, key, "must be \(expected), not \(entry.value.kind)")
    }

    /// The scalar of `key` turned into something by `convert`, which throws what is wrong with it, as in `` `25` is no
    /// hour``; nil when the key is missing.
    package func parsed<T, Problem: Error>(
        _ key: String,
        expected: String,
        _ convert: (String) throws(Problem) -> T
    ) throws(ConfigurationError) -> T? {
        guard let entry = entry(key) else { return nil }
        guard case .scalar(let text) = entry.value.content else {
            throw error(entry.line, key, "must be \(expected), not \(entry.value.kind)")
        }
        do throws(Problem) {
            let value = try convert(text)
            note(entry)
            return value
        } catch { throw self.error(entry.line, key, "must be \(expected): \(error)") }
    }

    private func note(_ entry: YAMLNode.Entry) { taken.lines[path + [entry.key]] = entry.line }

    /// Any text, as it is written.
    package func string(_ key: String) throws(ConfigurationError) -> String? {
        try value(key, expected: "text") { $0 }
    }

    package func int(_ key: String, in range: ClosedRange<Int>) throws(ConfigurationError) -> Int? {
        try value(key, expected: "a whole number from \(range.lowerBound) to \(range.upperBound)") {
            Int($0).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    package func bool(_ key: String) throws(ConfigurationError) -> Bool? {
        try value(key, expected: "true or false") { $0 == "true" ? true : $0 == "false" ? false : nil }
    }

    /// Bytes, written with a unit: `64 MiB`, `1.5 GB`.
    package func size(_ key: String) throws(ConfigurationError) -> Int64? {
        try value(key, expected: "a size with its unit, like 64 MiB or 2 GB", Units.bytes)
    }

    /// Nanoseconds, written with units: `90s`, `1h 30m`, `7d`.
    package func duration(_ key: String) throws(ConfigurationError) -> Int64? {
        try value(key, expected: "a duration with its unit, like 90s, 15m, 24h or 7d", Units.nanoseconds)
    }

    /// A list of scalars, or a single scalar, which is a list of one. Empty when the key is missing.
    package func strings(_ key: String) throws(ConfigurationError) -> [String] {
        guard let entry = entry(key) else { return [] }
        note(entry)
        switch entry.value.content {
        case .scalar(let text): return [text]
        case .sequence(let items):
            var result: [String] = []
            for item in items {
                guard case .scalar(let text) = item.content else {
                    throw error(item.line, key, "must be a list of texts; this item is \(item.kind)")
                }
                result.append(text)
            }
            return result
        default: throw error(entry.line, key, "must be a list of texts, not \(entry.value.kind)")
        }
    }

    /// Throws when `value` is nil: the key must be there.
    package func required<T>(_ key: String, _ value: T?) throws(ConfigurationError) -> T {
        if let value { return value }
        let empty = entries.first { $0.key == key }
        throw error(empty?.line ?? line, key, empty == nil ? "is missing" : "has no value")
    }

    /// Hands the mapping under `key` to `body`; nil when the key is missing.
    package func mapping<R>(_ key: String, _ body: (MappingReader) throws(ConfigurationError) -> R)
        throws(ConfigurationError) -> R?
    {
        known.append(key)
        guard let entry = entries.first(where: { $0.key == key }) else { return nil }
        return try Self.read(entry.value, file: file, path: path + [key], taken: taken) {
            (reader) throws(ConfigurationError) in
            note(entry)
            return try body(reader)
        }
    }

    /// Whether `key` stands here with a value.
    package func holds(_ key: String) -> Bool {
        entries.contains { $0.key == key && $0.value.content != .empty }
    }

    /// Whether a mapping stands under `key`, where something else may stand too.
    package func holdsMapping(_ key: String) -> Bool {
        guard case .mapping = entries.first(where: { $0.key == key })?.value.content else { return false }
        return true
    }

    /// The keys of this mapping, in the file's order, where the user chose them: all of them are known.
    package func names() -> [String] {
        known = entries.map(\.key)
        return known
    }

    /// Hands each mapping under `key`, whose own keys are names that the user chose, to `body`.
    package func named<R>(_ key: String, _ body: (String, MappingReader) throws(ConfigurationError) -> R)
        throws(ConfigurationError) -> [String: R]
    {
        let found = try mapping(key) { (names) throws(ConfigurationError) in
            var result: [String: R] = [:]
            for name in names.names() {
                result[name] = try names.mapping(name) { (reader) throws(ConfigurationError) in
                    try body(name, reader)
                }
            }
            return result
        }
        return found ?? [:]
    }

    // MARK: - Errors

    /// An error at the line of `key`, for checks that this reader knows nothing about.
    package func error(_ key: String, _ message: String) -> ConfigurationError {
        error(entries.first { $0.key == key }?.line ?? line, key, message)
    }

    private func error(_ line: Int, _ key: String, _ message: String) -> ConfigurationError {
        ConfigurationError(file: file, line: line, "`\(joined(key))` \(message)")
    }

    private func joined(_ key: String) -> String { (path + [key]).joined(separator: ".") }

    private func refuseUnknownKeys() throws(ConfigurationError) {
        for entry in entries where !known.contains(entry.key) {
            let nearest = known.map { ($0, editDistance(entry.key, $0)) }.min { $0.1 < $1.1 }
            let hint: String
            if let nearest, nearest.1 <= max(2, entry.key.count / 3) {
                hint = "did you mean `\(nearest.0)`?"
            } else {
                hint = "known are \(known.map { "`\($0)`" }.joined(separator: ", "))"
            }
            throw ConfigurationError(
                file: file,
                line: entry.line,
                "unknown key `\(joined(entry.key))`: \(hint)"
            )
        }
    }
}

/// Insertions, deletions and replacements of characters that turn `a` into `b` (Levenshtein).
private func editDistance(_ a: String, _ b: String) -> Int {
    let b = Array(b)
    var row = Array(0...b.count)
    for (i, character) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for j in b.indices {
            let above = row[j + 1]
            row[j + 1] = min(above + 1, row[j] + 1, diagonal + (character == b[j] ? 0 : 1))
            diagonal = above
        }
    }
    return row[b.count]
}
