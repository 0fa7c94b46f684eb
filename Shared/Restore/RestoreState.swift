import Posix
import Repository
import Synchronization

/// What the threads of a restore tell each other and the caller.
final class RestoreState: Sendable {
    private struct Values {
        var report = RestoreReport()
        var progress: RestoreProgress
        var told: Int64 = 0
        var failure: String?
        /// First names of files with several that are not there whole.
        var brokenLinks = Set<LinkKey>()
    }

    private let values: Mutex<Values>
    private let callback: @Sendable (RestoreProgress) -> Void
    /// Nanoseconds between two calls of `callback`.
    private static let interval: Int64 = 200_000_000

    init(_ plan: RestorePlan, _ callback: @escaping @Sendable (RestoreProgress) -> Void) {
        let progress = RestoreProgress(
            files: 0,
            bytes: 0,
            totalFiles: plan.files,
            totalBytes: plan.bytes,
            problems: 0
        )
        values = Mutex(Values(progress: progress))
        self.callback = callback
    }

    var report: RestoreReport { values.withLock { $0.report } }
    var failure: String? { values.withLock { $0.failure } }

    func fail(_ reason: String) { values.withLock { $0.failure = $0.failure ?? reason } }

    func change(_ body: (inout RestoreReport) -> Void) { values.withLock { body(&$0.report) } }

    func problem(_ path: [UInt8], _ kind: RestoreProblem.Kind) {
        change { $0.problems.append(RestoreProblem(path: path, kind: kind)) }
    }

    func missed(_ missed: Metadata.Missed, _ path: [UInt8]) {
        guard missed.owner != nil || missed.attributes != nil else { return }
        change { report in
            if let reason = missed.owner { report.owners.add(path, reason) }
            if let reason = missed.attributes { report.attributes.add(path, reason) }
        }
    }

    func isBroken(_ key: LinkKey) -> Bool { values.withLock { $0.brokenLinks.contains(key) } }

    func finished(_ job: FileJob, _ outcome: FileRestorer.Outcome) {
        values.withLock { values in
            var kind: RestoreProblem.Kind?
            switch outcome {
            case .whole(let bytes):
                values.report.files += 1
                values.report.bytes += bytes
            case .otherSize(let bytes):
                values.report.files += 1
                values.report.bytes += bytes
                kind = .size(announced: job.node.size, actual: bytes)
            case .damaged(let parts, let keptAs):
                kind = .damaged(parts, keptAs: keptAs.map { job.path.dropLast(job.node.name.count) + $0 })
            case .failed(let reason): kind = .failed(reason)
            }
            if let kind { values.report.problems.append(RestoreProblem(path: job.path, kind: kind)) }
            switch outcome {
            case .whole, .otherSize: break
            case .damaged, .failed: if let key = LinkKey(job.node) { values.brokenLinks.insert(key) }
            }
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
            values.progress.problems = values.report.problems.count
            return values.progress
        }
        if let due { callback(due) }
    }

    /// The last word.
    func tellEnd() {
        callback(
            values.withLock { values in
                values.progress.problems = values.report.problems.count
                return values.progress
            }
        )
    }
}
