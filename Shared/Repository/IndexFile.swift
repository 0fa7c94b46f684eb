import JSON
import Posix

/// Index files: JSON that lists packs and, for each, its blobs (restic's format).
package enum IndexFile {
    /// Most blobs in a file that we write; all blobs of a pack are in one file.
    static let mostBlobs = 50_000

    package struct Malformed: Error { package let reason: String }

    /// Calls `body` for every pack. Fields that are not known are skipped, and so is `packs_to_delete`.
    package static func parse(_ text: [UInt8], _ body: (BlobID, [PackedBlob]) -> Void) throws(Malformed) {
        do {
            try text.withUnsafeBufferPointer { bytes throws(JSONError) in
                var scanner = JSONScanner(bytes)
                try scanner.object { scanner, key throws(JSONError) in
                    guard key == "packs" else { return try scanner.skip() }
                    if try scanner.null() { return }
                    try scanner.array { scanner throws(JSONError) in
                        let (id, blobs) = try pack(&scanner)
                        body(id, blobs)
                    }
                }
                try scanner.end()
            }
        } catch { throw Malformed(reason: "\(error)") }
    }

    private static func pack(_ scanner: inout JSONScanner) throws(JSONError) -> (BlobID, [PackedBlob]) {
        var id: BlobID?
        var blobs: [PackedBlob] = []
        let start = scanner.offset
        try scanner.object { scanner, key throws(JSONError) in
            if key == "id" {
                id = try Self.id(&scanner)
            } else if key == "blobs" {
                if try scanner.null() { return }
                try scanner.array { scanner throws(JSONError) in blobs.append(try blob(&scanner)) }
            } else {
                try scanner.skip()
            }
        }
        guard let id else { throw JSONError(.expected("a pack with an id"), at: start) }
        return (id, blobs)
    }

    private static func blob(_ scanner: inout JSONScanner) throws(JSONError) -> PackedBlob {
        var id: BlobID?
        var kind: BlobKind?
        var offset: UInt64?
        var length: UInt64?
        var uncompressed: UInt64 = 0
        let start = scanner.offset
        try scanner.object { scanner, key throws(JSONError) in
            if key == "id" {
                id = try Self.id(&scanner)
            } else if key == "type" {
                kind = try scanner.withString { text throws(JSONError) in
                    text == "data" ? .data : text == "tree" ? .tree : nil
                }
            } else if key == "offset" {
                offset = try scanner.unsigned()
            } else if key == "length" {
                length = try scanner.unsigned()
            } else if key == "uncompressed_length" {
                uncompressed = try scanner.unsigned()
            } else {
                try scanner.skip()
            }
        }
        guard let id, let kind, let offset, let length, length >= UInt64(Sealer.overhead),
            length <= UInt64(BlobLimits.pack), offset <= UInt64(BlobLimits.pack) - length,
            let plain = UInt32(exactly: uncompressed)
        else { throw JSONError(.expected("a blob with id, type, offset and length"), at: start) }
        return PackedBlob(
            id: id,
            kind: kind,
            offset: UInt32(offset),
            stored: UInt32(length),
            uncompressed: plain
        )
    }

    private static func id(_ scanner: inout JSONScanner) throws(JSONError) -> BlobID {
        let start = scanner.offset
        let id = try scanner.withString { BlobID(digits: UnsafeRawBufferPointer($0)) }
        guard let id else { throw JSONError(.expected("64 hexadecimal digits"), at: start) }
        return id
    }

    /// The JSON of an index file.
    package static func encode(_ packs: [(id: BlobID, blobs: [PackedBlob])]) -> [UInt8] {
        var text: [UInt8] = []
        func put(_ string: StaticString) {
            text.append(
                contentsOf: UnsafeBufferPointer(start: string.utf8Start, count: string.utf8CodeUnitCount)
            )
        }
        put("{\"packs\":[")
        for (index, pack) in packs.enumerated() {
            put(index == 0 ? "{\"id\":\"" : ",{\"id\":\"")
            pack.id.appendHex(to: &text)
            put("\",\"blobs\":[")
            for (index, blob) in pack.blobs.enumerated() {
                put(index == 0 ? "{\"id\":\"" : ",{\"id\":\"")
                blob.id.appendHex(to: &text)
                put(
                    blob.kind == .data
                        ? "\",\"type\":\"data\",\"offset\":" : "\",\"type\":\"tree\",\"offset\":"
                )
                text.append(contentsOf: String(blob.offset).utf8)
                put(",\"length\":")
                text.append(contentsOf: String(blob.stored).utf8)
                if blob.uncompressed != 0 {
                    put(",\"uncompressed_length\":")
                    text.append(contentsOf: String(blob.uncompressed).utf8)
                }
                put("}")
            }
            put("]}")
        }
        put("]}")
        return text
    }
}

private func == (bytes: UnsafeBufferPointer<UInt8>, text: StaticString) -> Bool {
    bytes.count == text.utf8CodeUnitCount
        && bytes.elementsEqual(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
}

extension Repository {
    /// Loads all index files.
    /// - Parameter damaged: Told of each file that cannot be used. It may throw, which ends the loading, as
    ///   it does unless given; when it returns, loading goes on without that file.
    package func loadIndex(damaged: (RepositoryError) throws -> Void = { throw $0 }) throws -> BlobIndex {
        var index = BlobIndex()
        for id in try list(.index) {
            do {
                for pack in try indexFile(id) { index.add(pack: pack.id, pack.blobs) }
            } catch let error as RepositoryError {
                try damaged(error)
            }
        }
        return index
    }

    /// Loads all index files, without what they say of packs that are not there.
    package func loadIndexOfPacksThere() throws -> BlobIndex {
        var index = BlobIndex()
        let there = Set(try listPacks())
        for id in try list(.index) {
            for pack in try indexFile(id) where there.contains(pack.id) {
                index.add(pack: pack.id, pack.blobs)
            }
        }
        return index
    }

    /// What one index file lists, parsed whole before anything of it is taken.
    /// - Throws: `RepositoryError.damaged`, `SystemCallError`.
    func indexFile(_ id: BlobID) throws -> [(id: BlobID, blobs: [PackedBlob])] {
        let text = try read(.index, id)
        var packs: [(id: BlobID, blobs: [PackedBlob])] = []
        do throws(IndexFile.Malformed) { try IndexFile.parse(text) { packs.append(($0, $1)) } } catch {
            throw RepositoryError.damaged(file: filePath(.index, id), reason: error.reason)
        }
        return packs
    }
}

extension Repository {
    /// Lists packs, which are durable, in as few files as the bound allows; all blobs of a pack in one file.
    /// - Returns: The files.
    @discardableResult
    func writeIndex(_ packs: [(id: BlobID, blobs: [PackedBlob])]) throws -> [BlobID] {
        var files: [BlobID] = []
        var rest = packs[...]
        while !rest.isEmpty {
            var blobs = 0
            let part = rest.prefix { pack in
                defer { blobs += pack.blobs.count }
                return blobs == 0 || blobs + pack.blobs.count <= IndexFile.mostBlobs
            }
            files.append(try write(IndexFile.encode(Array(part)), to: .index))
            rest = rest.dropFirst(part.count)
        }
        return files
    }
}
