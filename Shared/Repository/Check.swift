import Glibc
import Posix

/// What names a blob: data and trees with the same bytes are two.
struct BlobKey: Hashable {
    let id: BlobID
    let kind: BlobKind
}

/// Checks a repository. It reads only, so it needs no lock beyond one that keeps others from deleting.
///
/// Structure: every snapshot and index file opens; every pack that is listed is there and has the right size;
/// every tree that a snapshot needs is read once: names are names, ascend and come once, types are known, each
/// blob of a file is listed and their lengths add up to the file's size, each directory has its tree.
/// Data: every listed pack is read whole: its hash is its name, its header says what the index says, every
/// blob opens, has exactly the announced length, and its hash is its id.
///
/// Memory: the index, 40 bytes for each tree and some for each pack, whatever the repository's size.
package final class Check {
    let repository: Repository
    var index = BlobIndex()
    var report = CheckReport()
    /// Copies of blobs that cannot be used, each with its finding if it has one of its own.
    var badPacks = Set<BlobID>()
    var badCopies: [BadCopy] = []
    private let callback: (CheckProgress) -> Void
    private var told: Int64 = 0

    struct BadCopy {
        let blob: PackedBlob
        let pack: BlobID
        let reason: String
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
        try loadIndex()
        let packs = try checkPacks()
        try checkTrees(snapshots)
        switch depth {
        case .data: try checkData(packs)
        case .structure:
            report.packsRead.all = packs.count
            report.packsRead.skip("reading data was not asked for", packs.count)
            report.blobsRead.all = index.count
            report.blobsRead.skip("reading data was not asked for", index.count)
        }
        judgeCopies()
        if !report.findings.isEmpty { try findNeeds(snapshots) }
    }

    // MARK: Small files

    private func loadSnapshots() throws -> [(id: BlobID, tree: BlobID)] {
        var result: [(id: BlobID, tree: BlobID)] = []
        for id in try repository.list(.snapshots) {
            report.snapshots.all += 1
            do throws(SystemCallError) {
                switch try settled({ try repository.snapshot(id) }) {
                case .success(let snapshot):
                    result.append((id, snapshot.tree))
                    report.snapshots.checked += 1
                case .failure(let failure):
                    find(.damagedSnapshot(id), failure.reason)
                    report.snapshots.checked += 1
                }
            } catch {
                // Forgotten since it was listed: nothing to check any more.
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

    private func loadIndex() throws {
        let files = try repository.list(.index)
        report.indexFiles.all = files.count
        report.indexFiles.checked = files.count
        index = try repository.loadIndex { error in
            guard case .damaged(let file, let reason) = error,
                let id = BlobID(hex: file.split(separator: "/").last ?? "")
            else { throw error }
            find(.damagedIndexFile(id), reason)
        }
    }

    // MARK: Helpers

    func find(_ kind: CheckFinding.Kind, _ reason: String) {
        report.findings.append(CheckFinding(kind: kind, reason: reason))
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
    /// - Throws: `SystemCallError` for what is no damage.
    func settled<R>(pack: BlobID? = nil, _ body: () throws -> R) throws(SystemCallError) -> Result<R, Failure>
    {
        var reason = ""
        for attempt in 1...3 {
            do {
                let result = try body()
                if attempt > 1 {
                    report.notes.append("a read went wrong and was right at attempt \(attempt): \(reason)")
                }
                return .success(result)
            } catch let error as SystemCallError {
                guard error.code == EIO else { throw error }
                reason = "\(error)"
            } catch let error as DamagedCopy {
                reason = error.reason
            } catch {
                reason = "\(error)"
            }
            if let pack, attempt < 3 { dropCache(pack) }
        }
        return .failure(Failure(reason: reason))
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
