import Posix
import Repository
import Wire

extension Node {
    /// What the agent says of an entry, as a node without its content or subtree.
    ///
    /// The number of the file system is kept for hard links only: it changes with every boot, and a tree shall stay
    /// the same as long as its files do.
    init(_ entry: Entry) {
        let kind: Node.Kind
        let type: UInt32
        switch entry.kind {
        case .file: (kind, type) = (.file, 0o100000)
        case .directory: (kind, type) = (.directory, 0o040000)
        case .symlink: (kind, type) = (.symlink, 0o120000)
        case .fifo: (kind, type) = (.fifo, 0o010000)
        case .blockDevice: (kind, type) = (.blockDevice, 0o060000)
        case .characterDevice: (kind, type) = (.characterDevice, 0o020000)
        }
        self.init(
            name: entry.name,
            kind: kind,
            mtime: ZonedTime(nanoseconds: entry.mtime),
            ctime: ZonedTime(nanoseconds: entry.ctime)
        )
        mode = Node.goMode(posix: type | entry.permissions)
        uid = entry.uid
        gid = entry.gid
        inode = entry.inode
        size = entry.kind == .file ? entry.size : 0
        linkTarget = entry.target
        device = entry.rdev
        if kind != .directory && kind != .fifo { links = UInt64(max(1, entry.links)) }
        if entry.links > 1 { deviceID = entry.device }
        attributes = entry.attributes.map { Node.Attribute(name: $0.name, value: $0.value) }
    }
}
