import Glibc
import Posix

/// What names a blob: data and trees with the same bytes are two.
struct BlobKey: Hashable {
    let id: BlobID
    let kind: BlobKind
}

/// Checks a repository. It reads only, so it needs no lock beyond one that keeps others from deleting.
///
/// Structure: every snapshot (a forgotten one too), index, key and lock file has the content that its name says, and
/// opens, as do the files of `holdfast/`; every pack that is listed is there, has the right size and is listed without gaps;
/// every tree that a snapshot needs is read once: names are names, ascend and come once, types are known, each
/// blob of a file is listed and their lengths add up to the file's size, each directory has its tree.
/// Data: every listed pack is read whole: its hash is its name, its header says what the index says, every
/// blob opens, has exactly the announced length, and its hash is its id. So is every pack that no index lists.
///
/// What is wrong is read again, three times in all, before it counts. What the system does not give even then is
/// reported as not read, which is something else than damaged.
///
/// Memory: the index, 40 bytes for each tree and some for each pack, whatever the repository's size.
package final class Check {
    let repository: Repository
    /// What the index files say.
    var index = BlobIndex()
    /// With the packs that no index file lists, as far as their own headers can be read: a lost index file hides
    /// nothing that is there.
    var everything = BlobIndex()
    /// Those of them that snapshots need.
    var neededPacks = Set<BlobID>()
    var report = CheckReport()
    /// Copies of blobs that cannot be used, each with its finding if it has one of its own.
    var badPacks = Set<BlobID>()
    var badCopies: [BadCopy] = []
    private let callback: (CheckProgress) -> Void
    private var told: Int64 = 0
    /// Seconds that may still be spent on waiting for what may come back.
    private var patience = 20.0

    struct BadCopy {
        let blob: PackedBlob
        let pack: BlobID
        let reason: String
        let isUnread: Bool
    }

    /// What `run` looks at beyond the structure.
    package enum Depth: Sendable {
        case structure
        case data
    }

    /// - Parameter progress: Called about five times a second, on the thread of `run`.
    package static func run(
        _ repository: Repository,
        _ depth: Depth,
        progress: @escaping (CheckProgress) -> Void = { _ in }
    ) -> CheckReport {
        let check = Check(repository, progress)
        do {
            try check.run(depth)
        } catch {
            check.report.obstacle = check.report.obstacle ?? "\(error)"
        }
        return check.report
    }

    private init(_ repository: Repository, _ callback: @escaping (CheckProgress) -> Void) {
        self.repository = repository
        self.callback = callback
    }

    private func run(_ depth: Depth) throws {
        // Snapshots first: what they need was stored before them, so the index that is loaded after knows it.
        let snapshots = try loadSnapshots()
        try checkKeys()
        try checkLocks()
        try checkSideFiles()
        try loadIndex()
        var (packs, unlisted) = try checkPacks()
        try checkTrees(snapshots)
        packs += unlistedButNeeded()
        switch depth {
        case .data:
            try checkData(packs)
            try checkUnlisted(unlisted.filter { !neededPacks.contains($0) })
        case .structure:
            let blobs = packs.reduce(0) { $0 + $1.blobs }
            report.packsRead.all = packs.count
            report.packsRead.skip("reading data was not asked for", packs.count)
            report.blobsRead.all = blobs
            report.blobsRead.skip("reading data was not asked for", blobs)
        }
        judgeCopies()
        if !report.findings.isEmpty { try findNeeds(snapshots) }
    }

    // MARK: Small files

    /// Those that were forgotten too: they can be recalled. First of all, because one that is recalled meanwhile is
    /// found among the others then.
    private func loadSnapshots() throws -> [(id: BlobID, tree: BlobID)] {
        var result: [(id: BlobID, tree: BlobID)] = []
        let forgotten = try repository.list(.forgotten).map { ($0, Repository.Folder.forgotten) }
        let present = try repository.list(.snapshots)
        let recalled = Set(present)
        let listed = forgotten.filter { !recalled.contains($0.0) } + present.map { ($0, .snapshots) }
        for (id, folder) in listed {
            report.snapshots.all += 1
            do throws(SystemCallError) {
                switch try settled({ try repository.snapshot(id, in: folder) }) {
                case .success(let snapshot):
                    result.append((id, snapshot.tree))
                    report.snapshots.checked += 1
                case .failure(let failure):
                    find(.damagedSnapshot(id), failure.reason, file: "\(folder.rawValue)/\(id)")
                    report.snapshots.checked += 1
                }
            } catch {
                // Gone since it was listed: nothing to check any more.
                if error.code == ENOENT {
                    report.snapshots.all -= 1
                } else {
                    skip(\.snapshots, error)
                }
            }
            tell(.loading, UInt64(report.snapshots.checked), 0)
        }
        return result
    }

    /// An index file that the system does not give ends the check: without it nobody knows what is missing.
    private func loadIndex() throws {
        for id in try repository.list(.index) {
            report.indexFiles.all += 1
            do throws(SystemCallError) {
                let packs = try settled({ try repository.indexFile(id) })
                report.indexFiles.checked += 1
                switch packs {
                case .success(let packs): for pack in packs { index.add(pack: pack.id, pack.blobs) }
                case .failure(let failure): find(.damagedIndexFile(id), failure.reason)
                }
            } catch {
                // A stock client replaced it since it was listed; what it said stands in another one.
                guard error.code == ENOENT else { throw error }
                report.indexFiles.all -= 1
            }
        }
    }

    // MARK: Helpers

    func find(_ kind: CheckFinding.Kind, _ reason: String, file: String? = nil) {
        report.findings.append(CheckFinding(kind, reason, file: file))
    }

    /// Counts something as not looked at, because the system refused.
    func skip(_ count: WritableKeyPath<CheckReport, CheckCount>, _ error: SystemCallError) {
        report[keyPath: count].skip(error.reason)
        report.obstacle = report.obstacle ?? "\(error)"
    }

    struct Failure: Error {
        let reason: String
    }

    /// Reads up to three times, because a read that went wrong is not a file that is wrong.
    ///
    /// - Parameter pack: Whose cached bytes are dropped in between.
    /// - Throws: `SystemCallError` for what is no damage: what the system does not give at the third time either, and
    ///   (at once) what it refuses.
    func settled<R>(pack: BlobID? = nil, _ body: () throws -> R) throws(SystemCallError) -> Result<R, Failure>
    {
        var reason = ""
        var refusal: SystemCallError?
        for attempt in 1...3 {
            if attempt > 1 {
                if let pack { dropCache(pack) }
                // A disk that wakes up or a mount that comes back takes its time.
                if refusal != nil { wait(attempt == 2 ? 0.1 : 0.4) }
            }
            do {
                let result = try body()
                if attempt > 1 {
                    report.notes.append("a read went wrong and was right at attempt \(attempt): \(reason)")
                }
                return .success(result)
            } catch {
                (reason, refusal) = Self.judge(error)
                if let refusal, !refusal.isReadFailure && refusal.code != ENOENT { throw refusal }
            }
        }
        if let refusal, pack == nil || refusal.code != ENOENT { throw refusal }
        return .failure(Failure(reason: reason))
    }

    /// What went wrong, and what the system said if it was that.
    private static func judge(_ error: any Error) -> (reason: String, refusal: SystemCallError?) {
        switch error {
        // More than a file of its kind can hold is in it, which no reading again changes.
        case let error as SystemCallError where error.code == EFBIG:
            return ("it is too large for what it is", nil)
        case let error as SystemCallError: return ("\(error)", error)
        case let error as DamagedCopy: return (error.reason, error.error)
        case RepositoryError.damaged(_, let reason): return (reason, nil)
        case RepositoryError.damagedBlob(_, _, let copies):
            let reason = copies.map { "in pack \($0.pack) \($0.reason)" }.joined(separator: "; ")
            // As long as one copy may be right, nobody knows; and a pack that is missing is missing.
            return (reason, copies.lazy.compactMap(\.error).first { $0.isReadFailure } ?? copies.last?.error)
        default: return ("\(error)", nil)
        }
    }

    private func wait(_ seconds: Double) {
        guard patience >= seconds else { return }
        patience -= seconds
        Time.sleep(seconds: seconds)
    }

    private func dropCache(_ pack: BlobID) {
        guard let file = try? FileDescriptor(open: repository.packPath(pack), O_RDONLY) else { return }
        _ = posix_fadvise(file.raw, 0, 0, POSIX_FADV_DONTNEED)
    }

    func tell(_ phase: CheckProgress.Phase, _ done: UInt64, _ total: UInt64) {
        let now = Time.monotonic()
        guard now - told >= 200_000_000 else { return }
        told = now
        callback(CheckProgress(phase: phase, done: done, total: total, findings: report.findings.count))
    }
}
