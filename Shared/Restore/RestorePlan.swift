import Repository

/// What a restore will write, found by walking the trees before anything is made.
struct RestorePlan {
    private(set) var files = 0
    /// Of file content; a file with several names once.
    private(set) var bytes: UInt64 = 0
    /// With what file systems round up to, about.
    private(set) var space: UInt64 = 0

    private static let block: UInt64 = 4096

    /// - Throws: `RestoreError.nothingReadable`, `RestoreError.notInSnapshot`.
    init(_ reader: BlobReader, _ tree: BlobID, _ selection: Selection) throws {
        var reached = Set<Int>()
        var linked = Set<LinkKey>()
        var damaged = false
        var steps = SelectedWalk(TreeWalk(reader, from: tree), selection)
        while let step = try steps.next(reached: { reached.insert($0) }) {
            switch step {
            case .problem(let problem):
                damaged = true
                if steps.isAtRoot, case .unreadable(_, let reason) = problem {
                    throw RestoreError.nothingReadable(reason: reason)
                }
            case .entry(let node, wanted: true) where node.kind == .file:
                files += 1
                if let key = LinkKey(node), !linked.insert(key).inserted { continue }
                add(node.size)
            case .entry: space += Self.block
            }
        }
        // A path below a directory that cannot be read may exist: the restore itself reports the directory.
        if !damaged, reached.count < selection.includes.count {
            let missing = selection.includes.indices.filter { !reached.contains($0) }
            throw RestoreError.notInSnapshot(
                missing.map { Array(selection.includes[$0].joined(separator: [0x2F])) }
            )
        }
    }

    private mutating func add(_ size: UInt64) {
        // Sizes are what a tree says, which may be anything.
        let (sum, overflow) = bytes.addingReportingOverflow(size)
        bytes = overflow ? .max : sum
        let rounded = size > .max - Self.block ? .max : (size + Self.block - 1) / Self.block * Self.block
        let (total, carried) = space.addingReportingOverflow(rounded)
        space = carried ? .max : total
    }
}

/// What the names of one file have in common; nil for a file with one name.
struct LinkKey: Hashable {
    let inode: UInt64
    let device: UInt64

    init?(_ node: Node) {
        guard node.kind == .file, node.links > 1, node.inode != 0 else { return nil }
        inode = node.inode
        device = node.deviceID
    }
}

/// A walk that gives only what is selected, and the directories on the way there.
struct SelectedWalk {
    enum Step {
        /// A directory that only leads to something wanted is not `wanted` itself.
        case entry(Node, wanted: Bool)
        case problem(TreeProblem)
    }

    private(set) var walk: TreeWalk
    private let selection: Selection
    // One for each directory on the way down, the root first.
    private var scopes: [Selection.Scope]

    init(_ walk: TreeWalk, _ selection: Selection) {
        self.walk = walk
        self.selection = selection
        scopes = [selection.root]
    }

    var path: [UInt8] { walk.path }
    /// Directories above the entry given last.
    var depth: Int { walk.depth }
    var isAtRoot: Bool { walk.path.isEmpty }

    mutating func skip() { walk.skip() }

    mutating func next(reached: (Int) -> Void = { _ in }) throws -> Step? {
        while let step = try walk.next() {
            let node: Node
            switch step {
            case .problem(let problem): return .problem(problem)
            case .entry(let entry): node = entry
            }
            let depth = walk.depth
            scopes.removeLast(scopes.count - depth - 1)
            guard
                let scope = selection.scope(of: node.name, at: depth, in: scopes[depth], reached: reached)
            else {
                walk.skip()
                continue
            }
            if node.kind == .directory { scopes.append(scope) }
            switch scope {
            case .all: return .entry(node, wanted: true)
            case .towards:
                if node.kind == .directory { return .entry(node, wanted: false) }
            }
        }
        return nil
    }
}
