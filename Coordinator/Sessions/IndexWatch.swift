import Posix
import Repository

/// What a capture relies on, noted when it begins: that all the index files are still there when it ends, and so all the
/// blobs that it did not store because they were there. The locks see to that; but a stock client may have had our lock
/// file removed, or have taken it for stale, and pruned meanwhile.
struct IndexWatch {
    private let repository: Repository
    private let files: Set<BlobID>
    private let packs: Int

    /// - Parameters:
    ///   - files: The index files, listed before they were loaded.
    ///   - index: What they list, and the packs that were adopted since.
    init(_ repository: Repository, listed files: [BlobID], _ index: BlobIndex) throws {
        self.repository = repository
        self.files = try Set(files + repository.list(.index))
        packs = index.packs.count
    }

    /// Before a snapshot of `tree` is published. It costs next to nothing unless something is gone; then every blob of
    /// the tree is looked for, in the index and the packs as they are now.
    ///
    /// - Throws: `RepositoryError.invalid` when the snapshot would lack something.
    func requireAll(of tree: BlobID, _ writer: BlobWriter) throws {
        let there = Set(try repository.list(.index))
        let isWhole =
            files.isSubset(of: there) && writer.indexFiles.allSatisfy(there.contains)
            // Until an index file names them, a stock client deletes them without touching the index.
            && writer.index.packs[packs...].allSatisfy { Files.exists(repository.packPath($0)) }
        if isWhole { return }
        do { try repository.verify(tree: tree, repository.loadIndexOfPacksThere()) } catch let error
            as RepositoryError
        {
            throw RepositoryError.invalid(
                "while this backup ran, somebody pruned the repository although it was locked, and took away what the "
                    + "backup relied on (\(error)): no snapshot was made. Start the backup again: what is missing is "
                    + "sent once more"
            )
        }
    }
}
