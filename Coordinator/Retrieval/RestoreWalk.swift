import Digest
import Posix
import Repository
import Restore
import Wire

/// Goes through a snapshot in the order of the protocol (protocol.md): all entries of a folder, then the folders in it,
/// depth first; only what is selected, and the folders on the way there. What no receiver could take is a problem here,
/// so that the receiver may be strict.
struct RestoreWalk {
    struct Problem {
        let path: [UInt8]
        let trouble: RestoreReply.Trouble
        let message: String
    }

    /// (A part of) the entries of the next folder.
    struct Step {
        var items: [Item] = []
        var problems: [Problem] = []
        /// The folder has no more entries.
        var isLast = false
    }

    private struct Level {
        let name: [UInt8]
        let scope: Selection.Scope
        /// Wanted entries that are still to be given, the first last.
        var nodes: [Node] = []
        var problems: [Problem] = []
        /// Folders that are still to be gone into.
        var directories = Queue<(name: [UInt8], tree: BlobID?, scope: Selection.Scope)>()
    }

    private let reader: BlobReader
    private let index: BlobIndex
    private let selection: Selection
    private var levels: [Level] = []
    private var isListing = true
    private(set) var reached = Set<Int>()
    /// Some folder could not be read.
    private(set) var isDamaged = false

    /// - Throws: `RestoreError.nothingReadable` when the root cannot be read.
    init(_ reader: BlobReader, _ index: BlobIndex, _ root: BlobID, _ selection: Selection) throws {
        self.reader = reader
        self.index = index
        self.selection = selection
        let level = try load([], root, selection.root)
        levels = [level]
        if level.nodes.isEmpty, isDamaged, let problem = level.problems.first {
            throw RestoreError.nothingReadable(reason: problem.message)
        }
    }

    private var path: [UInt8] { Array(levels.dropFirst().map(\.name).joined(separator: [0x2F])) }

    private func path(of name: [UInt8]) -> [UInt8] { levels.count <= 1 ? name : path + [0x2F] + name }

    /// The next step; nil at the end.
    ///
    /// - Throws: `SystemCallError` for what is no damage (no permission, no descriptors left).
    mutating func next() throws -> Step? {
        if !isListing {
            guard try descend() else { return nil }
            isListing = true
        }
        var step = Step()
        guard var level = levels.popLast() else { return nil }
        step.problems = level.problems
        level.problems = []
        // What an entry takes in a frame; a frame of half its most size has room for one more of any.
        var room = WireLimit.body / 2
        while step.items.count < RestoreLimit.entries, room > 0, let node = level.nodes.popLast() {
            levels.append(level)
            let path = path(of: node.name)
            level = levels.removeLast()
            guard let item = item(node, path, &step.problems) else { continue }
            room -= Self.size(of: item)
            step.items.append(item)
        }
        step.isLast = level.nodes.isEmpty
        levels.append(level)
        isListing = !step.isLast
        return step
    }

    private static func size(of item: Item) -> Int {
        let entry = item.entry
        return 100 + entry.name.count + entry.target.count
            + entry.attributes.reduce(0) { $0 + $1.name.count + $1.value.count + 6 }
            + min(item.parts.count, RestoreLimit.partsPerFrame) * 36
    }

    /// Goes on to the next folder; false when there is none.
    private mutating func descend() throws -> Bool {
        while !levels.isEmpty {
            if let (name, tree, scope) = levels[levels.count - 1].directories.popFirst() {
                levels.append(Level(name: name, scope: scope))
                let level = try load(name, tree, scope)
                levels[levels.count - 1] = level
                return true
            }
            levels.removeLast()
        }
        return false
    }

    // MARK: Folders

    /// Reads a folder; `levels` has its path already.
    private mutating func load(_ name: [UInt8], _ tree: BlobID?, _ scope: Selection.Scope) throws -> Level {
        var level = Level(name: name, scope: scope)
        let path = path
        func lost(_ problem: TreeProblem) {
            level.problems.append(Problem(path: path, trouble: .lost, message: "\(problem)"))
        }
        guard let tree else {
            lost(.noSubtree)
            return level
        }
        guard levels.count <= RestoreLimit.depth else {
            lost(.tooDeep(RestoreLimit.depth))
            return level
        }
        let text: [UInt8]
        do { text = try reader.read(tree, .tree) } catch let error as RepositoryError {
            isDamaged = true
            lost(.unreadable(tree, reason: "\(error)"))
            return level
        }
        var nodes: [Node] = []
        var inOrder = true
        do {
            try Tree.scan(text) {
                nodes.append($0)
            } problem: { (error, _) in
                // What is out of order can be restored all the same.
                if case .order = error { inOrder = false } else { lost(.malformed(tree, error)) }
            }
        } catch {
            isDamaged = true
            lost(.malformed(tree, error))
        }
        if !inOrder { nodes = sorted(nodes, &level.problems) }
        let depth = levels.count - 1
        for node in nodes {
            let found = selection.scope(of: node.name, at: max(0, depth), in: scope) { reached.insert($0) }
            guard let scope = found else { continue }
            if node.kind == .directory {
                level.directories.append((node.name, node.subtree, scope))
            } else if case .towards = scope {
                continue
            }
            level.nodes.append(node)
        }
        level.nodes.reverse()
        return level
    }

    /// In byte order; of several with one name the first.
    private func sorted(_ nodes: [Node], _ problems: inout [Problem]) -> [Node] {
        var result: [Node] = []
        let order = nodes.indices.sorted {
            nodes[$0].name == nodes[$1].name
                ? $0 < $1 : nodes[$0].name.lexicographicallyPrecedes(nodes[$1].name)
        }
        for index in order {
            let node = nodes[index]
            if result.last?.name == node.name {
                let path = levels.count <= 1 ? node.name : path + [0x2F] + node.name
                let message = "could not be restored: its folder has two entries of this name"
                problems.append(Problem(path: path, trouble: .lost, message: message))
            } else {
                result.append(node)
            }
        }
        return result
    }

    // MARK: Entries

    /// What is told of a node; nil, with the reason among the problems, for what can't be restored.
    private func item(_ node: Node, _ path: [UInt8], _ problems: inout [Problem]) -> Item? {
        func lost(_ message: String) {
            problems.append(Problem(path: path, trouble: .lost, message: message))
        }
        let kind: Entry.Kind
        switch node.kind {
        case .file: kind = .file
        case .directory: kind = .directory
        case .symlink: kind = .symlink
        case .fifo: kind = .fifo
        case .blockDevice: kind = .blockDevice
        case .characterDevice: kind = .characterDevice
        case .socket:
            let message = "a socket means nothing without the program behind it"
            problems.append(Problem(path: path, trouble: .leftOut, message: message))
            return nil
        case .unknown(let kind):
            lost("could not be restored: it is of the unknown type \"\(kind)\"")
            return nil
        }
        var entry = Entry(kind: kind, name: node.name)
        guard Entry.isName(node.name) else {
            lost("was refused: it is a name that no file can have")
            return nil
        }
        entry.permissions = node.permissions
        entry.uid = node.uid
        entry.gid = node.gid
        entry.mtime = node.mtime.nanoseconds
        entry.ctime = node.ctime.nanoseconds
        entry.inode = node.inode
        entry.rdev = node.device
        if node.kind == .file, node.links > 1, node.inode != 0 {
            entry.links = UInt32(clamping: node.links)
            entry.device = node.deviceID
        }
        if kind == .symlink {
            guard !node.linkTarget.isEmpty, node.linkTarget.count < 4096, !node.linkTarget.contains(0) else {
                lost("was refused: no symbolic link can have its target")
                return nil
            }
            entry.target = node.linkTarget
        }
        takeAttributes(node, &entry, lost)
        guard kind == .file else { return Item(entry: entry, parts: []) }
        guard let parts = parts(node, lost) else { return nil }
        entry.size = parts.reduce(0) { $0 + UInt64($1.length) }
        if entry.size != node.size, parts.last?.length != 0 {
            lost("it has \(entry.size) bytes, but its folder says \(node.size)")
        }
        return Item(entry: entry, parts: parts)
    }

    private func takeAttributes(_ node: Node, _ entry: inout Entry, _ lost: (String) -> Void) {
        var room = Entry.maximumAttributeBytes / 4
        for attribute in node.attributes {
            let name = attribute.name
            room -= name.count + attribute.value.count
            guard !name.isEmpty, name.count <= 255, !name.contains(0), room >= 0,
                entry.attributes.count < Int(UInt16.max)
            else {
                lost("an extended attribute was left out: no file system could hold it")
                return
            }
            entry.attributes.append(Entry.Attribute(name: name, value: attribute.value))
        }
    }

    private func parts(_ node: Node, _ lost: (String) -> Void) -> [Part]? {
        guard let content = node.content else {
            lost("could not be restored: its folder says nothing of its content")
            return nil
        }
        guard content.count <= RestoreLimit.parts else {
            lost(
                "could not be restored: it has \(content.count) parts, more than are sent; restic can restore it"
            )
            return nil
        }
        var parts: [Part] = []
        parts.reserveCapacity(content.count)
        var size: UInt64 = 0
        for id in content {
            let length = index.lookup(id, .data).map { UInt32(clamping: $0.blob.plain) }
            size += UInt64(length ?? 0)
            guard size <= UInt64(Int64.max) else { break }
            if length == 0 { continue }
            parts.append(Part(length: length ?? 0, hash: id.digest))
            // Without its length nothing behind it has a place.
            if length == nil { break }
        }
        return parts
    }
}
