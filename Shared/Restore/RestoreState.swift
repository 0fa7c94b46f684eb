import Glibc
import Posix
import Synchronization
import Wire

/// What the threads of a restore tell each other and the caller.
final class RestoreState: Sendable {
    private struct Values {
        var report = RestoreReport()
        var progress: RestoreProgress
        var told: Int64 = 0
        var failure: String?
    }

    private let values: Mutex<Values>
    private let callback: @Sendable (RestoreProgress) -> Void
    /// Nanoseconds between two calls of `callback`.
    private static let interval: Int64 = 200_000_000

    init(_ what: Restoring, _ callback: @escaping @Sendable (RestoreProgress) -> Void) {
        let progress = RestoreProgress(
            files: 0,
            bytes: 0,
            totalFiles: Int(clamping: what.files),
            totalBytes: what.bytes,
            problems: 0
        )
        values = Mutex(Values(progress: progress))
        self.callback = callback
    }

    var report: RestoreReport { values.withLock { $0.report } }
    /// Why the target takes no more.
    var failure: String? { values.withLock { $0.failure } }

    func fail(_ reason: String) { values.withLock { $0.failure = $0.failure ?? reason } }

    /// Ends the whole restore when `error` is one that every further file would meet too; false for others.
    func failsAll(_ error: SystemCallError) -> Bool {
        guard RestoreState.concernsAll(error.code) else { return false }
        fail(error.description)
        return true
    }

    private static func concernsAll(_ code: Int32) -> Bool {
        [ENOSPC, EDQUOT, EROFS, EIO, EMFILE, ENFILE, ENOMEM].contains(code)
    }

    func change(_ body: (inout RestoreReport) -> Void) { values.withLock { body(&$0.report) } }

    func problem(_ path: [UInt8], _ kind: RestoreProblem.Kind) {
        change { $0.add(RestoreProblem(path: path, kind: kind)) }
    }

    func missed(_ missed: Metadata.Missed, _ path: @autoclosure () -> [UInt8]) {
        guard missed.owner != nil || missed.attributes != nil else { return }
        let path = path()
        change { report in
            if let reason = missed.owner { report.owners.add(path, reason) }
            if let reason = missed.attributes { report.attributes.add(path, reason) }
        }
    }

    /// Counts a file that is whole.
    func whole(bytes: UInt64, kept: UInt64, wasThere: Bool) {
        change { report in
            report.files += 1
            report.bytes += bytes
            report.bytesKept += kept
            if wasThere { report.filesKept += 1 }
        }
        advance(files: 1, bytes: 0)
    }

    func advance(files: Int, bytes: UInt64) {
        let due = values.withLock { values -> RestoreProgress? in
            values.progress.files += files
            values.progress.bytes += bytes
            let now = Time.monotonic()
            guard now - values.told >= Self.interval else { return nil }
            values.told = now
            values.progress.problems = values.report.problemCount
            return values.progress
        }
        if let due { callback(due) }
    }

    /// Takes back what was counted of a file that is not right.
    func retreat(bytes: UInt64) { values.withLock { $0.progress.bytes -= min($0.progress.bytes, bytes) } }

    /// The last word.
    func tellEnd() {
        callback(
            values.withLock { values in
                values.progress.problems = values.report.problemCount
                return values.progress
            }
        )
    }
}
