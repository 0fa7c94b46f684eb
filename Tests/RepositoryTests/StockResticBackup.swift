import Glibc
import Posix
import Repository
import Restore
import Retrieval
import Testing
import TestSupport

/// Stores a folder with our own writer, so that tests can show it to stock restic and restore it.
struct FolderBackup: ~Copyable {
    private let repository: Repository
    private let writer: BlobWriter
    /// Files are cut here, in bytes.
    private let cut: Int

    init(_ repository: Repository, cut: Int = 1 << 20) throws {
        self.repository = repository
        self.cut = cut
        writer = try BlobWriter(repository, try repository.loadIndex())
    }

    /// A repository with one password at `path`.
    static func create(_ path: String, password: String) throws -> Repository {
        try Repository.create(at: path, keys: [.password(password)])
    }

    /// Makes a snapshot with what is in the folder `path` at its root.
    @discardableResult
    func snapshot(_ path: String) throws -> BlobID {
        let root = try store(FileDescriptor(open: path, O_RDONLY | O_DIRECTORY))
        return try snapshot(tree: root)
    }

    func snapshot(tree root: BlobID) throws -> BlobID {
        try writer.flush()
        let snapshot = Snapshot(
            time: ZonedTime(nanoseconds: Time.now()),
            tree: root,
            paths: ["/data"],
            hostname: "testhost",
            username: "root",
            tags: ["holdfast"],
            programVersion: "holdfast test"
        )
        return try repository.write(snapshot.encoded(), to: .snapshots)
    }

    func add(tree nodes: [Node]) throws -> BlobID { try writer.add(Tree(nodes: nodes).encoded(), .tree) }
    /// A tree of any text.
    func add(treeText: String) throws -> BlobID { try writer.add(Array(treeText.utf8), .tree) }
    func add(data: [UInt8]) throws -> BlobID { try writer.add(data, .data) }
    func flush() throws { try writer.flush() }

    private func store(_ folder: consuming FileDescriptor) throws -> BlobID {
        var directory = try Directory(folder)
        var builder = TreeBuilder()
        for name in try directory.sortedNames() {
            try builder.append(try node(directory.descriptor, name))
        }
        return try writer.add(builder.finish(), .tree)
    }

    private func node(_ folder: Int32, _ name: [UInt8]) throws -> Node {
        let status = try FileStatus(at: folder, name)
        let kind: Node.Kind =
            switch status.kind {
            case .directory: .directory
            case .symlink: .symlink
            case .fifo: .fifo
            case .blockDevice: .blockDevice
            case .characterDevice: .characterDevice
            default: .file
            }
        var node = Node(
            name: name,
            kind: kind,
            mtime: ZonedTime(nanoseconds: status.mtime),
            ctime: ZonedTime(nanoseconds: status.ctime)
        )
        node.mode = Node.goMode(posix: status.mode)
        node.uid = status.uid
        node.gid = status.gid
        node.inode = status.inode
        node.deviceID = status.device
        for attribute in try Files.attributes(at: folder, name) {
            node.attributes.append(Node.Attribute(name: attribute.name, value: attribute.value))
        }
        switch kind {
        case .directory:
            let raw = try retryingOnInterrupt("openat", escaped(name)) {
                withCName(name) { openat(folder, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) }
            }
            node.subtree = try store(FileDescriptor(owning: raw))
        case .symlink:
            node.links = UInt64(status.links)
            node.linkTarget = try Files.linkTarget(at: folder, name)
        case .blockDevice, .characterDevice:
            node.links = UInt64(status.links)
            node.device = status.rdev
        case .file:
            node.links = UInt64(status.links)
            node.size = status.size
            node.content = try content(folder, name)
        default: break
        }
        return node
    }

    private func content(_ folder: Int32, _ name: [UInt8]) throws -> [BlobID] {
        let raw = try retryingOnInterrupt("openat", escaped(name)) {
            withCName(name) { openat(folder, $0, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) }
        }
        let file = FileDescriptor(owning: raw)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: cut, alignment: 16)
        defer { buffer.deallocate() }
        var ids: [BlobID] = []
        var offset: Int64 = 0
        while true {
            let got = try file.pread(into: buffer, at: offset)
            if got == 0 { return ids }
            ids.append(try writer.add(UnsafeRawBufferPointer(rebasing: buffer[..<got]), .data))
            offset += Int64(got)
        }
    }
}

/// Restores a snapshot with our own reader.
@discardableResult
func restored(
    _ repository: Repository,
    _ snapshot: BlobID,
    to target: String,
    include: [String] = []
) throws -> RestoreReport {
    try Restorer(sender(repository, snapshot, include: include)).run(to: target)
}

/// The side of a restore that has the snapshot.
func sender(_ repository: Repository, _ snapshot: BlobID, include: [String] = []) throws -> SnapshotSender {
    try SnapshotSender(
        repository,
        repository.loadIndex(damaged: { _ in }),
        host: "lisbon",
        id: snapshot.hex,
        snapshot: repository.snapshot(snapshot),
        include: include.map { Array($0.utf8) }
    )
}
