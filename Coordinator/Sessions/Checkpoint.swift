import JSON
import Posix
package import Repository

/// What an interrupted capture left behind for the next one: a tree of all that is stored whole, and how far
/// files that were being received had come. It lies sealed in the repository's `holdfast/interrupted`; everything it
/// names was synced and indexed before it was written.
package struct Checkpoint {
    /// A file whose first bytes are stored.
    package struct PartialFile {
        /// Names from the root down to the file.
        var path: [[UInt8]]
        var size: UInt64
        var mtime: Int64
        var ctime: Int64
        var inode: UInt64
        /// The stored chunks from the first byte on.
        var content: [BlobID]
    }

    /// Its name in the repository's `holdfast/`.
    package static let fileName = "interrupted"

    package var tree: BlobID
    package var partials: [PartialFile]

    init(tree: BlobID, partials: [PartialFile]) {
        self.tree = tree
        self.partials = partials
    }

    var encoded: [UInt8] {
        let parts = partials.map { part in
            JSON([
                ("path", JSON(part.path.map { hex($0) })), ("size", JSON(part.size)),
                ("mtime", JSON(part.mtime)), ("ctime", JSON(part.ctime)), ("inode", JSON(part.inode)),
                ("content", JSON(part.content.map(\.description))),
            ])
        }
        return JSON([("tree", JSON(tree.description)), ("partials", .array(parts))]).encoded()
    }

    /// Nil for anything that is not such a record: a capture then starts without it.
    package init?(_ record: [UInt8]) {
        guard let json = try? JSON(parsing: record),
            let tree = json["tree"]?.string.flatMap(BlobID.init(hex:))
        else { return nil }
        self.init(tree: tree, partials: (json["partials"]?.array ?? []).compactMap(PartialFile.init))
    }
}

extension Checkpoint.PartialFile {
    fileprivate init?(_ part: JSON) {
        guard let path = part["path"]?.strings, let size = part["size"]?.uint64,
            let mtime = part["mtime"]?.int64, let ctime = part["ctime"]?.int64,
            let inode = part["inode"]?.uint64, let content = part["content"]?.strings
        else { return nil }
        let names = path.compactMap { bytes(hex: $0) }
        let blobs = content.compactMap { BlobID(hex: $0) }
        guard names.count == path.count, blobs.count == content.count else { return nil }
        self.init(path: names, size: size, mtime: mtime, ctime: ctime, inode: inode, content: blobs)
    }
}
