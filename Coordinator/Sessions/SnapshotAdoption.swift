import Catalogue
import Posix
package import Repository

/// Brings the catalogue's rows and the repository's files together again, for the holder of the run lock or of the
/// exclusive one. The files decide:
///
/// | file in | row | becomes |
/// | --- | --- | --- |
/// | `snapshots/` | none, or another than present | verified, then present; or set aside and reported |
/// | `holdfast/forgotten/` | another than forgotten, or none | forgotten |
/// | neither | present | none, and reported |
/// | neither | forgotten | none: its grace was over |
///
/// Files without their rows are what a process leaves that ended between the file and the commit, and what a lost
/// catalogue leaves. So are pins without their rows, which the holder of the exclusive lock adds.
struct SnapshotAdoption {
    private let repository: Repository
    private let lease: HostLease

    init(_ repository: Repository, _ lease: HostLease) {
        self.repository = repository
        self.lease = lease
    }

    /// - Parameter index: All index files. Asked for only when there is something to verify.
    func run(index: () throws -> BlobIndex) throws {
        // Before the others: one that is recalled beside a capture is found in one of the two.
        let recallable = Set(try repository.list(.forgotten).map(\.hex))
        // What cannot be read there is for `check` to report.
        let forgotten = try repository.forgotten { _ in }
        let files = Set(try repository.list(.snapshots).map(\.hex))
        let rows = try lease.catalogue.snapshots(of: lease.host, asideToo: true)
        let states = Dictionary(rows.map { ($0.id, $0.state) }) { first, _ in first }
        for id in files.sorted() where states[id] != .present {
            try adopt(id, index, wasForgotten: states[id] == .forgotten)
        }
        for (id, time, snapshot) in forgotten where !files.contains(id.hex) {
            try keepForgotten(id, time, snapshot, isNew: states[id.hex] == nil)
        }
        for (id, state) in states.sorted(by: { $0.key < $1.key })
        where state != .aside && !files.contains(id) && !recallable.contains(id) {
            try lease.catalogue.removeSnapshot(id, host: lease.host.id)
            if state == .forgotten { continue }
            try event(
                .warning,
                "snapshot-gone",
                "the file of snapshot \(id.prefix(8)) is gone: somebody removed it"
            )
        }
        // Beside a capture somebody may be about to take a pin away.
        if lease.kind == .deleting { try adoptPins() }
    }

    private func keepForgotten(_ id: BlobID, _ time: Int64, _ snapshot: Snapshot, isNew: Bool) throws {
        guard isNew else {
            try lease.catalogue.setForgotten(id.hex, host: lease.host.id, at: time)
            return
        }
        guard let marks = SnapshotMarks(tags: snapshot.tags) else { return }
        var row = marks.row(id: id, snapshot: snapshot, dumpBytes: nil)
        row.state = .forgotten
        row.forgotten = time
        try lease.catalogue.put(row, host: lease.host.id)
    }

    /// A pin is written into the repository first, and is taken from there last.
    private func adoptPins() throws {
        let known = Set(try lease.catalogue.pins(of: lease.host).map(\.snapshot))
        for pin in try repository.pins(damaged: { _ in }) where !known.contains(pin.snapshot.hex) {
            let row = PinRow(snapshot: pin.snapshot.hex, why: pin.why, by: pin.by, time: pin.time)
            try lease.catalogue.put(row, host: lease.host.id)
        }
    }

    private func adopt(_ id: String, _ index: () throws -> BlobIndex, wasForgotten: Bool) throws {
        guard let file = BlobID(hex: id) else { return }
        do {
            let snapshot = try Snapshot(parsing: repository.read(.snapshots, file))
            // What a stock client added is none of ours to judge or to list.
            guard let marks = SnapshotMarks(tags: snapshot.tags) else { return }
            try repository.verify(tree: snapshot.tree, index())
            if wasForgotten {
                // Recalled, and its row knows more than the file does.
                return try lease.catalogue.setPresent(id, host: lease.host.id)
            }
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

    private func event(_ severity: EventRow.Severity, _ kind: String, _ message: String) throws {
        Log.write(severity == .info ? .notice : .warning, "\(lease.host.name): \(message)")
        try lease.catalogue.addEvent(severity, kind: kind, host: lease.host.id, message)
    }
}

extension Repository {
    /// Reads every tree below `root` once and finds every blob in the index.
    ///
    /// - Throws: `RepositoryError` that says what is missing or damaged.
    package func verify(tree root: BlobID, _ index: BlobIndex) throws {
        let reader = try BlobReader(self, index)
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
}
