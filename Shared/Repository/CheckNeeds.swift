import Posix

extension Check {
    /// Walks once more and notes for every finding which paths of which snapshots need what is damaged.
    func findNeeds(_ snapshots: [(id: BlobID, tree: BlobID)]) throws {
        var search = NeedSearch()
        let packsOfBadCopies = Set(badCopies.map(\.pack))
        for (number, finding) in report.findings.enumerated() {
            switch finding.kind {
            case .damagedBlob(let id, let kind, _, onlyCopy: true),
                .unreadBlob(let id, let kind, _, onlyCopy: true):
                search.add(number, id, kind)
            case .missingBlob(let id, let kind): search.add(number, id, kind)
            case .unreadableTree(let id), .malformedTree(let id): search.add(number, id, .tree)
            case .malformedEntry(let tree, let name): search.entries[tree, default: []].append((name, number))
            // What it listed is in no other, so it is all that was found unlisted.
            case .damagedIndexFile: for pack in neededPacks { addAll(of: pack, number, &search) }
            case .missingPack(let pack), .wrongPackSize(let pack, _, _), .unlistedPack(let pack),
                .impossibleListing(let pack):
                addAll(of: pack, number, &search)
            case .changedPack(let pack), .damagedPackHeader(let pack), .packDiffersFromIndex(let pack),
                .unreadPack(let pack):
                // Otherwise the blobs tell it, and with a copy elsewhere nothing is concerned.
                if !packsOfBadCopies.contains(pack) { addAll(of: pack, number, &search) }
            default: break
            }
        }
        if search.isEmpty { return }
        let reader = try BlobReader(repository, everything)
        // Apart from the report, which whoever is told of the progress reads meanwhile.
        var findings = report.findings
        for (done, snapshot) in snapshots.enumerated() {
            try search.run(reader, snapshot.id, snapshot.tree, &findings) {
                tell(.needs, UInt64(done), UInt64(snapshots.count))
            }
        }
        report.findings = findings
    }
}

extension Check {
    /// Everything that is in a pack and in no other that is good.
    private func addAll(of pack: BlobID, _ finding: Int, _ search: inout NeedSearch) {
        everything.forEach { holder, blob in
            guard holder == pack else { return }
            let good = everything.copies(blob.id, blob.kind).contains {
                $0.pack != pack && !badPacks.contains($0.pack)
            }
            if !good { search.add(finding, blob.id, blob.kind) }
        }
    }
}

/// Finds the paths that lead to given blobs. Trees below which there is none of them are read once.
private struct NeedSearch {
    private var blobs: [BlobKey: [Int]] = [:]
    /// By tree: entries and the finding about each.
    var entries: [BlobID: [([UInt8], Int)]] = [:]
    private var clean = Set<BlobID>()
    /// By finding: where in its list of needs a path stands.
    private var places: [Int: [[UInt8]: Int]] = [:]

    var isEmpty: Bool { blobs.isEmpty && entries.isEmpty }

    mutating func add(_ finding: Int, _ id: BlobID, _ kind: BlobKind) {
        blobs[BlobKey(id: id, kind: kind), default: []].append(finding)
    }

    private struct Frame {
        let tree: BlobID
        let pathLength: Int
        var folders: [(name: [UInt8], tree: BlobID)] = []
        var dirty = false
    }

    mutating func run(
        _ reader: BlobReader,
        _ snapshot: BlobID,
        _ root: BlobID,
        _ findings: inout [CheckFinding],
        _ step: () -> Void
    ) throws {
        var path: [UInt8] = []
        var frames = [enter(root, path, reader, snapshot, &findings)]
        while let length = frames.last?.pathLength {
            step()
            path.removeLast(path.count - length)
            if let next = frames[frames.count - 1].folders.popLast() {
                if clean.contains(next.tree) || frames.count >= TreeWalk.maximumDepth { continue }
                if !path.isEmpty { path.append(0x2F) }
                path += next.name
                frames.append(enter(next.tree, path, reader, snapshot, &findings))
            } else {
                let frame = frames.removeLast()
                if !frame.dirty {
                    clean.insert(frame.tree)
                } else if !frames.isEmpty {
                    frames[frames.count - 1].dirty = true
                }
            }
        }
    }

    private mutating func enter(
        _ tree: BlobID,
        _ path: [UInt8],
        _ reader: BlobReader,
        _ snapshot: BlobID,
        _ findings: inout [CheckFinding]
    ) -> Frame {
        var frame = Frame(tree: tree, pathLength: path.count)
        var hits: [(path: [UInt8], finding: Int)] = []
        func inner(_ name: [UInt8]) -> [UInt8] { path.isEmpty ? name : path + [0x2F] + name }
        for finding in blobs[BlobKey(id: tree, kind: .tree)] ?? [] { hits.append((path, finding)) }
        for (name, finding) in entries[tree] ?? [] { hits.append((inner(name), finding)) }
        if let text = try? reader.read(tree, .tree) {
            // What cannot be read in it has a finding of its own.
            try? Tree.scan(text) { node in
                if node.kind == .directory, let subtree = node.subtree {
                    frame.folders.append((node.name, subtree))
                }
                for id in Set(node.content ?? []) {
                    for finding in blobs[BlobKey(id: id, kind: .data)] ?? [] {
                        hits.append((inner(node.name), finding))
                    }
                }
            } problem: { (_, _) in
            }
        }
        frame.dirty = !hits.isEmpty
        for hit in hits { record(hit.finding, hit.path, snapshot, &findings) }
        return frame
    }

    private mutating func record(
        _ finding: Int,
        _ path: [UInt8],
        _ snapshot: BlobID,
        _ findings: inout [CheckFinding]
    ) {
        if let place = places[finding]?[path] {
            if findings[finding].needs[place].snapshots.last != snapshot {
                findings[finding].needs[place].snapshots.append(snapshot)
            }
        } else if findings[finding].needs.count < CheckFinding.mostNeeds {
            places[finding, default: [:]][path] = findings[finding].needs.count
            findings[finding].needs.append(CheckFinding.Need(path: path, snapshots: [snapshot]))
        } else {
            findings[finding].furtherNeeds += 1
        }
    }
}
