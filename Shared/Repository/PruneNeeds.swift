import Posix

/// Why `prune` will not go on: something that it must know cannot be read. Nothing was deleted because of it.
package struct PruneRefused: Error, CustomStringConvertible {
    let reason: String
    package var description: String { "nothing was pruned, because then more could be lost: \(reason)" }
}

/// Which blobs of an index are needed by trees: a bit for each, and four bytes for each folder that waits for its turn.
/// Every tree is read once.
struct PruneNeeds {
    /// Numbers of first copies in the index.
    private(set) var needed: BitSet
    /// What is needed and in no index file.
    private(set) var missing: Set<BlobKey> = []
    private(set) var trees: UInt64 = 0
    private let index: BlobIndex
    private let reader: BlobReader
    private var waiting: [UInt32] = []
    /// What cannot be had is passed over.
    private var isLenient = false

    init(_ repository: Repository, _ index: BlobIndex) throws {
        self.index = index
        needed = BitSet(below: index.count)
        reader = try BlobReader(repository, index)
    }

    /// Marks a snapshot's root tree and everything below.
    ///
    /// - Parameters:
    ///   - name: Of what needs it, for people.
    ///   - step: Called for every tree; may throw to end it.
    /// - Throws: `PruneRefused` when a tree cannot be read. One that no index lists goes to `missing`.
    mutating func add(tree: BlobID, of name: String, _ step: @escaping () throws -> Void) throws {
        isLenient = false
        try walk(tree, name, step)
    }

    /// Marks what is there of a tree and of single data blobs. After everything else: a tree that cannot be read is not
    /// looked at again.
    mutating func addIfThere(
        trees: [BlobID],
        blobs: [BlobID],
        _ step: @escaping () throws -> Void
    ) throws {
        isLenient = true
        for tree in trees { try walk(tree, "an interrupted backup", step) }
        for blob in blobs { if let number = index.number(blob, .data) { needed.insert(number) } }
    }

    private mutating func walk(_ root: BlobID, _ name: String, _ step: () throws -> Void) throws {
        want(root)
        while let number = waiting.popLast() {
            try step()
            trees += 1
            let id = index.copy(Int(number)).blob.id
            do { try read(id, name) } catch let error as PruneRefused {
                if !isLenient { throw error }
            }
        }
    }

    private mutating func read(_ tree: BlobID, _ name: String) throws {
        let text: [UInt8]
        do { text = try reader.read(tree, .tree) } catch let error as RepositoryError {
            throw PruneRefused(reason: "a folder of \(name) cannot be read: \(error)")
        }
        var bad: String?
        do throws(TreeError) {
            // What an entry names counts, whatever else is wrong with it.
            try Tree.scan(text) { node in
                if node.kind == .directory && node.subtree == nil {
                    bad = "the folder '\(escaped(node.name))' has no tree"
                }
                mark(node)
            } problem: { _, node in
                mark(node)
            }
        } catch { bad = "\(error)" }
        if let bad { throw PruneRefused(reason: "in \(name), tree \(tree): \(bad)") }
    }

    private mutating func mark(_ node: Node) {
        for id in node.content ?? [] {
            if let number = index.number(id, .data) {
                needed.insert(number)
            } else if !isLenient {
                missing.insert(BlobKey(id: id, kind: .data))
            }
        }
        if let subtree = node.subtree { want(subtree) }
    }

    private mutating func want(_ tree: BlobID) {
        guard let number = index.number(tree, .tree) else {
            if !isLenient { missing.insert(BlobKey(id: tree, kind: .tree)) }
            return
        }
        if needed.insert(number) { waiting.append(UInt32(number)) }
    }
}
