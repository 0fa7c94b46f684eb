import Glibc
import Posix

/// A pack that is being written under a temporary name. The thread that fills it seals blobs into a step of
/// memory; steps go to a worker, which hashes and writes them in order, so that a core each is busy with the
/// blobs and with the pack. No more than a few steps are in memory.
final class PackFile {
    let kind: BlobKind
    private(set) var blobs: [PackedBlob] = []
    /// Bytes of all blobs so far.
    private(set) var body = 0
    /// Where the file is until it has its name.
    var temporary: String { output.temporary }

    private let output: PackOutput
    private let worker: SerialWorker
    private var step: UnsafeMutableRawBufferPointer?
    private var used = 0
    private var header: [UInt8] = []

    /// Bytes that are gathered before they are written; a larger blob is a step of its own.
    private static let stepSize = 1 << 20

    init(_ repository: Repository, _ kind: BlobKind, _ worker: SerialWorker) throws {
        self.kind = kind
        self.worker = worker
        output = try PackOutput("\(repository.path)/data/pack\(Repository.temporaryMark)\(randomHex(8))")
    }
    deinit { step?.deallocate() }

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
        if let step, used + size > step.count { try handOver() }
        // With the alignment of malloc(3): glibc does not use again what was freed of a larger one.
        let step = self.step ?? .allocate(byteCount: max(Self.stepSize, size), alignment: 16)
        self.step = step
        try fill(UnsafeMutableRawBufferPointer(rebasing: step[used..<used + size]))
        used += size
    }

    private func handOver() throws {
        guard let step else { return }
        let bytes = Step(step, used)
        self.step = nil
        used = 0
        let output = self.output
        try worker.submit { try output.write(bytes) }
    }

    /// Hands over the header and, when all is written, the whole pack: `finished` is called on the worker with
    /// its name and what is left to do.
    func close(_ sealer: Sealer, _ finished: @escaping @Sendable (BlobID, PackOutput) throws -> Void) throws {
        let sealed = try sealer.seal(header)
        guard try sealer.open(sealed) == header else {
            throw RepositoryError.verification("the header of a pack")
        }
        var tail = sealed
        withUnsafeBytes(of: UInt32(sealed.count).littleEndian) { tail.append(contentsOf: $0) }
        try emit(tail.count) { $0.copyBytes(from: tail) }
        try handOver()
        let output = self.output
        try worker.submit { try finished(output.hash(), output) }
    }
}

/// Sealed bytes on their way to the worker, who frees them.
private final class Step: @unchecked Sendable {
    private let buffer: UnsafeMutableRawBufferPointer
    private let count: Int

    init(_ buffer: UnsafeMutableRawBufferPointer, _ count: Int) {
        self.buffer = buffer
        self.count = count
    }
    deinit { buffer.deallocate() }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: buffer[..<count]) }
}

/// The file of a pack and the hash of what was written. Used by one job of a worker at a time, in their order.
final class PackOutput: @unchecked Sendable {
    let temporary: String
    private let file: FileDescriptor
    private let hasher: SHA256Hasher
    private var written = 0

    fileprivate init(_ temporary: String) throws {
        self.temporary = temporary
        hasher = try SHA256Hasher()
        file = try FileDescriptor(open: temporary, O_WRONLY | O_CREAT | O_EXCL)
    }

    fileprivate func write(_ step: Step) throws {
        let bytes = step.bytes
        try hasher.update(bytes)
        do throws(SystemCallError) { try file.writeAll(bytes) } catch {
            throw SystemCallError(error.call, errno: error.code, temporary)
        }
        // The disk starts on it now, so that the sync at the end has little left to wait for.
        file.startWriteback(at: Int64(written), count: Int64(bytes.count))
        written += bytes.count
    }

    fileprivate func hash() throws -> BlobID { try hasher.finish() }

    /// Makes the file durable and gives it its name; the folder is synced later.
    func publish(as final: String) throws(SystemCallError) {
        do throws(SystemCallError) { try file.sync() } catch {
            throw SystemCallError(error.call, errno: error.code, temporary)
        }
        // Nobody reads it soon: the next pack takes its memory, instead of what other programs of the NAS have cached.
        file.forgetCached()
        try Files.rename(temporary, to: final)
    }
}
