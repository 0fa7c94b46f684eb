import Glibc
import Posix
import Repository

/// Restores files for one thread: under a temporary name, read back and compared, and only then under their
/// own.
final class FileRestorer {
    enum Outcome {
        /// Bytes of its content.
        case whole(UInt64)
        /// As `whole`, but the tree announced another size.
        case otherSize(UInt64)
        case damaged([RestoreProblem.DamagedPart], keptAs: [UInt8]?)
        case failed(String)
    }

    /// The target takes no more; nothing else will work either.
    struct TargetFailure: Error { let reason: String }

    private let reader: BlobReader
    private let index: BlobIndex
    private let hasher: SHA256Hasher
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 4096)
    /// Told of bytes as they are stored.
    private let advanced: (UInt64) -> Void
    // Nobody can know the name of a temporary file in advance and put it into a tree.
    private let temporaryPrefix = Array(".holdfast-\(randomHex(8))-".utf8)
    private var number = 0

    init(_ repository: Repository, _ index: BlobIndex, advanced: @escaping (UInt64) -> Void) throws {
        reader = try BlobReader(repository, index)
        self.index = index
        hasher = try SHA256Hasher()
        self.advanced = advanced
    }

    deinit { buffer.deallocate() }

    /// - Throws: `TargetFailure`, which ends the whole restore.
    func restore(_ node: Node, in folder: OpenFolder) throws -> (Outcome, Metadata.Missed) {
        number += 1
        let temporary = temporaryPrefix + Array(String(number).utf8)
        var made = false
        do {
            let file = try FileDescriptor(
                at: folder.descriptor,
                temporary,
                O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW
            )
            made = true
            let (size, damages) = try write(node, to: file)
            try verify(node, size: size, damages, in: file)
            let missed = try Metadata(node).apply(to: file)
            if damages.isEmpty {
                try Files.renameWithoutReplacing(in: folder.descriptor, temporary, to: node.name)
                return (size == node.size ? .whole(size) : .otherSize(size), missed)
            }
            return (.damaged(damages, keptAs: keep(temporary, of: node.name, in: folder)), missed)
        } catch {
            if made {
                let raw = folder.descriptor.raw
                _ = withCName(temporary) { unlinkat(raw, $0, 0) }
            }
            if error is ReadsBackDifferently {
                let reason = "it reads back differently; suspect the target's disk or this machine's memory"
                return (.failed(reason), Metadata.Missed())
            }
            guard let error = error as? SystemCallError else { throw error }
            if [ENOSPC, EDQUOT, EROFS, EIO].contains(error.code) {
                throw TargetFailure(reason: error.description)
            }
            if error.code == EEXIST { return (.failed("something has its name already"), Metadata.Missed()) }
            return (.failed(error.description), Metadata.Missed())
        }
    }

    /// Gives what is left of a damaged file a name of its own, or removes it.
    private func keep(_ temporary: [UInt8], of name: [UInt8], in folder: OpenFolder) -> [UInt8]? {
        let suffix = Array(".damaged".utf8)
        let kept = Array(name.prefix(255 - suffix.count)) + suffix
        do throws(SystemCallError) {
            try Files.renameWithoutReplacing(in: folder.descriptor, temporary, to: kept)
            return kept
        } catch {
            let raw = folder.descriptor.raw
            _ = withCName(temporary) { unlinkat(raw, $0, 0) }
            return nil
        }
    }

    // MARK: Content

    private struct WriteFailure: Error { let cause: SystemCallError }
    private struct ReadsBackDifferently: Error {}

    private func write(_ node: Node, to file: borrowing FileDescriptor) throws
        -> (size: UInt64, damages: [RestoreProblem.DamagedPart])
    {
        var offset: UInt64 = 0
        var damages: [RestoreProblem.DamagedPart] = []
        var endsInHole = false
        for id in node.content ?? [] {
            do {
                let count = try reader.withBlob(id, .data) { bytes in
                    endsInHole = isZero(bytes)
                    if !endsInHole {
                        do throws(SystemCallError) { try file.pwriteAll(bytes, at: Int64(offset)) } catch {
                            throw WriteFailure(cause: error)
                        }
                    }
                    return UInt64(bytes.count)
                }
                offset += count
                advanced(count)
            } catch let failure as WriteFailure {
                throw failure.cause
            } catch {
                // Damage, or a pack that this user may not read: the other parts and files are worth having.
                let length = index.lookup(id, .data).map { UInt64($0.blob.plain) }
                damages.append(.init(offset: offset, length: length, blob: id, reason: "\(error)"))
                endsInHole = true
                // Without its length nothing behind it has a place.
                guard let length, offset + length <= UInt64(Int64.max) else { break }
                offset += length
                advanced(length)
            }
        }
        if endsInHole { try file.truncate(to: Int64(offset)) }
        return (offset, damages)
    }

    /// Reads the file back and compares the hash of every part that was written.
    private func verify(
        _ node: Node,
        size: UInt64,
        _ damages: [RestoreProblem.DamagedPart],
        in file: borrowing FileDescriptor
    ) throws {
        if try file.status().size != size { throw ReadsBackDifferently() }
        var offset: UInt64 = 0
        for id in node.content ?? [] {
            guard let length = index.lookup(id, .data).map({ UInt64($0.blob.plain) }), offset < size else {
                break
            }
            defer { offset += length }
            if damages.contains(where: { $0.offset == offset && $0.blob == id }) { continue }
            try hasher.reset()
            var done: UInt64 = 0
            while done < length {
                let step = UnsafeMutableRawBufferPointer(
                    rebasing: buffer[..<Int(min(length - done, UInt64(buffer.count)))]
                )
                let got = try file.pread(into: step, at: Int64(offset + done))
                if got == 0 { break }
                try hasher.update(UnsafeRawBufferPointer(rebasing: step[..<got]))
                done += UInt64(got)
            }
            if try hasher.finish() != id { throw ReadsBackDifferently() }
        }
    }

    /// Whether a blob of some size holds only zeros, which is left out so that the file stays sparse.
    private func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 4096, let base = bytes.baseAddress, bytes[0] == 0 else { return false }
        return memcmp(base, base + 1, bytes.count - 1) == 0
    }
}
