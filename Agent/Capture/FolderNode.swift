import Glibc
import Immich
import Posix
import Wire

/// A folder of the snapshot's tree: one on disk, or one that is only put together.
///
/// Its descriptor is open while it is pinned. A folder with wanted files that are sent later is opened again through the folders
/// above it, and must be the same one: no path is ever built, and nobody who moves folders about can lead a
/// reader elsewhere.
final class FolderNode {
    enum Content {
        /// Entries that are put together, in byte order of their names.
        case made([MadeEntry])
        /// `top`: one of Immich's six.
        case onDisk(ImmichFolder.Selection, top: Bool)
    }

    let parent: FolderNode?
    let name: [UInt8]
    let content: Content
    /// Where it is opened; nil for one that is found by its name in `parent`.
    private let path: String?
    let overlays: [MediaPlaces.Overlay]
    let depth: Int

    private var descriptor: Int32 = -1
    private var pins = 0
    /// Known since it was opened first.
    private var identity: (device: UInt64, inode: UInt64)?

    init(
        parent: FolderNode?,
        name: [UInt8],
        content: Content,
        path: String? = nil,
        overlays: [MediaPlaces.Overlay] = []
    ) {
        self.parent = parent
        self.name = name
        self.content = content
        self.path = path
        self.overlays = overlays
        depth = (parent?.depth ?? -1) + 1
    }

    deinit { if descriptor >= 0 { _ = Glibc.close(descriptor) } }

    /// Opens the folder unless it is open. Each `pin` that returns needs an `unpin`.
    ///
    /// - Throws: also ESTALE when another folder has taken its place.
    func pin() throws(SystemCallError) {
        if pins == 0, case .onDisk = content { try open() }
        pins += 1
    }

    func unpin() {
        pins -= 1
        if pins == 0 && descriptor >= 0 {
            _ = Glibc.close(descriptor)
            descriptor = -1
        }
    }

    /// Valid while pinned.
    var raw: Int32 { descriptor }

    private func open() throws(SystemCallError) {
        let opened: FileDescriptor
        if let path {
            opened = try FileDescriptor(open: path, O_RDONLY | O_DIRECTORY)
        } else if let parent {
            try parent.pin()
            defer { parent.unpin() }
            let above = parent.raw
            let raw = try retryingOnInterrupt("openat", escaped(name)) {
                withCName(name) { openat(above, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) }
            }
            opened = FileDescriptor(owning: raw)
        } else {
            throw SystemCallError("open", errno: ENOENT)
        }
        let status = try opened.status()
        if let identity, identity != (status.device, status.inode) {
            throw SystemCallError("open", errno: ESTALE, escaped(name))
        }
        identity = (status.device, status.inode)
        descriptor = opened.release()
    }

    var device: UInt64? { identity?.device }

    /// The nearest folder from here upwards that has a path of its own, and the names from there down to here.
    var base: (node: FolderNode, below: [UInt8])? {
        if path != nil { return (self, []) }
        guard case .onDisk = content, let (node, names) = parent?.base else { return nil }
        return (node, names.isEmpty ? name : names + [0x2F] + name)
    }

    /// The folder below this one.
    func child(_ name: [UInt8]) -> FolderNode {
        switch content {
        case .made(let entries):
            for case .folder(_, let node) in entries where node.name == name { return node }
            return FolderNode(parent: self, name: name, content: .made([]))
        case .onDisk(let selection, _):
            let below = overlays.filter { $0.components.first == name }
            let mounted = below.last { $0.components.count == 1 }
            return FolderNode(
                parent: self,
                name: name,
                content: .onDisk(selection, top: false),
                path: mounted?.path,
                overlays: below.filter { $0.components.count > 1 }.map {
                    MediaPlaces.Overlay(components: Array($0.components.dropFirst()), path: $0.path)
                }
            )
        }
    }

    /// Where it lies in the snapshot, for messages: `immich/upload/…`.
    var snapshotPath: [UInt8] {
        guard let parent else { return name }
        let above = parent.snapshotPath
        return above.isEmpty ? name : above + [0x2F] + name
    }
}

/// An entry of a folder that is put together.
enum MadeEntry {
    /// A file whose bytes are in memory.
    case file(Entry, bytes: [UInt8])
    case folder(Entry, FolderNode)

    var entry: Entry {
        switch self {
        case .file(let entry, _): entry
        case .folder(let entry, _): entry
        }
    }
}
