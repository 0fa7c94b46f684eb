package import Catalogue
import Fleet
import JSON
import Posix
package import Repository
package import SSH

/// What a repository knows that belongs into the catalogue.
package struct RepositorySurvey {
    /// Nil for a repository of a version that kept no record.
    package let record: HostRecord?
    /// Agents' keys that are in use.
    package let keys: [(key: PublicKey, added: Int64)]
    /// Oldest first, those that are forgotten too.
    package let snapshots: [SnapshotRow]
    /// Snapshots that a stock client made.
    package let foreign: Int
    package let pins: [PinRow]
    package let proofs: [ProofRow]
    /// The highest that is known to have been given out.
    package let epoch: Int64
    /// What could not be used, and what is not whole, one line each.
    package let damage: [String]
    /// What is no damage, but somebody has to do something about.
    package let remarks: [String]

    /// Oldest first.
    package var present: [SnapshotRow] { snapshots.filter { $0.state == .present } }
    /// Oldest first.
    package var forgotten: [SnapshotRow] { snapshots.filter { $0.state == .forgotten } }

    /// When the host was added; for records of earlier versions, when its first snapshot was made.
    package var added: Int64 { record?.added ?? snapshots.first?.time ?? 0 }

    /// Reads all of it, and checks the repository's structure as `check` does.
    ///
    /// - Throws: `SystemCallError` for what the system refuses.
    package init(_ repository: Repository, progress: @escaping (CheckProgress) -> Void) throws {
        var damage: [String] = []
        var remarks: [String] = []
        func used<R>(_ otherwise: R, _ body: () throws -> R) throws -> R {
            do { return try body() } catch let error as RepositoryError {
                damage.append("\(error)")
                return otherwise
            }
        }
        let record = try used(nil) { try repository.hostRecord() }
        if record == nil {
            remarks.append("nothing says which key its agent has: it has to join again")
        }
        keys = (record?.keys ?? []).compactMap { key in
            PublicKey(openSSH: key.line).map { ($0, key.added ?? record?.added ?? 0) }
        }

        let index = try repository.loadIndex { damage.append("\($0)") }
        let reader = try BlobReader(repository, index)
        var rows: [SnapshotRow] = []
        var foreign = 0
        func row(_ id: BlobID, _ snapshot: Snapshot) -> SnapshotRow? {
            guard let marks = SnapshotMarks(tags: snapshot.tags) else { return nil }
            let bytes = marks.dumpName.flatMap { Self.dumpBytes(reader, snapshot.tree, $0) }
            return marks.row(id: id, snapshot: snapshot, dumpBytes: bytes)
        }
        for (id, snapshot) in try repository.snapshots(damaged: { _, error in damage.append("\(error)") }) {
            if let row = row(id, snapshot) { rows.append(row) } else { foreign += 1 }
        }
        for (id, time, snapshot) in try repository.forgotten(damaged: { damage.append("\($0)") }) {
            guard var row = row(id, snapshot) else { continue }
            row.state = .forgotten
            row.forgotten = time
            rows.append(row)
        }
        snapshots = rows.sorted { ($0.time, $0.id) < ($1.time, $1.id) }
        self.foreign = foreign
        pins = try repository.pins { damage.append("\($0)") }.map {
            PinRow(snapshot: $0.snapshot.hex, why: $0.why, by: $0.by, time: $0.time)
        }
        proofs = try repository.proofs { damage.append("\($0)") }.map { proof in
            let figures = proof.figures.sorted { $0.key < $1.key }.map { ($0.key, JSON($0.value)) }
            return ProofRow(
                snapshot: proof.snapshot.hex,
                level: proof.level.rawValue,
                time: proof.time,
                figures: JSON(figures).text()
            )
        }
        let recorded = try used(0) { try repository.epoch() }
        epoch = max(recorded, rows.map(\.epoch).max() ?? 0)

        let report = Check.run(repository, .structure, progress: progress)
        let named = report.findings.filter { finding in
            !damage.contains { line in finding.file.map { line.contains($0) } ?? false }
        }
        damage += named.prefix(3).map { "\($0)" }
        if named.count > 3 { damage.append("and \(named.count - 3) more findings: `check` lists them") }
        if report.findings.isEmpty, let obstacle = report.obstacle { damage.append(obstacle) }
        self.record = record
        self.damage = damage
        self.remarks = remarks
    }

    /// The size of the dump of a snapshot, as its tree has it.
    private static func dumpBytes(_ reader: BlobReader, _ root: BlobID, _ name: String) -> UInt64? {
        var tree = root
        for folder in ["immich", "backups"] {
            guard let next = entry(reader, tree, folder)?.subtree else { return nil }
            tree = next
        }
        return entry(reader, tree, name)?.size
    }

    private static func entry(_ reader: BlobReader, _ tree: BlobID, _ name: String) -> Node? {
        (try? Tree(parsing: reader.read(tree, .tree)))?.nodes.first { $0.name == Array(name.utf8) }
    }
}
