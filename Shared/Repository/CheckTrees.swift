import Posix

extension Check {
    /// Reads every tree that a snapshot needs, once.
    func checkTrees(_ snapshots: [(id: BlobID, tree: BlobID)]) throws {
        let reader = try BlobReader(repository, everything)
        var seen = Set<BlobID>()
        var waiting: [BlobID] = []
        var missing = Set<BlobKey>()
        func want(_ tree: BlobID) { if seen.insert(tree).inserted { waiting.append(tree) } }
        func needBlob(_ id: BlobID, _ kind: BlobKind) -> Bool {
            if index.contains(id, kind) { return true }
            if let place = everything.lookup(id, kind) {
                neededPacks.insert(place.pack)
                return true
            }
            if missing.insert(BlobKey(id: id, kind: kind)).inserted {
                find(.missingBlob(id, kind), "no index file lists it")
            }
            return false
        }
        for snapshot in snapshots { want(snapshot.tree) }
        while let tree = waiting.popLast() {
            report.trees.all += 1
            tell(.trees, UInt64(report.trees.checked), 0)
            guard needBlob(tree, .tree) else {
                report.trees.checked += 1
                continue
            }
            do throws(SystemCallError) {
                let pack = everything.lookup(tree, .tree)?.pack
                switch try settled(pack: pack, { try reader.read(tree, .tree) }) {
                case .success(let text): checkTree(tree, text, want, needBlob)
                case .failure(let failure):
                    let file = pack.map { "data/\($0.hex.prefix(2))/\($0)" }
                    find(.unreadableTree(tree), failure.reason, file: file)
                }
                report.trees.checked += 1
            } catch {
                if error.isReadFailure, let pack = everything.lookup(tree, .tree)?.pack {
                    report.trees.skip(error.reason)
                    find(.unreadBlob(tree, .tree, pack: pack, onlyCopy: true), "\(error)")
                } else {
                    skip(\.trees, error)
                }
            }
        }
    }

    private func checkTree(
        _ tree: BlobID,
        _ text: [UInt8],
        _ want: (BlobID) -> Void,
        _ needBlob: (BlobID, BlobKind) -> Bool
    ) {
        func wrong(_ node: Node, _ reason: String) {
            find(.malformedEntry(tree: tree, name: node.name), reason)
        }
        do throws(TreeError) {
            try Tree.scan(text) { node in
                if node.kind != .file && node.content != nil {
                    wrong(node, "it is no file and has a content")
                }
                if node.kind != .directory && node.subtree != nil {
                    wrong(node, "it is no directory and has a tree")
                }
                switch node.kind {
                case .directory:
                    guard let subtree = node.subtree else { return wrong(node, "the directory has no tree") }
                    want(subtree)
                case .file:
                    guard let content = node.content else {
                        return wrong(node, "the file has no list of its content")
                    }
                    var size: UInt64 = 0
                    var complete = true
                    for id in content {
                        if needBlob(id, .data), let place = everything.lookup(id, .data) {
                            size &+= UInt64(place.blob.plain)
                        } else {
                            complete = false
                        }
                    }
                    if complete && size != node.size {
                        wrong(node, "the file's size is given as \(node.size) bytes, its content has \(size)")
                    }
                case .unknown(let kind): wrong(node, "it is of the unknown type \"\(kind)\"")
                case .symlink where node.linkTarget.isEmpty: wrong(node, "the symbolic link leads nowhere")
                case .symlink, .fifo, .socket, .blockDevice, .characterDevice: break
                }
            } problem: { (error, node) in
                wrong(node, "\(error)")
            }
        } catch {
            find(.malformedTree(tree), "\(error)")
        }
    }
}
