import Posix
package import Restore
import Synchronization
import Wire

/// Writes a snapshot into a folder of this machine: the side that has it and the side that writes, in one process.
package struct Restorer {
    private let sender: SnapshotSender

    package init(_ sender: SnapshotSender) { self.sender = sender }

    /// Restores into `target`, a folder that is missing or empty, or where the same restore was begun.
    ///
    /// Damaged and refused entries are in the report and stop nothing else.
    /// - Parameters:
    ///   - stop: Asked now and then; once true the restore ends.
    ///   - progress: Called from any thread, at most five times a second and once at the end.
    /// - Throws: `RestoreError`, and `SystemCallError` for a target that cannot be made.
    package func run(
        to target: String,
        stop: @escaping @Sendable () -> Bool = { false },
        progress: @escaping @Sendable (RestoreProgress) -> Void = { _ in }
    ) throws -> RestoreReport {
        let (ours, theirs) = LocalChannel.pair()
        let failure = Failure()
        // Handed to the thread as a whole; nothing else uses it meanwhile.
        let box = Box(sender)
        var thread: Thread? = try Thread("send") {
            defer { theirs.close() }
            do { try box.sender.run(FrameStream(theirs)) } catch { failure.note(error) }
        }
        defer {
            ours.close()
            try? thread.take()?.join()
        }
        let stream = FrameStream(ours)
        do {
            let first = try stream.receive { try RestoreReply(type: $0, body: $1) }
            guard case .restoring(let what) = first else {
                throw WireError.unexpected(type: first.type, state: "a restore begins")
            }
            return try RestoreReceiver(stream, to: target, stop: stop, progress: progress).run(what)
        } catch WireError.closed {
            throw failure.error ?? WireError.closed
        }
    }

    private struct Box: @unchecked Sendable {
        let sender: SnapshotSender
        init(_ sender: SnapshotSender) { self.sender = sender }
    }

    private final class Failure: Sendable {
        private let kept = Mutex<(any Error)?>(nil)
        func note(_ error: any Error) { kept.withLock { $0 = error } }
        var error: (any Error)? { kept.withLock { $0 } }
    }
}
