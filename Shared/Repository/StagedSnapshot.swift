import Glibc
import Posix

/// A snapshot file that is written and synced, but not yet under its name: `publish` is one rename, so that the
/// caller can do it inside its catalogue's transaction. Left alone, it is removed.
package final class StagedSnapshot {
    package let id: BlobID
    private let repository: Repository
    private let temporary: String
    private var open = true

    fileprivate init(_ repository: Repository, _ id: BlobID, _ temporary: String) {
        self.repository = repository
        self.id = id
        self.temporary = temporary
    }
    deinit { discard() }

    /// Puts the file into place and syncs the folder. Only after all that it names was flushed.
    package func publish() throws {
        guard open else { throw RepositoryError.invalid("the snapshot \(id.short) is not staged any more") }
        try Files.rename(temporary, to: repository.filePath(.snapshots, id))
        open = false
        try repository.syncOrRemove(.snapshots, id)
    }

    /// Removes the temporary file; nothing happens after `publish`.
    package func discard() {
        if open { unlink(temporary) }
        open = false
    }
}

extension Repository {
    /// Writes and syncs the JSON of a snapshot under a temporary name.
    package func stageSnapshot(_ json: [UInt8]) throws -> StagedSnapshot {
        let (id, bytes) = try seal(json)
        try Files.makeDirectories("\(path)/snapshots")
        return StagedSnapshot(self, id, try writeTemporary(bytes, named: id, in: .snapshots))
    }
}
