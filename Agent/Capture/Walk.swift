import Glibc
import Immich
import Posix
import Wire

/// Walks the snapshot's tree in the order of protocol.md: a folder before what it holds, names in byte order.
///
/// Holds the sorted names of the folder that is being listed and the names of the folders still to be listed on the way down, so the
/// widest folder is the bound of its memory.
struct Walk {
    enum Step {
        /// Part of a folder's entries; with the first one the folder's own attributes.
        case list(FolderNode, [Entry], last: Bool, [Entry.Attribute])
        case failed(FolderNode, errno: Int32)
    }

    private struct Level {
        let node: FolderNode
        let folders: NameList
        var next = 0
    }

    private struct Listing {
        let node: FolderNode
        var names = NameList()
        var next = 0
        var folders = NameList()
        var attributes: [Entry.Attribute] = []
    }

    /// Bytes of entries after which a part of a list is closed; far below a frame's limit, so that one more entry
    /// with all the attributes it may have still fits.
    private static let partBytes = 128 << 10
    private var root: FolderNode?
    private var levels: [Level] = []
    private var listing: Listing?
    /// What was left out, for the report; the caller takes it away.
    var skipped: [(path: [UInt8], reason: String)] = []
    /// Where the walk crossed into another file system that Immich's container knows nothing of.
    var notes: [String] = []

    /// Without attributes and targets of links when only sizes count.
    private let describesFully: Bool

    init(_ root: FolderNode, describesFully: Bool = true) {
        self.root = root
        self.describesFully = describesFully
    }

    /// The next part of a list, at most `maximum` entries; nil when all is listed.
    mutating func next(maximum: Int) -> Step? {
        if listing == nil {
            guard let node = nextFolder() else { return nil }
            if node.depth > WireLimit.depth { return .failed(node, errno: ELOOP) }
            do throws(SystemCallError) {
                try node.pin()
                do throws(SystemCallError) { listing = try begin(node) } catch {
                    node.unpin()
                    throw error
                }
            } catch { return .failed(node, errno: error.code) }
        }
        return nextPart(maximum)
    }

    private mutating func nextFolder() -> FolderNode? {
        if let root {
            self.root = nil
            return root
        }
        while let level = levels.last {
            if level.next < level.folders.count {
                levels[levels.count - 1].next += 1
                return level.node.child(level.folders[level.next])
            }
            level.node.unpin()
            levels.removeLast()
        }
        return nil
    }

    private mutating func begin(_ node: FolderNode) throws(SystemCallError) -> Listing {
        var listing = Listing(node: node)
        switch node.content {
        case .made(let entries): for entry in entries { listing.names.append(entry.entry.name) }
        case .onDisk:
            // Nobody else reads names from this descriptor, so its copy stands at the first one.
            var directory = try Directory(
                FileDescriptor(owning: try retryingOnInterrupt("dup") { dup(node.raw) })
            )
            var mounted = node.overlays.compactMap { $0.components.count == 1 ? $0.components[0] : nil }
            while let name = try directory.next() {
                if listing.names.count == WireLimit.entriesPerFolder {
                    throw SystemCallError("readdir", errno: EFBIG)
                }
                if !mounted.isEmpty { mounted.removeAll { $0 == name } }
                listing.names.append(name)
            }
            for name in mounted { listing.names.append(name) }
            listing.names.sort()
            if describesFully {
                let found = AttributeSet { () throws(SystemCallError) in try Files.attributes(of: node.raw) }
                listing.attributes = found.kept
                if let problem = found.problem { skipped.append((node.snapshotPath, problem)) }
            }
        }
        return listing
    }

    private mutating func nextPart(_ maximum: Int) -> Step? {
        guard var current = listing else { return nil }
        // Taken out while it is changed, so that its arrays are not copied.
        listing = nil
        let node = current.node
        var entries: [Entry] = []
        var bytes = 0
        while current.next < current.names.count && entries.count < maximum && bytes < Self.partBytes {
            let name = current.names[current.next]
            current.next += 1
            guard let entry = describe(name, in: node) else { continue }
            if entry.kind == .directory { current.folders.append(name) }
            bytes += 96 + name.count + entry.target.count
            for attribute in entry.attributes { bytes += 8 + attribute.name.count + attribute.value.count }
            entries.append(entry)
        }
        let attributes = current.attributes
        current.attributes = []
        let last = current.next == current.names.count
        if last {
            // Its names are let go here; what stays are those of its folders.
            if current.folders.count > 0 {
                levels.append(Level(node: node, folders: current.folders))
            } else {
                node.unpin()
            }
        } else {
            listing = current
        }
        return .list(node, entries, last: last, attributes)
    }

    /// The entry `name`, or nil when it is not sent.
    private mutating func describe(_ name: [UInt8], in node: FolderNode) -> Entry? {
        switch node.content {
        case .made(let entries): return entries.first { $0.entry.name == name }?.entry
        case .onDisk(let selection, let top):
            do throws(SystemCallError) {
                let mounted = node.overlays.last { $0.components.count == 1 && $0.components[0] == name }
                let status: FileStatus
                if let mounted {
                    status = try FileStatus(path: mounted.path)
                } else {
                    status = try FileStatus(at: node.raw, name)
                }
                let isFolder = status.kind == .directory
                guard selection.takes(name, isFolder: isFolder, top: top) else { return nil }
                if isFolder, mounted == nil, let device = node.device, device != status.device {
                    notes.append(
                        "\(escaped(node.snapshotPath + [0x2F] + name)) is another file system; it is included"
                    )
                }
                guard var entry = Entry(name: name, status) else {
                    skipped.append((node.snapshotPath + [0x2F] + name, "a socket"))
                    return nil
                }
                if !describesFully { return entry }
                if entry.kind == .symlink { entry.target = try Files.linkTarget(at: node.raw, name) }
                // Those of a folder come with its list, those of a file with its bytes.
                if entry.kind != .file && entry.kind != .directory {
                    let found = AttributeSet { () throws(SystemCallError) in
                        try Files.attributes(at: node.raw, name)
                    }
                    entry.attributes = found.kept
                    if let problem = found.problem {
                        skipped.append((node.snapshotPath + [0x2F] + name, problem))
                    }
                }
                return entry
            } catch {
                // Gone since its name was read: it was never there.
                if error.code != ENOENT {
                    skipped.append((node.snapshotPath + [0x2F] + name, error.reason))
                }
                return nil
            }
        }
    }
}

extension Entry {
    /// What the file system says of an entry, without its target and attributes; nil for a socket.
    init?(name: [UInt8], _ status: FileStatus) {
        switch status.kind {
        case .file: self.init(kind: .file, name: name)
        case .directory: self.init(kind: .directory, name: name)
        case .symlink: self.init(kind: .symlink, name: name)
        case .fifo: self.init(kind: .fifo, name: name)
        case .blockDevice: self.init(kind: .blockDevice, name: name)
        case .characterDevice: self.init(kind: .characterDevice, name: name)
        case .socket, .unknown: return nil
        }
        permissions = status.mode & 0o7777
        uid = status.uid
        gid = status.gid
        mtime = status.mtime
        ctime = status.ctime
        inode = status.inode
        if kind == .file { size = min(status.size, UInt64(Int64.max)) }
        if kind == .blockDevice || kind == .characterDevice { rdev = status.rdev }
        // A folder's links are its subfolders' `..` and say nothing.
        if kind != .directory && status.links > 1 {
            links = status.links
            device = status.device
        }
    }
}
