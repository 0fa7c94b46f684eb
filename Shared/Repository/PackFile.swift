import Glibc
import Posix

/// A pack that is being written under a temporary name: bytes go out in steps, the hash is kept along the way,
/// and no more than a step of it is in memory.
final class PackFile {
    let kind: BlobKind
    private(set) var blobs: [PackedBlob] = []
    private(set) var body = 0

    /// Where the file is until it has its name.
    let temporary: String
    private let file: FileDescriptor
    private let hasher: SHA256Hasher
    private let buffer = Scratch()
    private var used = 0
    private var written = 0
    private var header: [UInt8] = []

    /// Bytes that are gathered before they are written.
    private static let step = 2 << 20

    init(_ repository: Repository, _ kind: BlobKind) throws {
        self.kind = kind
        hasher = try SHA256Hasher()
        temporary = "\(repository.path)/data/pack\(Repository.temporaryMark)\(randomHex(8))"
        file = try FileDescriptor(open: temporary, O_WRONLY | O_CREAT | O_EXCL)
    }

    /// Adds a blob: `fill` puts exactly `size` bytes where it is told.
    func append(
        _ id: BlobID,
        stored size: Int,
        uncompressed: Int,
        _ fill: (UnsafeMutableRawBufferPointer) throws -> Void
    ) throws {
        let blob = PackedBlob(
            id: id,
            kind: kind,
            offset: UInt32(body),
            stored: UInt32(size),
            uncompressed: UInt32(uncompressed)
        )
        try emit(size, fill)
        blobs.append(blob)
        PackHeader.append(blob, to: &header)
        body += size
    }

    private func emit(_ size: Int, _ fill: (UnsafeMutableRawBufferPointer) throws -> Void) throws {
        if used + size > Self.step { try drain() }
        let room = buffer.room(max(Self.step, size))
        let target = UnsafeMutableRawBufferPointer(rebasing: room[used..<used + size])
        try fill(target)
        try hasher.update(UnsafeRawBufferPointer(target))
        used += size
    }

    private func drain() throws {
        guard used > 0 else { return }
        let bytes = UnsafeRawBufferPointer(rebasing: buffer.room(used)[..<used])
        do throws(SystemCallError) { try file.writeAll(bytes) } catch {
            throw SystemCallError(error.call, errno: error.code, temporary)
        }
        // The disk starts on it now, so that the sync at the end has little left to wait for.
        file.startWriteback(at: Int64(written), count: Int64(used))
        written += used
        used = 0
    }

    /// Writes the header.
    /// - Returns: The name of the pack and a descriptor to sync, which the caller closes.
    func close(_ sealer: Sealer) throws -> (id: BlobID, descriptor: Int32) {
        let sealed = try sealer.seal(header)
        guard try sealer.open(sealed) == header else {
            throw RepositoryError.verification("the header of a pack")
        }
        var tail = sealed
        withUnsafeBytes(of: UInt32(sealed.count).littleEndian) { tail.append(contentsOf: $0) }
        try emit(tail.count) { $0.copyBytes(from: tail) }
        try drain()
        return (try hasher.finish(), try file.duplicate().release())
    }

    /// Removes what was written so far.
    func discard() { unlink(temporary) }
}
