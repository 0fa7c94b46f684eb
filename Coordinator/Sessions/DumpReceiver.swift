import Immich
import Posix
import Repository
import Wire

/// Stores a dump as it comes, in small chunks, so that tomorrow's shares most of them, and insists that it is whole.
struct DumpReceiver {
    private let name: String
    private let writer: BlobWriter
    private let chunker: Chunker
    private var tail: DumpTail
    private var content: [BlobID] = []

    /// - Throws: `CaptureError.refused` for a name that Immich would not list.
    init(name: String, kind: DumpKind, writer: BlobWriter, chunker: Chunker) throws {
        guard DumpName.isAccepted(name), name.hasSuffix(".sql") else {
            throw CaptureError.refused(
                "the dump's name \(escaped(Array(name.utf8))) is not one that Immich accepts"
            )
        }
        self.name = name
        self.writer = writer
        self.chunker = chunker
        tail = DumpTail(kind == .database ? .database : .cluster)
    }

    var count: UInt64 { tail.count }

    mutating func data(_ bytes: UnsafeRawBufferPointer) throws {
        tail.add(bytes)
        try chunker.feed(bytes) { content.append(try writer.add($0, .data, .always)) }
    }

    /// The node of the whole dump, dated `time` (nanoseconds since 1970-01-01T00:00:00Z).
    ///
    /// - Throws: `CaptureError.refused` when it is too short or lacks its closing line.
    mutating func finish(time: Int64) throws -> Node {
        try chunker.finish { content.append(try writer.add($0, .data, .always)) }
        do { try tail.check() } catch { throw CaptureError.refused("\(error)") }
        var node = Node(
            name: Array(name.utf8),
            kind: .file,
            mtime: ZonedTime(nanoseconds: time)
        )
        node.mode = Node.goMode(posix: 0o100600)
        node.links = 1
        node.size = tail.count
        node.content = content
        return node
    }
}
