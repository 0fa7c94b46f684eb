import Glibc
import Posix

/// Forgetting in two phases: a forgotten snapshot's file lies in `holdfast/forgotten/` under its own name, where stock
/// clients see nothing of it, and counts as used until its grace is over.
///
/// A move is one rename between two folders, so that the file is in exactly one of them at every instant; should a power
/// cut leave it in both, the one in `snapshots/` counts. `forgotten/ID.when` says when it was forgotten. It is written
/// before the move there and removed after the move back, so that no forgotten snapshot is without it; one without a
/// snapshot means nothing, and is written anew when the snapshot is forgotten again.
extension Repository {
    /// Moves the file of a snapshot to `holdfast/forgotten/`, for the holder of the exclusive locks.
    ///
    /// - Parameter time: When that is, nanoseconds since 1970-01-01T00:00:00Z.
    /// - Throws: `SystemCallError` with ENOENT when it is not among the snapshots.
    package func forget(_ id: BlobID, at time: Int64) throws {
        // A file that is not there would leave a record of nothing.
        _ = try FileStatus(path: filePath(.snapshots, id), follow: false)
        try writeSealed(Self.forgottenRecord(id), Array("\(Time.rfc3339(time))\n".utf8))
        try move(id, from: .snapshots, to: .forgotten)
    }

    /// Brings a forgotten snapshot back, for the holder of shared locks.
    ///
    /// - Throws: `SystemCallError` with ENOENT when it is not there any more, because `dropForgotten` came first.
    package func recall(_ id: BlobID) throws {
        try Files.makeDirectories("\(path)/\(Folder.snapshots.rawValue)")
        try move(id, from: .forgotten, to: .snapshots)
        try removeSide(Self.forgottenRecord(id))
    }

    /// Every forgotten snapshot, the one that was forgotten first at the front.
    ///
    /// - Parameter damaged: Told of each snapshot that cannot be read, which is then left out, and of each record of a
    ///   time that cannot be used; unless given, the first such is thrown, because who deletes what nobody uses has to
    ///   know all of them.
    /// - Returns: Each with the nanoseconds since 1970-01-01T00:00:00Z when it was forgotten. Without a record that can
    ///   be used that is when the file was touched last, which is no earlier.
    package func forgotten(damaged: (RepositoryError) throws -> Void = { throw $0 }) throws
        -> [(id: BlobID, time: Int64, snapshot: Snapshot)]
    {
        var result: [(id: BlobID, time: Int64, snapshot: Snapshot)] = []
        for id in try list(.forgotten) where !Files.exists(filePath(.snapshots, id)) {
            let snapshot: Snapshot
            do { snapshot = try self.snapshot(id, in: .forgotten) } catch let error as RepositoryError {
                try damaged(error)
                continue
            } catch let error as SystemCallError where error.code == ENOENT {
                // Recalled since it was listed.
                continue
            }
            var time: Int64?
            do { time = try forgottenTime(Self.forgottenRecord(id)) } catch let error as RepositoryError {
                try damaged(error)
            }
            result.append((id, try time ?? FileStatus(path: filePath(.forgotten, id)).ctime, snapshot))
        }
        result.sort { ($0.time, $0.id) < ($1.time, $1.id) }
        return result
    }

    /// Ends the grace of a forgotten snapshot: its file, what was proved of it, and the record of when it was forgotten
    /// go, in this order. Nothing that only it needs may have been removed before. For `prune`, which holds the exclusive
    /// locks.
    ///
    /// - Throws: `SystemCallError` with ENOENT when the file is gone, because it was recalled meanwhile: then what it
    ///   needs is needed.
    package func dropForgotten(_ id: BlobID) throws {
        let file = filePath(.forgotten, id)
        guard unlink(file) == 0 else { throw SystemCallError("unlink", errno: errno, file) }
        try Files.syncDirectory(Files.parent(file))
        for level in ProofRecord.Level.allCases { try removeSide("proofs/\(id)-\(level.rawValue)") }
        try removeSide(Self.forgottenRecord(id))
    }

    private static func forgottenRecord(_ id: BlobID) -> String {
        "\(forgottenFolder)/\(id)\(forgottenSuffix)"
    }

    /// The folder of forgotten snapshots in `holdfast/`.
    static let forgottenFolder = "forgotten"
    /// Behind the id in the names of the records.
    static let forgottenSuffix = ".when"

    /// The time in the record `forgotten/ID.when`, nil when that is gone.
    /// - Throws: `damaged`.
    func forgottenTime(_ name: String) throws -> Int64? {
        guard let text = try readSealed(name) else { return nil }
        guard text.last == 0x0A,
            let time = Time.parseRFC3339(String(decoding: text.dropLast(), as: UTF8.self))
        else {
            throw RepositoryError.damaged(file: try sidePath(name), reason: "it holds no time")
        }
        return time
    }

    private func move(_ id: BlobID, from: Folder, to: Folder) throws {
        let source = filePath(from, id)
        let target = filePath(to, id)
        try Files.rename(source, to: target)
        // Two names of one file, as a power cut may leave them, are two after a rename as well.
        try Files.remove(source)
        // The new name first: at no instant is none of them on the disk.
        try Files.syncDirectory("\(path)/\(to.rawValue)")
        try Files.syncDirectory("\(path)/\(from.rawValue)")
    }
}
