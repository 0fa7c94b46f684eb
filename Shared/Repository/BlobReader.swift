import Glibc
import Posix

/// Reads blobs: authenticates, decompresses to exactly the announced size, compares the hash.
///
/// It keeps contexts, buffers and a few open packs; one thread at a time may use one. For reading in parallel
/// make one per thread from the same `Repository` and the same `BlobIndex`.
package final class BlobReader {
    private let repository: Repository
    private let index: BlobIndex
    private let sealer: Sealer
    private let hasher: SHA256Hasher
    private let zstd: ZstdDecompressor
    private let sealed = Scratch()
    /// Large blobs are read straight into our memory, as `PackOutput` writes them; no longer once a file system has
    /// refused that.
    private var reachesPast: Bool
    private let opened = Scratch()
    private let plain = Scratch()
    // The one used last is the last.
    private var open: [OpenPack] = []

    private final class OpenPack {
        let id: BlobID
        let file: FileDescriptor
        var isDirect = false
        init(_ id: BlobID, _ file: consuming FileDescriptor) {
            self.id = id
            self.file = file
        }
    }

    /// Bytes of a blob that is worth a read of its own from the disk.
    private static let large = 256 << 10

    /// - Parameter pastCache: For who reads much and once: large blobs leave the page cache alone, and are not read ahead.
    package init(_ repository: Repository, _ index: BlobIndex, pastCache: Bool = false) throws {
        self.repository = repository
        self.index = index
        reachesPast = pastCache
        sealer = try Sealer(repository.master)
        hasher = try SHA256Hasher()
        zstd = try ZstdDecompressor()
    }

    /// Reads a blob into memory of the caller's. Every copy is tried before it gives up.
    ///
    /// - Parameter room: Gives so many bytes; asked again, and the memory before no longer used, for a copy that is listed
    ///   with another length.
    /// - Returns: The memory given last, filled.
    /// - Throws: `unknownBlob`; `damagedBlob`, which names every copy and what is wrong with it;
    ///   `SystemCallError` for what is no damage (no permission, no descriptors left).
    package func read(
        _ id: BlobID,
        _ kind: BlobKind,
        into room: (Int) throws -> UnsafeMutableRawBufferPointer
    ) throws -> UnsafeRawBufferPointer {
        guard let first = index.lookup(id, kind) else { throw RepositoryError.unknownBlob(id, kind) }
        do {
            return try load(first.blob, in: first.pack, into: room)
        } catch let damage as DamagedCopy {
            var damages = [damage]
            for copy in index.copies(id, kind).dropFirst() {
                do { return try load(copy.blob, in: copy.pack, into: room) } catch let damage as DamagedCopy {
                    damages.append(damage)
                }
            }
            throw RepositoryError.damagedBlob(id, kind, copies: damages)
        }
    }

    /// The bytes of a blob; throws as `read(_:_:into:)`.
    package func read(_ id: BlobID, _ kind: BlobKind) throws -> [UInt8] {
        Array(try read(id, kind) { try plain.room($0) })
    }

    /// Reads one given copy and verifies it; for checks.
    /// - Throws: `DamagedCopy`, `SystemCallError`.
    package func verify(_ blob: PackedBlob, in pack: BlobID) throws {
        _ = try load(blob, in: pack) { try plain.room($0) }
    }

    /// The bytes of one given copy, verified; valid until the next call.
    /// - Throws: `DamagedCopy`, `SystemCallError`.
    func read(_ blob: PackedBlob, in pack: BlobID) throws -> UnsafeRawBufferPointer {
        try load(blob, in: pack) { try plain.room($0) }
    }

    /// The verified bytes of one copy.
    private func load(
        _ blob: PackedBlob,
        in pack: BlobID,
        into room: (Int) throws -> UnsafeMutableRawBufferPointer
    ) throws -> UnsafeRawBufferPointer {
        func damaged(_ reason: String) -> DamagedCopy { DamagedCopy(pack: pack, reason: reason) }
        let size = Int(blob.stored)
        guard size >= Sealer.overhead, size <= BlobLimits.stored, blob.plain <= BlobLimits.plain else {
            throw damaged("it is listed with impossible lengths (\(size) and \(blob.plain) bytes)")
        }
        let source = try readBlob(blob, in: pack)
        guard source.count == size else {
            throw damaged(
                "it is cut off: the pack ends \(size - source.count) bytes before the end of the blob"
            )
        }
        let isCompressed = blob.uncompressed != 0
        let target = try isCompressed ? opened.room(size - Sealer.overhead) : room(blob.plain)
        guard try sealer.open(source, into: target) != nil else {
            throw damaged("its bytes were changed (the seal does not open)")
        }
        var result = UnsafeRawBufferPointer(target)
        if isCompressed {
            let output = try room(blob.plain)
            do { try zstd.decompress(result, filling: output) } catch { throw damaged(error.reason) }
            result = UnsafeRawBufferPointer(output)
        }
        let actual = try hasher.hash(result)
        guard actual == blob.id else { throw damaged("its content has the SHA-256 \(actual)") }
        return result
    }

    // MARK: Packs

    /// The sealed bytes of a blob, fewer where the pack ends before it does; valid until the next call.
    private func readBlob(_ blob: PackedBlob, in pack: BlobID) throws -> UnsafeRawBufferPointer {
        let size = Int(blob.stored)
        let offset = Int(blob.offset)
        guard reachesPast, size >= Self.large else {
            let source = try sealed.room(size)
            let got = try readPack(pack, into: source, at: Int64(offset))
            // What is read once leaves no trace in the cache. Small blobs share their pages.
            if size >= Self.large { try opened(pack).file.forgetCached(at: Int64(offset), count: size) }
            return UnsafeRawBufferPointer(rebasing: source[..<got])
        }
        // From the block that it begins in to the one that it ends in.
        let lead = offset % PackOutput.block
        let source = try sealed.room(
            (lead + size + PackOutput.block - 1) / PackOutput.block * PackOutput.block
        )
        let got = try readPack(pack, into: source, at: Int64(offset - lead), direct: true)
        return UnsafeRawBufferPointer(rebasing: source[min(lead, got)..<min(lead + size, got)])
    }

    /// Reads from a pack at `offset`; what is damage comes as `DamagedCopy`, what is not as it is.
    private func readPack(
        _ pack: BlobID,
        into buffer: UnsafeMutableRawBufferPointer,
        at offset: Int64,
        direct: Bool = false
    ) throws -> Int {
        do throws(SystemCallError) {
            // An error that passes is no damage: try it again, with the file opened anew, before it counts.
            do throws(SystemCallError) {
                let unit = direct ? PackOutput.block : 1
                return try opened(pack, direct: direct).file.pread(into: buffer, at: offset, unit: unit)
            } catch {
                guard error.isReadFailure || direct && error.code == EINVAL else { throw error }
                // Whatever it was: the usual way.
                reachesPast = false
                open.removeAll { $0.id == pack }
                return try opened(pack).file.pread(into: buffer, at: offset)
            }
        } catch {
            open.removeAll { $0.id == pack }
            throw damage(pack, error)
        }
    }

    /// A copy that cannot be had; what has nothing to do with this pack stays what it is.
    private func damage(_ pack: BlobID, _ error: SystemCallError) -> any Error {
        let named = SystemCallError(error.call, errno: error.code, repository.packPath(pack))
        if error.code == ENOENT {
            return DamagedCopy(pack: pack, reason: "the pack is missing", error: named)
        }
        guard error.isReadFailure else { return named }
        return DamagedCopy(pack: pack, reason: "it cannot be read: \(error.reason)", error: named)
    }

    private func opened(_ pack: BlobID, direct: Bool = false) throws(SystemCallError) -> OpenPack {
        let used: OpenPack
        if let found = open.lastIndex(where: { $0.id == pack }) {
            used = open.remove(at: found)
        } else {
            used = OpenPack(pack, try FileDescriptor(open: repository.packPath(pack), O_RDONLY))
            if open.count == 16 { open.removeFirst() }
        }
        if used.isDirect != direct {
            used.isDirect = used.file.setDirect(direct)
            if direct && !used.isDirect { reachesPast = false }
        }
        open.append(used)
        return used
    }

    /// Bytes of a pack's file.
    package func size(of pack: BlobID) throws -> Int {
        do throws(SystemCallError) { return Int(try opened(pack).file.status().size) } catch {
            throw damage(pack, error)
        }
    }

    /// What the pack's own header lists, in the order of the file.
    /// - Throws: `DamagedCopy`, `SystemCallError`.
    package func header(of pack: BlobID) throws -> [PackedBlob] {
        func damaged(_ reason: String) -> DamagedCopy { DamagedCopy(pack: pack, reason: reason) }
        let size = try size(of: pack)
        guard size >= Sealer.overhead + 4, size <= BlobLimits.pack else {
            throw damaged("no pack has \(size) bytes")
        }
        var tail = [UInt8](repeating: 0, count: 4)
        let got = try tail.withUnsafeMutableBytes { try readPack(pack, into: $0, at: Int64(size - 4)) }
        let length = Int(tail[0]) | Int(tail[1]) << 8 | Int(tail[2]) << 16 | Int(tail[3]) << 24
        guard got == 4, length >= Sealer.overhead, length <= size - 4, length <= BlobLimits.header else {
            throw damaged("its header has an impossible length")
        }
        let source = try sealed.room(length)
        guard try readPack(pack, into: source, at: Int64(size - 4 - length)) == length,
            let plain = try sealer.open(Array(source))
        else { throw damaged("its header does not open") }
        do { return try PackHeader.parse(plain, bodySize: size - 4 - length) } catch {
            throw damaged(error.reason)
        }
    }

    /// SHA-256 of a pack's file, which is its name when it is whole.
    package func hash(of pack: BlobID) throws -> BlobID {
        let size = try size(of: pack)
        let buffer = try sealed.room(min(max(1, size), 1 << 20))
        try hasher.reset()
        var done = 0
        while done < size {
            let got = try readPack(pack, into: buffer, at: Int64(done))
            if got == 0 { break }
            try hasher.update(UnsafeRawBufferPointer(rebasing: buffer[..<got]))
            done += got
        }
        return try hasher.finish()
    }

    /// Reads all of a pack: the hash of the file against its name, its header, and every blob.
    /// - Returns: What the header lists.
    /// - Throws: `DamagedCopy` for the first thing that is wrong, `SystemCallError`.
    package func verify(pack: BlobID) throws -> [PackedBlob] {
        let actual = try hash(of: pack)
        guard actual == pack else {
            throw DamagedCopy(pack: pack, reason: "the file has the SHA-256 \(actual)")
        }
        let blobs = try header(of: pack)
        for blob in blobs { try verify(blob, in: pack) }
        return blobs
    }
}

extension Repository {
    package func packPath(_ pack: BlobID) -> String { "\(path)/data/\(pack.hex.prefix(2))/\(pack)" }

    /// Every pack that lies where it belongs, in byte order.
    package func listPacks() throws -> [BlobID] {
        var result: [BlobID] = []
        for value in 0..<256 {
            let prefix = hex([UInt8(value)])
            result += try Self.listed("\(path)/data/\(prefix)").filter { $0.hex.hasPrefix(prefix) }
        }
        return result
    }
}

/// Memory that grows to the largest use and is used again; it begins at a page.
final class Scratch {
    private var pages: Pages?

    /// `count` bytes of any content, valid until the next call.
    func room(_ count: Int) throws(SystemCallError) -> UnsafeMutableRawBufferPointer {
        if let pages, pages.memory.count >= count {
            return UnsafeMutableRawBufferPointer(rebasing: pages.memory[..<count])
        }
        // Steps of a half keep the number of moves small without doubling a large blob.
        let had = pages?.memory.count ?? 0
        let size = max(count, min(had + had / 2, 64 << 20), 4096)
        pages = nil
        let larger = try Pages(size)
        pages = larger
        return UnsafeMutableRawBufferPointer(rebasing: larger.memory[..<count])
    }
}
