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
    private let opened = Scratch()
    private let plain = Scratch()
    // The one used last is the last.
    private var open: [OpenPack] = []

    private final class OpenPack {
        let id: BlobID
        let file: FileDescriptor
        init(_ id: BlobID, _ file: consuming FileDescriptor) {
            self.id = id
            self.file = file
        }
    }

    package init(_ repository: Repository, _ index: BlobIndex) throws {
        self.repository = repository
        self.index = index
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
        into room: (Int) -> UnsafeMutableRawBufferPointer
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
        Array(try read(id, kind) { plain.room($0) })
    }

    /// Reads one given copy and verifies it; for checks.
    /// - Throws: `DamagedCopy`, `SystemCallError`.
    package func verify(_ blob: PackedBlob, in pack: BlobID) throws {
        _ = try load(blob, in: pack) { plain.room($0) }
    }

    /// The verified bytes of one copy.
    private func load(
        _ blob: PackedBlob,
        in pack: BlobID,
        into room: (Int) -> UnsafeMutableRawBufferPointer
    ) throws -> UnsafeRawBufferPointer {
        func damaged(_ reason: String) -> DamagedCopy { DamagedCopy(pack: pack, reason: reason) }
        let size = Int(blob.stored)
        guard size >= Sealer.overhead, size <= BlobLimits.stored, blob.plain <= BlobLimits.plain else {
            throw damaged("it is listed with impossible lengths (\(size) and \(blob.plain) bytes)")
        }
        let source = sealed.room(size)
        let got = try readPack(pack, into: source, at: Int64(blob.offset))
        guard got == size else {
            throw damaged("it is cut off: the pack ends \(size - got) bytes before the end of the blob")
        }
        // As in `PackOutput`: what is read once leaves no trace in the cache. Small blobs share their pages.
        if size >= 1 << 18 { try opened(pack).file.forgetCached(at: Int64(blob.offset), count: size) }
        let isCompressed = blob.uncompressed != 0
        let target = isCompressed ? opened.room(size - Sealer.overhead) : room(blob.plain)
        guard try sealer.open(UnsafeRawBufferPointer(source), into: target) != nil else {
            throw damaged("its bytes were changed (the seal does not open)")
        }
        var result = UnsafeRawBufferPointer(target)
        if isCompressed {
            let output = room(blob.plain)
            do { try zstd.decompress(result, filling: output) } catch { throw damaged(error.reason) }
            result = UnsafeRawBufferPointer(output)
        }
        let actual = try hasher.hash(result)
        guard actual == blob.id else { throw damaged("its content has the SHA-256 \(actual)") }
        return result
    }

    // MARK: Packs

    /// Reads from a pack at `offset`; what is damage comes as `DamagedCopy`, what is not as it is.
    private func readPack(_ pack: BlobID, into buffer: UnsafeMutableRawBufferPointer, at offset: Int64) throws
        -> Int
    {
        do throws(SystemCallError) {
            // An error that passes is no damage: try it again, with the file opened anew, before it counts.
            do throws(SystemCallError) { return try opened(pack).file.pread(into: buffer, at: offset) } catch
            {
                guard error.isReadFailure else { throw error }
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

    private func opened(_ pack: BlobID) throws(SystemCallError) -> OpenPack {
        if let found = open.lastIndex(where: { $0.id == pack }) {
            let used = open.remove(at: found)
            open.append(used)
            return used
        }
        let fresh = OpenPack(pack, try FileDescriptor(open: repository.packPath(pack), O_RDONLY))
        if open.count == 16 { open.removeFirst() }
        open.append(fresh)
        return fresh
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
        let source = sealed.room(length)
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
        let buffer = sealed.room(min(max(1, size), 1 << 20))
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

/// Memory that grows to the largest use and is used again.
final class Scratch {
    private var buffer = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    deinit { buffer.deallocate() }

    /// `count` bytes of any content, valid until the next call.
    func room(_ count: Int) -> UnsafeMutableRawBufferPointer {
        if buffer.count < count || buffer.baseAddress == nil {
            buffer.deallocate()
            // Steps of a half keep the number of moves small without doubling a large blob.
            let size = max(count, min(buffer.count + buffer.count / 2, 64 << 20), 4096)
            buffer = .allocate(byteCount: size, alignment: 16)
        }
        return UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
    }
}
