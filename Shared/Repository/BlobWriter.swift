import Glibc
import Posix
import Synchronization

/// Stores blobs: each only once in the repository, in packs of data or of trees, and lists them in index files.
///
/// For the holder of the host's run lock, on one thread; two workers hash and write, and sync, behind it. A pack gets its name once it is whole and synced, and
/// an index file lists it after that, so whatever ends the process leaves at worst temporary files and packs
/// that no index lists yet; `removeLeftovers` and `adoptOrphanPacks` take care of both. To keep those few in
/// a long run, an index file is written every five minutes and every 50,000 blobs.
///
/// After an error the writer removes its temporary files and refuses everything else.
package final class BlobWriter {
    /// What was done since the writer was made.
    package struct Figures: Equatable, Sendable {
        package var dataBlobs = 0
        package var treeBlobs = 0
        /// Bytes of the new blobs themselves.
        package var plainBytes: Int64 = 0
        /// Bytes that they take in their packs.
        package var storedBytes: Int64 = 0
        /// Blobs that were there already, and their bytes.
        package var knownBlobs = 0
        package var knownBytes: Int64 = 0
        package var packs = 0
        package var indexFiles = 0
        /// Calls of fsync(2), of files and of folders.
        package var syncs = 0
    }

    package private(set) var figures = Figures()
    /// Everything that the repository holds, with what this writer has put into closed packs.
    package private(set) var index: BlobIndex
    /// What this writer has written.
    package private(set) var indexFiles: [BlobID] = []

    private let repository: Repository
    private let sealer: Sealer
    private let hasher: SHA256Hasher
    private let compressor: ZstdCompressor
    private let decompressor: ZstdDecompressor
    private let compressed = Scratch()
    private let check = Scratch()

    /// Hashes and writes packs.
    private let writing: SerialWorker
    private let steps = StepPool()
    /// Syncs whole packs and gives them their names while the next one is filled.
    private let syncing: SerialWorker
    /// The open packs: data, trees.
    private var open: [PackFile?] = [nil, nil]
    /// Blobs of packs that have no name yet.
    private var unnamed: Set<PackedKey> = []
    private var temporaries: Set<String> = []
    /// Packs that have got their names and are not in `index` yet.
    private let named = NamedPacks()
    /// Packs that no index file lists, and the folders that hold them and are not synced.
    private var unlisted: [(id: BlobID, blobs: [PackedBlob])] = []
    private var unlistedBlobs = 0
    private var unlistedSince: Int64 = 0
    private var unsyncedFolders: Set<String> = []
    private var closed = false

    private struct NamedPack: Sendable {
        let id: BlobID
        let blobs: [PackedBlob]
        let temporary: String
    }

    private final class NamedPacks: Sendable {
        let list = Mutex<[NamedPack]>([])
    }

    private struct PackedKey: Hashable {
        let id: BlobID
        let kind: BlobKind
    }

    /// Bytes at which a pack of data, and one of trees, is closed.
    static let target = [64 << 20, 16 << 20]
    private static let mostBlobsPerPack = 40_000
    private static let listAfter: Int64 = 300 * 1_000_000_000

    /// - Parameter index: All index files of the repository, loaded after the run lock was taken.
    package init(_ repository: Repository, _ index: BlobIndex) throws {
        self.repository = repository
        self.index = index
        sealer = try Sealer(repository.master)
        hasher = try SHA256Hasher()
        compressor = try ZstdCompressor()
        decompressor = try ZstdDecompressor()
        writing = try SerialWorker("pack-write", depth: 2)
        syncing = try SerialWorker("pack-sync", depth: 1)
    }
    deinit { abandon() }

    /// Whether the repository holds a blob, or will with the next `flush`.
    package func contains(_ id: BlobID, _ kind: BlobKind) -> Bool {
        index.contains(id, kind) || unnamed.contains(PackedKey(id: id, kind: kind))
    }

    /// Stores `bytes` unless they are there.
    /// - Throws: `blobTooLarge`, `verification`, `writerClosed`, `SystemCallError` (a full disk is ENOSPC).
    package func add(_ bytes: UnsafeRawBufferPointer, _ kind: BlobKind, _ compression: Compression = .probe)
        throws -> BlobID
    {
        if closed { throw RepositoryError.writerClosed }
        guard bytes.count <= BlobLimits.plain else {
            throw RepositoryError.blobTooLarge(bytes: bytes.count)
        }
        let id = try hasher.hash(bytes)
        if contains(id, kind) {
            figures.knownBlobs += 1
            figures.knownBytes += Int64(bytes.count)
            return id
        }
        do { try store(bytes, id, kind, compression) } catch {
            abandon()
            throw error
        }
        return id
    }

    package func add(_ bytes: [UInt8], _ kind: BlobKind, _ compression: Compression = .probe) throws -> BlobID
    {
        try bytes.withUnsafeBytes { try add($0, kind, compression) }
    }

    private func store(
        _ bytes: UnsafeRawBufferPointer,
        _ id: BlobID,
        _ kind: BlobKind,
        _ compression: Compression
    ) throws {
        // Stock prune rewrites trees that are not compressed, each time.
        let small = try compress(bytes, kind == .tree ? .always : compression, keepAnyGain: kind == .tree)
        let text = small ?? bytes
        let pack = try open[Int(kind.rawValue)] ?? PackFile(repository, kind, writing, steps)
        open[Int(kind.rawValue)] = pack
        temporaries.insert(pack.temporary)
        let size = text.count + Sealer.overhead
        try pack.append(id, stored: size, uncompressed: small == nil ? 0 : bytes.count) { target in
            _ = try sealer.seal(text, into: target)
            if kind == .tree {
                try verify(UnsafeRawBufferPointer(target), holds: bytes, compressed: small != nil)
            }
        }
        unnamed.insert(PackedKey(id: id, kind: kind))
        if kind == .data { figures.dataBlobs += 1 } else { figures.treeBlobs += 1 }
        figures.plainBytes += Int64(bytes.count)
        figures.storedBytes += Int64(size)
        if pack.body >= Self.target[Int(kind.rawValue)] || pack.blobs.count >= Self.mostBlobsPerPack {
            try close(pack)
            try listIfDue()
        }
    }

    /// The compressed bytes, verified and valid until the next call; nil when the blob is to be stored as it is.
    private func compress(
        _ bytes: UnsafeRawBufferPointer,
        _ compression: Compression,
        keepAnyGain: Bool
    ) throws -> UnsafeRawBufferPointer? {
        // A length of zero means "not compressed" in the format, so an empty blob never is.
        if bytes.isEmpty { return nil }
        switch compression {
        case .never: return nil
        case .always: break
        case .probe:
            if Compressibility.looksCompressed(bytes) { return nil }
            if bytes.count > 256 << 10, try !pays(bytes) { return nil }
        }
        // Output beyond what is worth it ends the compression early.
        let worth = keepAnyGain ? ZstdCompressor.bound(bytes.count) : bytes.count - bytes.count / 32 - 1
        guard worth > 0 else { return nil }
        let room = try compressed.room(worth)
        guard let size = try compressor.compress(bytes, into: room) else { return nil }
        let result = UnsafeRawBufferPointer(rebasing: room[..<size])
        let again = try check.room(bytes.count)
        do { try decompressor.decompress(result, filling: again) } catch {
            throw RepositoryError.verification("\(error.reason)")
        }
        guard sameBytes(UnsafeRawBufferPointer(again), bytes) else {
            throw RepositoryError.verification("a compressed blob of \(bytes.count) bytes")
        }
        return result
    }

    /// Tries a fast level on 64 KiB from the middle.
    private func pays(_ bytes: UnsafeRawBufferPointer) throws -> Bool {
        let size = 64 << 10
        let start = (bytes.count - size) / 2
        let sample = UnsafeRawBufferPointer(rebasing: bytes[start..<start + size])
        return try compressor.compress(sample, into: compressed.room(size - size / 20), level: -1) != nil
    }

    private func verify(
        _ sealed: UnsafeRawBufferPointer,
        holds bytes: UnsafeRawBufferPointer,
        compressed: Bool
    )
        throws
    {
        func failed() -> RepositoryError { .verification("a tree of \(bytes.count) bytes") }
        let target = try check.room(sealed.count - Sealer.overhead)
        guard try sealer.open(sealed, into: target) != nil else { throw failed() }
        guard compressed else {
            guard sameBytes(UnsafeRawBufferPointer(target), bytes) else { throw failed() }
            return
        }
        let plain = try decompressor.decompress(UnsafeRawBufferPointer(target), limit: bytes.count)
        guard plain.withUnsafeBytes({ sameBytes($0, bytes) }) else { throw failed() }
    }

    // MARK: Packs

    private func close(_ pack: PackFile) throws {
        open[Int(pack.kind.rawValue)] = nil
        let repository = self.repository
        let syncing = self.syncing
        let blobs = pack.blobs
        let named = self.named
        try pack.close(sealer) { id, output in
            try syncing.submit {
                let final = repository.packPath(id)
                try Files.makeDirectories(Files.parent(final))
                try output.publish(as: final)
                named.list.withLock {
                    $0.append(NamedPack(id: id, blobs: blobs, temporary: output.temporary))
                }
            }
        }
        try takeNamed()
    }

    /// Moves packs that have got their names into the index.
    private func takeNamed() throws {
        let packs = named.list.withLock { packs in
            defer { packs = [] }
            return packs
        }
        for pack in packs {
            for blob in pack.blobs { unnamed.remove(PackedKey(id: blob.id, kind: blob.kind)) }
            temporaries.remove(pack.temporary)
            index.add(pack: pack.id, pack.blobs)
            if unlisted.isEmpty { unlistedSince = Time.monotonic() }
            unlisted.append((pack.id, pack.blobs))
            unlistedBlobs += pack.blobs.count
            unsyncedFolders.insert(Files.parent(repository.packPath(pack.id)))
            figures.packs += 1
            figures.syncs += 1
        }
    }

    /// Waits until every closed pack has its name.
    private func awaitNames() throws {
        try writing.drain()
        try syncing.drain()
        try takeNamed()
    }

    private func listIfDue() throws {
        if unlistedBlobs >= IndexFile.mostBlobs || Time.monotonic() - unlistedSince >= Self.listAfter {
            try list()
        }
    }

    /// Syncs the folders of the closed packs, then lists the packs in index files.
    private func list() throws {
        for folder in unsyncedFolders {
            do { try Files.syncDirectory(folder) } catch {
                // A later sync may succeed without having written what this one could not, so nobody shall find
                // these packs.
                for pack in unlisted where Files.parent(repository.packPath(pack.id)) == folder {
                    unlink(repository.packPath(pack.id))
                }
                throw error
            }
            figures.syncs += 1
        }
        unsyncedFolders = []
        let files = try repository.writeIndex(unlisted)
        indexFiles += files
        figures.indexFiles += files.count
        figures.syncs += 2 * files.count
        unlisted = []
        unlistedBlobs = 0
    }

    /// Makes everything added so far durable and listed: packs, then index. A snapshot may name it after that.
    package func flush() throws {
        if closed { throw RepositoryError.writerClosed }
        do {
            for pack in open { if let pack { try close(pack) } }
            try awaitNames()
            try list()
        } catch {
            abandon()
            throw error
        }
    }

    /// Stops and removes the temporary files. Packs that were closed before stay, for `adoptOrphanPacks`.
    package func abandon() {
        closed = true
        // In the order in which work flows, so that nothing comes after.
        writing.cancel()
        syncing.cancel()
        open = [nil, nil]
        unnamed = []
        for temporary in temporaries { unlink(temporary) }
        temporaries = []
    }
}

private func sameBytes(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count else { return false }
    guard let left = left.baseAddress, let other = right.baseAddress else { return true }
    return memcmp(left, other, right.count) == 0
}
