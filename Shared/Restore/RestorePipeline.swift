import Digest
import Glibc
import Posix
import Wire

/// Two threads behind the one that receives: one writes, one reads back, compares and gives the files their names. So
/// that receiving, writing and verifying overlap; the order stays that in which the steps came.
final class RestorePipeline {
    enum Step: Sendable {
        /// The next bytes of a file.
        case write(FileWork, at: UInt64, [UInt8])
        /// All that there is of it was written.
        case end(FileWork)
        case link(LinkWork)

        /// Removes what there is of its file.
        fileprivate func discard() {
            switch self {
            case .write(let work, _, _), .end(let work): work.removeTemporary()
            case .link: break
            }
        }
    }

    private let state: RestoreState
    private let toWrite = StepQueue<Step>(capacity: 16 << 20)
    private let toVerify = StepQueue<Step>(capacity: 256)
    private var threads: [JoinableThread] = []

    /// A small file costs about as much as so many bytes.
    private static let stepWeight = 4096

    init(_ target: RestoreTarget, _ state: RestoreState) throws {
        self.state = state
        let (toWrite, toVerify) = (toWrite, toVerify)
        let verifier = try FileVerifier(target, state)
        threads.append(
            JoinableThread(
                try Thread("restore-write") {
                    let writer = FileWriter(state)
                    while let step = toWrite.next() {
                        if state.failure != nil {
                            step.discard()
                            continue
                        }
                        switch step {
                        case .write(let work, let offset, let bytes):
                            writer.write(bytes, at: offset, to: work)
                        case .end(let work):
                            writer.end(work)
                            toVerify.add(step, weight: 1)
                        case .link: toVerify.add(step, weight: 1)
                        }
                    }
                    toVerify.close()
                }
            )
        )
        threads.append(
            JoinableThread(
                try Thread("restore-verify") {
                    while let step = toVerify.next() {
                        if state.failure != nil {
                            step.discard()
                            continue
                        }
                        switch step {
                        case .write: break
                        case .end(let work): verifier.finish(work)
                        case .link(let link): verifier.link(link)
                        }
                    }
                }
            )
        )
    }

    func submit(_ step: Step) {
        var weight = Self.stepWeight
        if case .write(_, _, let bytes) = step { weight += bytes.count }
        toWrite.add(step, weight: weight)
    }

    /// Waits until everything is done.
    func finish() {
        toWrite.close()
        for thread in threads { thread.join() }
        threads = []
    }

    /// Ends without doing what waits. Under their temporary names files stay for a later try.
    ///
    /// - Parameter removing: They go, because the target is full or failing.
    func abandon(removing: Bool, receiving: FileWork?) {
        let dropped = toWrite.close(dropping: true) + toVerify.close(dropping: true)
        for thread in threads { thread.join() }
        threads = []
        guard removing else { return }
        for step in dropped { step.discard() }
        receiving?.removeTemporary()
    }

    deinit {
        toWrite.close(dropping: true)
        toVerify.close(dropping: true)
    }
}

/// A thread that can be kept in an array.
private final class JoinableThread {
    private var thread: Thread?
    init(_ thread: consuming Thread) { self.thread = consume thread }
    func join() {
        // The body throws nothing.
        try? thread.take()?.join()
    }
}

/// Writes files under their temporary names; for one thread.
private final class FileWriter {
    private let state: RestoreState
    /// Files of so many bytes begin their way to the disk at once, so that the sync in the end is short.
    private static let writeback: UInt64 = 1 << 20

    init(_ state: RestoreState) { self.state = state }

    func write(_ bytes: [UInt8], at offset: UInt64, to work: FileWork) {
        defer { state.advance(files: 0, bytes: UInt64(bytes.count)) }
        guard work.failure == nil else { return }
        do throws(SystemCallError) {
            let file = try open(work)
            var failure: SystemCallError?
            bytes.withUnsafeBytes { bytes in
                // Zeros are left out, so that a sparse file stays one.
                if isZero(bytes) { return }
                do throws(SystemCallError) { try file.descriptor.pwriteAll(bytes, at: Int64(offset)) } catch {
                    failure = error
                }
                work.writtenEnd = offset + UInt64(bytes.count)
            }
            if let failure { throw failure }
        } catch { fail(work, error) }
    }

    func end(_ work: FileWork) {
        guard work.failure == nil else { return }
        do throws(SystemCallError) {
            let file = try open(work)
            if work.writtenEnd != work.entry.size { try file.descriptor.truncate(to: Int64(work.entry.size)) }
            if work.entry.size >= Self.writeback {
                file.descriptor.startWriteback(at: 0, count: Int64(work.entry.size))
            }
        } catch { fail(work, error) }
    }

    private func open(_ work: FileWork) throws(SystemCallError) -> OpenFile {
        if let file = work.file { return file }
        let flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW
        let file = OpenFile(try FileDescriptor(at: work.folder.descriptor, work.temporary, flags))
        work.file = file
        return file
    }

    private func fail(_ work: FileWork, _ error: SystemCallError) {
        if state.failsAll(error) {
            work.removeTemporary()
        } else {
            work.failure = error.description
        }
    }

    private func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 4096, let base = bytes.baseAddress, bytes[0] == 0 else { return false }
        return memcmp(base, base + 1, bytes.count - 1) == 0
    }
}
