extension Repository {
    /// - Parameter folder: `.snapshots` or `.forgotten`.
    /// - Throws: `RepositoryError.damaged`, or `SystemCallError` with ENOENT.
    package func snapshot(_ id: BlobID, in folder: Folder = .snapshots) throws -> Snapshot {
        let text = try read(folder, id)
        do throws(RepositoryError) { return try Snapshot(parsing: text) } catch {
            throw RepositoryError.damaged(file: filePath(folder, id), reason: "\(error)")
        }
    }

    /// All snapshots, oldest first.
    ///
    /// - Parameter damaged: Told of each that cannot be read, which is then left out; unless given, the first
    ///   such is thrown.
    package func snapshots(damaged: (BlobID, RepositoryError) throws -> Void = { throw $1 }) throws
        -> [(id: BlobID, snapshot: Snapshot)]
    {
        var result: [(id: BlobID, snapshot: Snapshot)] = []
        for id in try list(.snapshots) {
            do { result.append((id, try snapshot(id))) } catch let error as RepositoryError {
                try damaged(id, error)
            }
        }
        result.sort {
            ($0.snapshot.time.seconds, $0.snapshot.time.nanosecond, $0.id)
                < ($1.snapshot.time.seconds, $1.snapshot.time.nanosecond, $1.id)
        }
        return result
    }
}
