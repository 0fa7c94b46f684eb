package import JSON
import Posix

/// What is wrong with a tree.
package enum TreeError: Error, Equatable, CustomStringConvertible {
    case unreadable(JSONError)
    /// No list of nodes.
    case noNodes
    case name([UInt8], reason: String)
    /// Names must ascend in byte order, each once.
    case order([UInt8], after: [UInt8])

    package var description: String {
        switch self {
        case .unreadable(let error): "the tree cannot be read: \(error)"
        case .noNodes: "the tree holds no list of nodes"
        case .name(let name, let reason):
            "the tree holds an entry \"\(escaped(name))\" that is refused: \(reason)"
        case .order(let name, let after):
            name == after
                ? "the tree holds \"\(escaped(name))\" twice"
                : "the tree's names are out of order: \"\(escaped(name))\" after \"\(escaped(after))\""
        }
    }
}

/// One directory.
package struct Tree: Equatable, Sendable {
    /// In ascending order of their names' bytes.
    package var nodes: [Node]

    package init(nodes: [Node] = []) { self.nodes = nodes }

    /// Reads a tree and refuses it whole when one of its names is not allowed or out of order.
    package init(parsing text: [UInt8]) throws(TreeError) {
        var nodes: [Node] = []
        var first: TreeError?
        try Tree.scan(text) {
            nodes.append($0)
        } problem: { (error, _) in
            first = first ?? error
        }
        if let first { throw first }
        self.nodes = nodes
    }

    /// Reads the nodes one after the other, for directories of any width.
    ///
    /// - Parameters:
    ///   - node: Gets every node whose name can be a file's.
    ///   - problem: Gets, before `node` does, what is out of order, and what has a name that is refused: that
    ///     node is not handed on.
    /// - Throws: `TreeError` when the tree cannot be read on; the nodes before were handed on.
    package static func scan(
        _ text: [UInt8],
        node: (Node) -> Void,
        problem: (TreeError, Node) -> Void
    ) throws(TreeError) {
        var found = false
        var last: [UInt8] = []
        do throws(JSONError) {
            try text.withUnsafeBufferPointer { (bytes) throws(JSONError) in
                var scanner = JSONScanner(bytes)
                try scanner.object { (scanner, key) throws(JSONError) in
                    guard equal(key, "nodes"), !found else { return try scanner.skip() }
                    found = true
                    // restic up to 0.18 reads null as no nodes.
                    if try scanner.null() { return }
                    try scanner.array { (scanner) throws(JSONError) in
                        let next = try Node(from: &scanner)
                        if let reason = NodeName.problem(next.name) {
                            return problem(.name(next.name, reason: reason), next)
                        }
                        if !precedes(last, next.name) { problem(.order(next.name, after: last), next) }
                        last = next.name
                        node(next)
                    }
                }
                try scanner.end()
            }
        } catch {
            throw .unreadable(error)
        }
        if !found { throw .noNodes }
    }

    /// The bytes whose SHA-256 is the tree's id.
    package func encoded() throws(TreeError) -> [UInt8] {
        var builder = TreeBuilder()
        for node in nodes { try builder.append(node) }
        return builder.finish()
    }
}

/// Whether `left` stands before `right` in byte order.
func precedes(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.withUnsafeBytes { left in
        right.withUnsafeBytes { right in
            let count = min(left.count, right.count)
            for index in 0..<count where left[index] != right[index] { return left[index] < right[index] }
            return left.count < right.count
        }
    }
}

/// Writes a tree node by node, so that a directory of any width needs no more than its text.
package struct TreeBuilder {
    private var text = Array(#"{"nodes":["#.utf8)
    private var last: [UInt8] = []
    package private(set) var count = 0

    package init() {}

    /// - Throws: When the name cannot be a file's or does not come after the one before.
    package mutating func append(_ node: Node) throws(TreeError) {
        if let reason = NodeName.problem(node.name) { throw .name(node.name, reason: reason) }
        if !precedes(last, node.name) { throw .order(node.name, after: last) }
        if count > 0 { text.append(0x2C) }
        node.append(to: &text)
        last = node.name
        count += 1
    }

    /// Bytes so far.
    package var byteCount: Int { text.count }

    /// The tree's text: its SHA-256 is the tree blob's id.
    package consuming func finish() -> [UInt8] {
        text.append(contentsOf: "]}\n".utf8)
        return text
    }
}
