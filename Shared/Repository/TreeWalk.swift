/// Something below a snapshot that cannot be used as it is.
package enum TreeProblem: Error, Equatable, CustomStringConvertible {
    /// The directory's blob cannot be read; nothing below it is known.
    case unreadable(BlobID, reason: String)
    /// What is wrong inside the directory's blob.
    case malformed(BlobID, TreeError)
    /// A directory without a tree.
    case noSubtree
    /// Nothing this deep is followed.
    case tooDeep(Int)

    package var description: String {
        switch self {
        case .unreadable(let tree, let reason): "the directory (tree \(tree)) cannot be read: \(reason)"
        case .malformed(let tree, let error): "in the directory (tree \(tree)) \(error)"
        case .noSubtree: "the directory has no tree"
        case .tooDeep(let limit): "it lies more than \(limit) levels deep"
        }
    }
}

/// Goes through all entries below a tree: a directory before what it holds, names in the trees' order.
///
/// It keeps the nodes of the directories on the way down, not of those left behind.
package struct TreeWalk {
    package enum Step {
        case entry(Node)
        case problem(TreeProblem)
    }

    /// As many levels as a path of 4096 bytes can have.
    package static let maximumDepth = 2048

    private struct Frame {
        /// Last first.
        var steps: [Step]
        /// Bytes of the path of this directory.
        var pathLength: Int
    }

    private let reader: BlobReader
    private var frames: [Frame] = []
    private var descent: BlobID?
    private var failure: TreeProblem?

    /// Names from the walk's root joined with `/`, without a leading one: of the entry given last, or of the
    /// directory that a problem is about.
    package private(set) var path: [UInt8] = []

    /// Directories above the entry given last, without the root.
    package var depth: Int { frames.count - 1 }

    package init(_ reader: BlobReader, from root: BlobID) {
        self.reader = reader
        descent = root
    }

    /// The next entry or problem, nil at the end. After a directory its content follows, unless `skip` is
    /// called.
    ///
    /// - Throws: `SystemCallError` for what is no damage (no permission, no descriptors left).
    package mutating func next() throws -> Step? {
        if let failure {
            self.failure = nil
            return .problem(failure)
        }
        if let tree = descent {
            descent = nil
            if frames.count >= Self.maximumDepth { return .problem(.tooDeep(Self.maximumDepth)) }
            let text: [UInt8]
            do { text = try reader.read(tree, .tree) } catch let error as RepositoryError {
                return .problem(.unreadable(tree, reason: "\(error)"))
            }
            var steps: [Step] = []
            do {
                try Tree.scan(text) {
                    steps.append(.entry($0))
                } problem: { (error, _) in
                    steps.append(.problem(.malformed(tree, error)))
                }
            } catch {
                steps.append(.problem(.malformed(tree, error)))
            }
            steps.reverse()
            frames.append(Frame(steps: steps, pathLength: path.count))
        }
        // In place: a copy of the frame would make every removal copy the directory.
        while let length = frames.last?.pathLength {
            path.removeLast(path.count - length)
            guard let step = frames[frames.count - 1].steps.popLast() else {
                frames.removeLast()
                continue
            }
            if case .entry(let node) = step {
                if !path.isEmpty { path.append(0x2F) }
                path.append(contentsOf: node.name)
                if node.kind == .directory {
                    if let subtree = node.subtree { descent = subtree } else { failure = .noSubtree }
                }
            }
            return step
        }
        return nil
    }

    /// Leaves out what the directory given last holds.
    package mutating func skip() {
        descent = nil
        failure = nil
    }
}
