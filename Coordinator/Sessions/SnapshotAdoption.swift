import Catalogue
import Posix
import Repository

/// Brings the catalogue's rows and the repository's snapshot files together again, for the holder of the run lock. A
/// file without its row (the process ended between the file and the commit, or the catalogue was lost) is verified
/// and then adopted, or set aside and reported; a row without its file is taken away and reported.
struct SnapshotAdoption {
    private let repository: Repository
    private let index: BlobIndex
    private let lease: HostLease

    init(_ repository: Repository, _ index: BlobIndex, _ lease: HostLease) {
        self.repository = repository
        self.index = index
        self.lease = lease
    }

    func run() throws {
        let files = Set(try repository.list(.snapshots).map(\.hex))
        let rows = Set(try lease.catalogue.snapshots(of: lease.host).map(\.id))
        for id in files.subtracting(rows).sorted() { try adopt(id) }
        for id in rows.subtracting(files).sorted() {
            try lease.catalogue.removeSnapshot(id, host: lease.host.id)
            try event(
                .warning,
                "snapshot-gone",
                "the file of snapshot \(id.prefix(8)) is gone: somebody removed it"
            )
        }
    }

    private func adopt(_ id: String) throws {
        guard let file = BlobID(hex: id) else { return }
        do {
            let snapshot = try Snapshot(parsing: repository.read(.snapshots, file))
            // What a stock client added is none of ours to judge or to list.
            guard let marks = SnapshotMarks(tags: snapshot.tags) else { return }
            try verify(snapshot.tree)
            try lease.catalogue.put(
                marks.row(id: file, snapshot: snapshot, dumpBytes: nil),
                host: lease.host.id
            )
            try event(
                .info,
                "snapshot-adopted",
                "snapshot \(id.prefix(8)) was found without its row, verified, and adopted"
            )
        } catch let error as RepositoryError {
            let place = try repository.setAside(snapshot: file)
            try event(
                .error,
                "snapshot-aside",
                "snapshot \(id.prefix(8)) is not whole (\(error)) and now lies in \(place)"
            )
        }
    }

    /// Reads every tree below `root` once and finds every blob in the index.
    private func verify(_ root: BlobID) throws {
        let reader = try BlobReader(repository, index)
        var seen: Set<BlobID> = [root]
        var waiting = [root]
        while let id = waiting.popLast() {
            let tree: Tree
            do { tree = try Tree(parsing: reader.read(id, .tree)) } catch let error as TreeError {
                throw RepositoryError.invalid("tree \(id.short): \(error)")
            }
            for node in tree.nodes {
                for blob in node.content ?? [] where !index.contains(blob, .data) {
                    throw RepositoryError.unknownBlob(blob, .data)
                }
                if let subtree = node.subtree, seen.insert(subtree).inserted { waiting.append(subtree) }
            }
        }
    }

    private func event(_ severity: EventRow.Severity, _ kind: String, _ message: String) throws {
        Log.write(severity == .info ? .notice : .warning, "\(lease.host.name): \(message)")
        try lease.catalogue.addEvent(severity, kind: kind, host: lease.host.id, message)
    }
}
