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
    private let steps: StepPool
    private var step: Pages?
    private var used = 0
    private var header: [UInt8] = []

    /// Bytes that are gathered before they are written; a larger blob is a step of its own.
    private static let stepSize = 1 << 20

    init(_ repository: Repository, _ kind: BlobKind, _ worker: SerialWorker, _ steps: StepPool) throws {
        self.kind = kind
        self.worker = worker
        self.steps = steps
        output = try PackOutput("\(repository.path)/data/pack\(Repository.temporaryMark)\(randomHex(8))")
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
        if used >= PackOutput.block, used + size > Self.stepSize { try handOver() }
        let step: Pages
        if let begun = self.step, used + size <= begun.memory.count {
            step = begun
        } else {
            step = try steps.take(atLeast: used + size)
            if let begun = self.step {
                step.memory.copyMemory(from: UnsafeRawBufferPointer(rebasing: begun.memory[..<used]))
                steps.giveBack(begun)
            }
            self.step = step
        }
        try fill(UnsafeMutableRawBufferPointer(rebasing: step.memory[used..<used + size]))
        used += size
    }

    /// Hands over whole blocks; the rest goes to the front of the next step.
    private func handOver() throws {
        guard let step else { return }
        let whole = used - used % PackOutput.block
        let rest = UnsafeRawBufferPointer(rebasing: step.memory[whole..<used])
        let next = try steps.take(atLeast: Self.stepSize)
        next.memory.copyMemory(from: rest)
        self.step = next
        used = rest.count
        let output = self.output
        let steps = self.steps
        try worker.submit {
            try output.write(UnsafeRawBufferPointer(rebasing: step.memory[..<whole]), isLast: false)
            steps.giveBack(step)
        }
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
        guard let step else { return }
        let used = self.used
        self.step = nil
        let output = self.output
        let steps = self.steps
        try worker.submit {
            try output.write(UnsafeRawBufferPointer(rebasing: step.memory[..<used]), isLast: true)
            steps.giveBack(step)
            try finished(output.hash(), output)
        }
    }
}

/// The file of a pack and the hash of what was written. Used by one job of a worker at a time, in their order.
///
/// All but its last step goes to the disk straight from our memory, past the page cache: a NAS caches what its other programs
/// read, and is spared a copy and the writing back.
final class PackOutput: @unchecked Sendable {
    let temporary: String
    private let file: FileDescriptor
    private let hasher: SHA256Hasher
    private var written = 0
    private var isDirect: Bool

    /// Bytes: what offsets, sizes and addresses are multiples of, as open(2) asks for `O_DIRECT`. A file system
    /// that wants more says so with EINVAL.
    static let block = 4096

    fileprivate init(_ temporary: String) throws {
        self.temporary = temporary
        hasher = try SHA256Hasher()
        file = try FileDescriptor(open: temporary, O_WRONLY | O_CREAT | O_EXCL)
        isDirect = file.setDirect(true)
    }

    fileprivate func write(_ bytes: UnsafeRawBufferPointer, isLast: Bool) throws {
        try hasher.update(bytes)
        if isLast { bypassNoLonger() }
        do throws(SystemCallError) { try put(bytes) } catch {
            throw SystemCallError(error.call, errno: error.code, temporary)
        }
        // The disk starts on it now, so that the sync at the end has little left to wait for.
        if !isDirect { file.startWriteback(at: Int64(written), count: Int64(bytes.count)) }
        written += bytes.count
    }

    private func put(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError) {
        do { try file.pwriteAll(bytes, at: Int64(written)) } catch {
            guard isDirect, error.code == EINVAL else { throw error }
            bypassNoLonger()
            try file.pwriteAll(bytes, at: Int64(written))
        }
    }

    private func bypassNoLonger() {
        guard isDirect else { return }
        _ = file.setDirect(false)
        isDirect = false
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
