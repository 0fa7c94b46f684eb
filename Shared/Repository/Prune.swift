import Posix

/// Takes out of a repository what no snapshot needs, in two phases: this run takes packs out of the index and notes
/// them in a journal, and a later one, `rest` afterwards, deletes those that still no index names.
///
/// For the holder of the exclusive locks. The order of a run, in which every instant is safe:
/// 1. Everything that may need something is read: snapshots, forgotten ones within their grace, the index, every tree.
///    What cannot be read ends the run.
/// 2. Forgotten snapshots whose grace is over go.
/// 3. Packs that an earlier run had taken out of the index go. It comes early because on a full disk it makes room.
/// 4. What is needed of packs that are worth it is written into new packs, which are read back.
/// 5. New index files without the packs that leave are written and read back.
/// 6. The journal names these packs, and then the old index files go.
///
/// Memory: the index, two bits for each copy of a blob, some words for each pack, and what is listed of packs that are
/// rewritten.
package final class Prune {
    /// What a run goes by. Times are nanoseconds since 1970-01-01T00:00:00Z.
    package struct Terms: Sendable {
        package var now: Int64
        /// For so long a forgotten snapshot counts as used, in nanoseconds.
        package var grace: Int64
        /// Bytes that stay free on the disk.
        package var reserve: UInt64
        /// What is kept as far as it is there: trees, with all below them, and single data blobs.
        package var heldTrees: [BlobID] = []
        package var heldBlobs: [BlobID] = []
        /// For so long a pack is out of the index before it is deleted.
        package var rest = Prune.rest

        package init(now: Int64, grace: Int64, reserve: UInt64) {
            self.now = now
            self.grace = grace
            self.reserve = reserve
        }
    }

    /// A client that knows nothing of our locks (its own was taken for stale, it uses none) may still read by the index
    /// that it loaded before, and a snapshot that such a client makes may name what we have taken out: the next run
    /// finds that and takes the packs back. An hour less than a day, so that a daily run need not wait for the next.
    package static let rest: Int64 = 23 * 3_600_000_000_000

    private let repository: Repository
    private let terms: Terms
    private let confirm: () throws -> Void
    private let progress: (PruneProgress) throws -> Void
    private let drop: (BlobID) throws -> Void
    /// What was done so far, also when `run` throws.
    package private(set) var report = PruneReport()
    private var isRewriting = false

    /// - Parameters:
    ///   - confirm: Called before every step that cannot be taken back; throws unless the locks are still held.
    ///   - progress: Called for every tree, pack and blob; may throw to end the run there.
    ///   - drop: Does it with a forgotten snapshot whose grace is over, by `dropForgotten`.
    package init(
        _ repository: Repository,
        _ terms: Terms,
        confirm: @escaping () throws -> Void = {},
        progress: @escaping (PruneProgress) throws -> Void = { _ in },
        drop: @escaping (BlobID) throws -> Void
    ) {
        self.repository = repository
        self.terms = terms
        self.confirm = confirm
        self.progress = progress
        self.drop = drop
    }

    /// What `run` would do now. Reads only, under shared locks.
    /// - Throws: As `run`.
    package func plan() throws -> PruneReport {
        report = PruneReport()
        var survey = try PruneSurvey(repository, terms, writes: false, &report, progress)
        report.dropped = survey.expired
        let due = survey.due
        report.deletedPacks = due.count
        report.deletedBytes = survey.bytes(of: due)
        for pack in due { survey.doomed[pack] = nil }
        survey.plan.chooseRewrites(room: try room(also: report.deletedBytes))
        note(survey.plan, writes: false)
        noteWaiting(survey, try doom(survey))
        return report
    }

    /// Does it.
    ///
    /// - Throws: `PruneRefused` and `RepositoryError.damagedBlob` when something cannot be read that is needed,
    ///   `SystemCallError`, and what the caller's closures throw. Everything is in order then, and the next run goes on.
    package func run() throws -> PruneReport {
        report = PruneReport()
        try confirm()
        _ = try repository.removeLeftovers(before: terms.now)
        try repository.syncNames()
        let before = Set(try repository.listPacks())
        do { try pass(rewrites: true) } catch let error as SystemCallError
            where isRewriting && error.isLackOfSpace
        {
            // Without new packs it needs next to no space.
            report.ranOutOfSpace = true
            isRewriting = false
            try removeUnlisted(except: before)
            try pass(rewrites: false)
        }
        return report
    }

    private func pass(rewrites: Bool) throws {
        var survey = try PruneSurvey(repository, terms, writes: true, &report, progress)
        for id in survey.expired {
            try confirm()
            try drop(id)
            report.dropped.append(id)
        }
        try deleteDue(&survey)
        if rewrites { survey.plan.chooseRewrites(room: try room()) }
        isRewriting = true
        let written = try PruneRewrite(repository, survey.listing, survey.plan, progress).run(confirm)
        isRewriting = false
        report.writtenBytes = written
        try replaceIndex(survey)
        note(survey.plan, writes: true)
    }

    /// Bytes that may be written.
    private func room(also freed: Int64 = 0) throws -> Int64 {
        let (free, _) = try Files.space(repository.path)
        return max(0, Int64(clamping: free) + freed - Int64(clamping: terms.reserve))
    }

    // MARK: Steps

    /// Deletes packs that an earlier run took out of the index.
    private func deleteDue(_ survey: inout PruneSurvey) throws {
        let due = survey.due
        for (number, pack) in due.enumerated() {
            try progress(PruneProgress(phase: .deleting, done: UInt64(number), total: UInt64(due.count)))
            try confirm()
            try Files.remove(repository.packPath(pack))
            report.deletedPacks += 1
            report.deletedBytes += survey.bytes(of: [pack])
            survey.doomed[pack] = nil
        }
        for folder in Set(due.map { Files.parent(repository.packPath($0)) }) {
            try Files.syncDirectory(folder)
        }
        guard survey.journalIsStale || !due.isEmpty else { return }
        // That packs are gone means nothing to who reads of them, so a disk without room does not end it here.
        do { try repository.writeDoomed(survey.doomed) } catch let error as SystemCallError
            where error.isLackOfSpace
        {}
    }

    private func replaceIndex(_ survey: PruneSurvey) throws {
        let replacement = IndexReplacement(repository, survey.listing, survey.plan)
        let doomed = try doom(survey)
        defer { noteWaiting(survey, doomed) }
        if replacement.isEmpty { return }
        try progress(PruneProgress(phase: .index, done: 0, total: UInt64(replacement.replaced.count)))
        try confirm()
        try replacement.write()
        try replacement.verify(needed: survey.needed)
        try confirm()
        if doomed != survey.doomed { try repository.writeDoomed(doomed) }
        for (number, file) in replacement.replaced.enumerated() {
            try progress(
                PruneProgress(phase: .index, done: UInt64(number), total: UInt64(replacement.replaced.count))
            )
            try confirm()
            try repository.remove(.index, file)
        }
    }

    /// The journal with what leaves now.
    private func doom(_ survey: PruneSurvey) throws -> [BlobID: Int64] {
        var doomed = survey.doomed
        for fate in [PrunePlan.Fate.goes, .rewritten] {
            for number in survey.plan.numbers(fate) {
                doomed[survey.listing.index.packs[number]] = terms.now
            }
        }
        return doomed
    }

    /// Removes what this run wrote and no index file names.
    private func removeUnlisted(except before: Set<BlobID>) throws {
        let listed = try IndexListing(repository).index
        for pack in try repository.listPacks() where !before.contains(pack) && !listed.contains(pack: pack) {
            try confirm()
            try Files.remove(repository.packPath(pack))
        }
    }

    // MARK: Figures

    private func note(_ plan: PrunePlan, writes: Bool) {
        func bytes(_ numbers: [Int]) -> Int64 { numbers.reduce(0) { $0 + (plan.packs[$1].size ?? 0) } }
        let unused = plan.numbers(.goes)
        let rewritten = plan.numbers(.rewritten)
        report.unusedPacks = unused.count
        report.unusedBytes = bytes(unused)
        report.rewrittenPacks = rewritten.count
        report.rewrittenBytes = bytes(rewritten)
        if !writes { report.writtenBytes = rewritten.reduce(0) { $0 + plan.packs[$1].kept } }
        report.missingPacks = plan.numbers(.isGone).count
        report.usedBytes = plan.used
        report.unusedLeft = plan.unusedLeft
        report.withoutRoom = plan.withoutRoom
    }

    private func noteWaiting(_ survey: PruneSurvey, _ doomed: [BlobID: Int64]) {
        report.waitingPacks = doomed.count
        report.waitingBytes = survey.bytes(of: doomed.keys)
        report.nextDeletion = doomed.values.min().map { $0 + terms.rest }
    }
}
