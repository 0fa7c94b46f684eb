package import Catalogue
import Posix
package import Repository

/// What the catalogue knows of a repository that the repository cannot know of itself: snapshots that are gone, and a
/// repository that is an older copy of itself, as after a disk was put back from somewhere.
package struct CatalogueAgreement {
    private let rows: [SnapshotRow]

    /// Takes down what the catalogue has. Before the repository is read: a row comes after its file, so that a file
    /// that is missing afterwards is missing.
    package init(_ catalogue: Catalogue, _ host: HostRow) throws {
        rows = try catalogue.snapshots(of: host)
    }

    /// Compares, for the holder of a lock that keeps others from deleting.
    ///
    /// - Parameter recovery: The fleet's recovery key, when the state folder has it.
    package func findings(_ repository: Repository, recovery: RecoveryKey?) throws -> [CheckFinding] {
        var result: [CheckFinding] = []
        // One that was forgotten is not gone, though its row may not say so yet when that was interrupted.
        let files = Set(
            try (repository.list(.forgotten) + repository.list(.snapshots)).map(\.hex)
        )
        for row in rows where !files.contains(row.id) {
            guard let id = BlobID(hex: row.id) else { continue }
            result.append(
                CheckFinding(
                    .missingSnapshot(id),
                    "the catalogue lists it (data of \(Time.local(row.time))), and its file is gone"
                )
            )
        }
        let newest = rows.map(\.epoch).max() ?? 0
        // Recorded before anything is published. A file that is damaged has its finding already.
        if let epoch = try? repository.epoch(), epoch < newest {
            result.append(
                CheckFinding(
                    .olderCopy,
                    "it knows of epoch \(epoch), and the catalogue of a snapshot of epoch \(newest): this is an older "
                        + "copy, or parts of it were put back",
                    file: "holdfast/epoch"
                )
            )
        }
        if !rows.isEmpty, let record = try? repository.sideFiles(),
            !record.contains(where: { $0.hasPrefix("host") })
        {
            result.append(
                CheckFinding(
                    .damagedSideFile("host"),
                    "it is gone, which a rebuild of the catalogue needs; the next backup writes it again"
                )
            )
        }
        if let recovery, try !repository.hasKey(recovery) {
            result.append(
                CheckFinding(
                    .noRecoveryKey,
                    "none of its key files opens with this fleet's recovery passphrase: on the worst day only its own "
                        + "password would"
                )
            )
        }
        return result
    }
}
