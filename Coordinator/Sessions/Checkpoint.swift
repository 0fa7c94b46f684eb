import JSON
import Posix
import Repository

/// What an interrupted capture left behind for the next one: a tree of all that is stored whole, and how far the
/// file that was being received had come. It lies sealed in the repository's `holdfast/interrupted`; everything it
/// names was synced and indexed before it was written.
struct Checkpoint {
    /// A file whose first bytes are stored.
    struct PartialFile {
        /// Names from the root down to the file.
        var path: [[UInt8]]
        var size: UInt64
        var mtime: Int64
        var ctime: Int64
        var inode: UInt64
        /// The stored chunks from the first byte on.
        var content: [BlobID]
        /// Bytes in `content`.
        var stored: UInt64
    }

    /// Its name in the repository's `holdfast/`.
    static let fileName = "interrupted"

    var tree: BlobID
    var partial: PartialFile?

    var encoded: [UInt8] {
        var members: [(String, JSON)] = [("tree", JSON(tree.description))]
        if let partial {
            members.append(
                (
                    "partial",
                    JSON([
                        ("path", JSON(partial.path.map { hex($0) })), ("size", JSON(partial.size)),
                        ("mtime", JSON(partial.mtime)), ("ctime", JSON(partial.ctime)),
                        ("inode", JSON(partial.inode)), ("content", JSON(partial.content.map(\.description))),
                        ("stored", JSON(partial.stored)),
                    ])
                )
            )
        }
        return JSON(members).encoded()
    }

    /// Nil for anything that is not such a record: a capture then starts without it.
    init?(_ record: [UInt8]) {
        guard let json = try? JSON(parsing: record),
            let tree = json["tree"]?.string.flatMap(BlobID.init(hex:))
        else { return nil }
        self.tree = tree
        guard let part = json["partial"], let path = part["path"]?.strings, let size = part["size"]?.uint64,
            let mtime = part["mtime"]?.int64, let ctime = part["ctime"]?.int64,
            let inode = part["inode"]?.uint64, let content = part["content"]?.strings,
            let stored = part["stored"]?.uint64
        else { return }
        let names = path.compactMap { bytes(hex: $0) }
        let blobs = content.compactMap { BlobID(hex: $0) }
        guard names.count == path.count, blobs.count == content.count else { return }
        partial = PartialFile(
            path: names,
            size: size,
            mtime: mtime,
            ctime: ctime,
            inode: inode,
            content: blobs,
            stored: stored
        )
    }

    init(tree: BlobID, partial: PartialFile?) {
        self.tree = tree
        self.partial = partial
    }
}
