import Glibc
import Posix

/// The small files beside snapshots and index.
extension Check {
    /// Whether every key file is the one that its name says; the one that opened the repository among them.
    func checkKeys() throws {
        try each(.keys, \.keys) { id in
            let text = try repository.read(.keys, id)
            do { _ = try KeyFile(parsing: text) } catch let error as KeyFile.Unreadable {
                throw Failure(reason: error.reason)
            }
        } damaged: {
            .damagedKey($0)
        }
    }

    /// Whether every lock file can be read: one that can't stops every client.
    func checkLocks() throws {
        try each(.locks, \.locks) { id in
            // Nobody minds an empty one: a stock client that was killed may leave it.
            if try FileStatus(path: repository.filePath(.locks, id)).size == 0 {
                report.notes.append("the lock file \(id) is empty, which every client ignores")
                return
            }
            do { _ = try LockFile(id: id, parsing: repository.read(.locks, id)) } catch let error
                as LockFile.Unreadable
            {
                throw Failure(reason: error.reason)
            }
        } damaged: {
            .damagedLock($0)
        }
    }

    private func each(
        _ folder: Repository.Folder,
        _ count: WritableKeyPath<CheckReport, CheckCount>,
        _ read: (BlobID) throws -> Void,
        damaged: (BlobID) -> CheckFinding.Kind
    ) throws {
        for id in try repository.list(folder) {
            report[keyPath: count].all += 1
            do throws(SystemCallError) {
                let result = try settled({ try read(id) })
                report[keyPath: count].checked += 1
                if case .failure(let failure) = result { find(damaged(id), failure.reason) }
            } catch {
                // Gone since it was listed: a lock that was given back, a key that was removed.
                if error.code == ENOENT { report[keyPath: count].all -= 1 } else { skip(count, error) }
            }
        }
    }

    /// Whether everything in `holdfast/` opens, apart from what was set aside.
    func checkSideFiles() throws {
        for name in try repository.sideFiles() {
            try checkSideFile(name) {
                switch name {
                case "host", "host.json": _ = try repository.hostRecord()
                case "epoch": _ = try repository.epoch()
                case Repository.doomedName: _ = try repository.doomedPacks()
                case "interrupted": _ = try repository.readSealed(name)
                // Who goes on with it reads it as far as its seals hold; its end may be cut.
                case "interrupted.log": break
                default: report.notes.append("holdfast/\(name) is nothing that Holdfast knows")
                }
            }
        }
        for name in try repository.sideFiles(in: "pins") {
            try checkSideFile(name) { _ = try repository.pin(name) }
        }
        for name in try repository.sideFiles(in: "proofs") {
            try checkSideFile(name) { _ = try repository.proof(name) }
        }
        // The snapshots there are looked at as snapshots.
        for name in try repository.sideFiles(in: Repository.forgottenFolder)
        where name.hasSuffix(Repository.forgottenSuffix) {
            try checkSideFile(name) { _ = try repository.forgottenTime(name) }
        }
    }

    private func checkSideFile(_ name: String, _ read: () throws -> Void) throws {
        report.sideFiles.all += 1
        do throws(SystemCallError) {
            let result = try settled(read)
            report.sideFiles.checked += 1
            if case .failure(let failure) = result { find(.damagedSideFile(name), failure.reason) }
        } catch {
            if error.code == ENOENT { report.sideFiles.all -= 1 } else { skip(\.sideFiles, error) }
        }
    }
}
