import Posix
import Repository
import Wire

/// A folder that the agent is describing, or of which files are still to come.
final class OpenFolder {
    let name: [UInt8]
    let place: Place
    let depth: Int
    let parent: OpenFolder?
    /// Where this folder's node stands in its parent.
    let slot: Int
    /// The same folder in earlier trees, the newest first.
    let earlier: [EarlierFolder]

    /// Entries in byte order of their names, as far as they are listed.
    private(set) var nodes: [Node] = []
    /// Subfolders of earlier trees, by the slot of ours.
    private var earlierSubtrees: [Int: [BlobID]] = [:]
    private var directories: [Int] = []
    private var nextDirectory = 0
    /// Files that were wanted and are not here yet.
    private var pending: Set<Int> = []
    /// Files that were gone or unreadable when their turn came.
    private var missing: Set<Int> = []
    private var open: [Int: OpenFolder] = [:]
    /// Whether this folder and all below it have been listed.
    private var isListed = false
    /// Whether the list of this folder itself has ended.
    private var isListEnded = false
    /// Stands for the path, in the journal of an interrupted run.
    let pathHash: UInt64
    /// Bytes that its nodes take, and those of `earlier`, about.
    private(set) var memory = 0

    init(name: [UInt8], place: Place, parent: OpenFolder?, slot: Int, earlier: [EarlierFolder]) {
        self.name = name
        self.place = place
        self.parent = parent
        self.slot = slot
        self.earlier = earlier
        depth = (parent?.depth ?? 0) + 1
        // FNV-1a (Fowler, Noll, Vo): the same in every run.
        var hash = parent?.pathHash ?? 0xCBF2_9CE4_8422_2325
        for byte in name + [0x2F] { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        pathHash = hash
    }

    /// Bytes that a node takes in memory, about; measured at 4,000,000 entries.
    static func memory(of node: Node) -> Int {
        let attributes = node.attributes.reduce(0) { $0 + 112 + $1.name.count + $1.value.count }
        let content = (node.content?.count ?? 0) * BlobID.byteCount
        return MemoryLayout<Node>.stride + 96 + node.name.count + node.linkTarget.count + attributes + content
    }

    /// Nothing is missing any more: the tree can be written.
    var isComplete: Bool { isListed && pending.isEmpty && open.isEmpty }

    /// Names from the root down, without the root's own.
    var path: [[UInt8]] { (parent?.path ?? []) + (parent == nil ? [] : [name]) }

    /// Adds an entry that is complete, or a folder, or (with `wanted`) a file whose bytes are to come.
    func append(_ node: Node, earlierSubtrees subtrees: [BlobID], wanted: Bool) -> Int {
        nodes.append(node)
        memory += Self.memory(of: node) + (node.kind == .directory ? 112 : 0)
        let slot = nodes.count - 1
        if node.kind == .directory {
            directories.append(slot)
            if !subtrees.isEmpty { earlierSubtrees[slot] = subtrees }
        }
        if wanted { pending.insert(slot) }
        return slot
    }

    /// The next folder in here whose list is due, with its places in earlier trees.
    func takeNextDirectory() -> (slot: Int, earlier: [BlobID])? {
        guard nextDirectory < directories.count else { return nil }
        defer { nextDirectory += 1 }
        let slot = directories[nextDirectory]
        return (slot, earlierSubtrees.removeValue(forKey: slot) ?? [])
    }

    /// The folder's own extended attributes, which its node in the folder above gets.
    func setAttributes(_ attributes: [Node.Attribute]) {
        parent?.change(slot) { $0.attributes = attributes }
    }

    private func change(_ slot: Int, _ change: (inout Node) -> Void) {
        memory -= Self.memory(of: nodes[slot])
        change(&nodes[slot])
        memory += Self.memory(of: nodes[slot])
    }

    func opened(_ folder: OpenFolder) { open[folder.slot] = folder }
    func listEnded() { isListEnded = true }
    func listed() { isListed = true }

    func received(_ slot: Int, _ change: (inout Node) -> Void) {
        self.change(slot, change)
        pending.remove(slot)
    }

    func lost(_ slot: Int) {
        missing.insert(slot)
        pending.remove(slot)
    }

    func closed(_ folder: OpenFolder, tree: BlobID) {
        nodes[folder.slot].subtree = tree
        open[folder.slot] = nil
    }

    /// The nodes of the finished tree, with `extra` in its place by name.
    func finalNodes(adding extra: Node?) -> [Node] {
        var result =
            missing.isEmpty ? nodes : nodes.indices.filter { !missing.contains($0) }.map { nodes[$0] }
        if let extra {
            result.removeAll { $0.name == extra.name }
            let place = result.firstIndex { extra.name.lexicographicallyPrecedes($0.name) } ?? result.count
            result.insert(extra, at: place)
        }
        return result
    }

    /// The nodes that are stored whole by now; `subtree` makes the tree of a folder that is still open. What this run
    /// has not come to yet is as the last of the earlier trees has it, so that a run that is cut early does not
    /// forget what the one before had stored.
    func storedNodes(_ subtree: (OpenFolder) throws -> BlobID) throws -> [Node] {
        var result: [Node] = []
        for (slot, node) in nodes.enumerated() where !pending.contains(slot) && !missing.contains(slot) {
            var node = node
            if node.kind == .directory && node.subtree == nil {
                if let folder = open[slot] {
                    node.subtree = try subtree(folder)
                } else if let earlier = earlierSubtrees[slot]?.last {
                    node.subtree = earlier
                } else {
                    continue
                }
            }
            result.append(node)
        }
        if !isListEnded, let earlier = earlier.last { result += earlier.nodes(after: nodes.last?.name) }
        return result
    }
}

/// One folder of an earlier tree, read along with the list of the same folder now; both ascend by name.
final class EarlierFolder {
    private let nodes: [Node]
    private var next = 0

    init(_ nodes: [Node]) { self.nodes = nodes }

    /// Bytes that it takes, about.
    var memory: Int { nodes.reduce(0) { $0 + OpenFolder.memory(of: $1) } }

    /// The nodes behind a name; all of them without one.
    func nodes(after name: [UInt8]?) -> ArraySlice<Node> {
        guard let name else { return nodes[...] }
        var low = 0
        var high = nodes.count
        while low < high {
            let middle = (low + high) / 2
            if name.lexicographicallyPrecedes(nodes[middle].name) { high = middle } else { low = middle + 1 }
        }
        return nodes[low...]
    }

    /// The node of this name. Names must be asked for in ascending order.
    func node(_ name: [UInt8]) -> Node? {
        while next < nodes.count, nodes[next].name.lexicographicallyPrecedes(name) { next += 1 }
        return next < nodes.count && nodes[next].name == name ? nodes[next] : nil
    }
}
