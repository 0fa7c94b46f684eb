import Glibc
import JSON
import Posix

/// Files that are sealed whole: snapshots, index files and locks. Plaintext is JSON, after a byte 2 as zstd.
/// The name is the SHA-256 of the bytes on disk.
extension Repository {
    /// The names in `folder` that are ids, in byte order; everything else in there is nobody's business.
    package func list(_ folder: Folder) throws -> [BlobID] {
        try Self.listed("\(path)/\(folder.rawValue)")
    }

    /// A missing folder counts as empty, as it does for restic.
    static func listed(_ folder: String) throws -> [BlobID] {
        do throws(SystemCallError) {
            return try Directory.names(folder).compactMap(fileID)
        } catch {
            if error.code == ENOENT { return [] }
            throw error
        }
    }

    /// The id that a file's name is, or nil; names are lower case only.
    static func fileID(_ name: [UInt8]) -> BlobID? {
        guard name.count == 64, !name.contains(where: { (0x41...0x5A).contains($0) }) else { return nil }
        return name.withUnsafeBytes { BlobID(digits: $0) }
    }

    package func filePath(_ folder: Folder, _ id: BlobID) -> String { "\(path)/\(folder.rawValue)/\(id)" }

    /// Reads, verifies the name, opens and decompresses a snapshot, index or lock file.
    /// - Parameter place: Where it lies, when that is not its folder.
    /// - Throws: `damaged`, or `SystemCallError` with ENOENT.
    package func read(_ folder: Folder, _ id: BlobID, at place: String? = nil) throws -> [UInt8] {
        let file = place ?? filePath(folder, id)
        var bytes = try Files.read(file, limit: folder.limit)
        var actual = try BlobID.hash(of: bytes)
        if actual != id {
            // Once more: a read that went wrong is not a file that is wrong.
            bytes = try Files.read(file, limit: folder.limit)
            actual = try BlobID.hash(of: bytes)
        }
        if actual != id {
            throw RepositoryError.damaged(
                file: file,
                reason: bytes.isEmpty ? "it is empty" : "its content has the SHA-256 \(actual)"
            )
        }
        if folder == .keys { return bytes }
        guard let plain = try Sealer(master).open(bytes) else {
            throw RepositoryError.damaged(
                file: file,
                reason: "its seal does not open with the repository's key"
            )
        }
        switch plain.first {
        case nil, UInt8(ascii: "{"), UInt8(ascii: "["): return plain
        case 2:
            do {
                return try plain.withUnsafeBytes {
                    try ZstdDecompressor().decompress(
                        UnsafeRawBufferPointer(rebasing: $0.dropFirst()),
                        limit: folder.limit
                    )
                }
            } catch let error as ZstdDecompressor.Failure {
                throw RepositoryError.damaged(file: file, reason: error.reason)
            }
        case .some(let byte):
            throw RepositoryError.damaged(file: file, reason: "it begins with the unknown mark \(byte)")
        }
    }

    /// Compresses and seals `text`, and verifies that it opens again.
    /// - Returns: The bytes for the disk and their name.
    func seal(_ text: [UInt8]) throws -> (id: BlobID, bytes: [UInt8]) {
        var plain = [UInt8](repeating: 2, count: ZstdCompressor.bound(text.count) + 1)
        let size = try text.withUnsafeBytes { input in
            try plain.withUnsafeMutableBytes {
                try ZstdCompressor().compress(
                    input,
                    into: UnsafeMutableRawBufferPointer(rebasing: $0.dropFirst())
                )
            }
        }
        guard let size else { throw RepositoryError.library("ZSTD_compress2") }
        plain.removeLast(plain.count - size - 1)
        let sealer = try Sealer(master)
        let sealed = try sealer.seal(plain)
        let again = try sealer.open(sealed).map { opened in
            try opened.withUnsafeBytes {
                try ZstdDecompressor().decompress(
                    UnsafeRawBufferPointer(rebasing: $0.dropFirst()),
                    limit: max(1, text.count)
                )
            }
        }
        if again != text { throw RepositoryError.verification("a file of \(text.count) bytes") }
        return (try BlobID.hash(of: sealed), sealed)
    }

    /// Writes a snapshot, index or lock file so that it is there whole or not at all.
    package func write(_ text: [UInt8], to folder: Folder) throws -> BlobID {
        let (id, bytes) = try seal(text)
        try write(bytes, named: id, in: folder)
        return id
    }

    /// Writes bytes as they are under a name, whole or not at all.
    package func write(_ bytes: [UInt8], named id: BlobID, in folder: Folder) throws {
        try Files.makeDirectories("\(path)/\(folder.rawValue)")
        let temporary = try writeTemporary(bytes, named: id, in: folder)
        do { try Files.rename(temporary, to: filePath(folder, id)) } catch {
            unlink(temporary)
            throw error
        }
        try syncOrRemove(folder, id)
    }

    /// Syncs the folder of a file that has just got its name. When that fails, the file goes: a later sync may well
    /// succeed without having written what this one could not.
    func syncOrRemove(_ folder: Folder, _ id: BlobID) throws {
        do { try Files.syncDirectory("\(path)/\(folder.rawValue)") } catch {
            unlink(filePath(folder, id))
            throw error
        }
    }

    /// Writes and syncs `bytes` beside their final name; the caller renames or removes it.
    func writeTemporary(_ bytes: [UInt8], named id: BlobID, in folder: Folder) throws -> String {
        let temporary = filePath(folder, id) + Self.temporaryMark + randomHex(8)
        do throws(SystemCallError) {
            let file = try FileDescriptor(open: temporary, O_WRONLY | O_CREAT | O_EXCL)
            // What root puts here, such as a restore's lock, must be readable by whose repository it is.
            if geteuid() == 0 {
                let owner = try FileStatus(path: Files.parent(temporary))
                try file.setOwner(uid: owner.uid, gid: owner.gid)
            }
            try file.writeAll(bytes)
            try file.sync()
            try file.close()
        } catch {
            unlink(temporary)
            throw SystemCallError(error.call, errno: error.code, error.subject ?? filePath(folder, id))
        }
        return temporary
    }

    /// Between a final name and random digits: a file that is being written, by us and not by a stock client.
    static let temporaryMark = "-tmp-holdfast-"

    /// Removes a snapshot, index, key or lock file; one that is not there is no error.
    package func remove(_ folder: Folder, _ id: BlobID) throws {
        try Files.remove(filePath(folder, id))
        try Files.syncDirectory("\(path)/\(folder.rawValue)")
    }
}
