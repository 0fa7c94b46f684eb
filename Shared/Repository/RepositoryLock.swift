import Glibc
import JSON
import Posix

/// A lock file of ours in a repository, as stock clients honour it: an exclusive one excludes all others, a
/// shared one excludes exclusive ones. It must be refreshed while it is held.
///
/// The process that holds one ignores SIGHUP, because stock clients on the same machine send that to see
/// whether it lives.
package final class RepositoryLock {
    /// A lock older than this is written anew.
    package static let refreshAfter: Int64 = 5 * 60 * 1_000_000_000
    /// Without a refresh for so long the work must stop: at 30 minutes others take the lock for stale.
    package static let giveUpAfter: Int64 = 1350 * 1_000_000_000

    private static let settles: Int64 = 200_000_000

    package let exclusive: Bool
    private let repository: Repository
    private let owner: String
    private var id: BlobID?
    // On the clock that does not jump.
    private var written: Int64
    private var tried: Int64

    /// Takes the lock: nobody's lock conflicts, and ours is written. It counts once `confirm` has returned.
    /// Dead locks of ours must have been removed before (`removeDeadLocks`).
    /// - Parameter owner: The UUID that is also in the `application_name` of this process's connection.
    /// - Throws: `locked`, `unreadableLock`.
    package init(_ repository: Repository, exclusive: Bool, owner: String) throws {
        signal(SIGHUP, SIG_IGN)
        self.repository = repository
        self.exclusive = exclusive
        self.owner = owner
        try Self.demandNoConflict(repository, exclusive, own: nil)
        let id = try Self.write(repository, exclusive, owner)
        self.id = id
        written = Time.monotonic()
        tried = written
    }

    /// Waits until the lock has lain there for 200 ms and looks whether somebody took one that conflicts meanwhile:
    /// of two who came at once, both see the other now.
    /// - Throws: `locked`, `unreadableLock`; the lock is released then.
    package func confirm() throws {
        do {
            let seen = Self.settles - (Time.monotonic() - written)
            if seen > 0 { Time.sleep(seconds: Double(seen) / 1e9) }
            try Self.demandNoConflict(repository, exclusive, own: id)
        } catch {
            release()
            throw error
        }
    }
    deinit { release() }

    /// Writes the lock anew when it is five minutes old; cheap otherwise. To be called every few seconds to
    /// minutes by whoever works under the lock.
    /// - Throws: `lockLost` when somebody removed it; the reason why it cannot be refreshed, but only once 22
    ///   minutes passed without a refresh: a passing failure is tried again.
    package func refreshIfDue() throws {
        let now = Time.monotonic()
        guard let old = id, now - written >= Self.refreshAfter, now - tried >= Self.refreshAfter / 10 else {
            return
        }
        try refresh(old, now)
    }

    /// As `refreshIfDue`, whatever the lock's age.
    package func refreshNow() throws {
        guard let old = id else { return }
        try refresh(old, Time.monotonic())
    }

    private func refresh(_ old: BlobID, _ now: Int64) throws {
        tried = now
        guard Files.exists(repository.filePath(.locks, old)) else {
            id = nil
            throw RepositoryError.lockLost(path: repository.path)
        }
        do {
            id = try Self.write(repository, exclusive, owner)
            written = now
            try repository.remove(.locks, old)
        } catch {
            if now - written >= Self.giveUpAfter { throw error }
        }
    }

    /// Looks whether the lock file lies there still.
    /// - Throws: `lockLost`.
    package func requireThere() throws {
        guard let id, Files.exists(repository.filePath(.locks, id)) else {
            throw RepositoryError.lockLost(path: repository.path)
        }
    }

    /// Removes the lock file. Nothing happens when it is released already.
    package func release() {
        if let id { try? repository.remove(.locks, id) }
        id = nil
    }

    private static func demandNoConflict(_ repository: Repository, _ exclusive: Bool, own: BlobID?) throws {
        let found = try repository.locks()
        for lock in found.locks where lock.id != own && (exclusive || lock.exclusive) {
            throw RepositoryError.locked(path: repository.path, by: lock)
        }
        if let bad = found.unreadable.first {
            throw RepositoryError.unreadableLock(
                path: repository.path,
                file: repository.filePath(.locks, bad.id),
                reason: bad.reason
            )
        }
    }

    private static func write(_ repository: Repository, _ exclusive: Bool, _ owner: String) throws -> BlobID {
        var members: [(String, JSON)] = [
            ("time", JSON(Time.rfc3339(Time.now()))), ("exclusive", JSON(exclusive)),
            ("hostname", JSON(Host.name)), ("username", JSON(LockFile.userPrefix + owner)),
            ("pid", JSON(Int(getpid()))),
        ]
        if getuid() != 0 { members.append(("uid", JSON(getuid()))) }
        if getgid() != 0 { members.append(("gid", JSON(getgid()))) }
        return try repository.write(JSON(members).encoded(), to: .locks)
    }
}

/// The lock files of a repository.
package struct FoundLocks: Sendable {
    package var locks: [LockFile] = []
    package var unreadable: [Unreadable] = []

    package struct Unreadable: Equatable, Sendable {
        package let id: BlobID
        package let reason: String
    }
}

extension Repository {
    /// Every lock file, oldest first. Empty files are ignored, as stock clients do; one that vanishes while it
    /// is read is gone; one that cannot be read is tried for two seconds.
    package func locks() throws -> FoundLocks {
        var result = FoundLocks()
        for id in try list(.locks) {
            for attempt in 1...3 {
                do {
                    if try FileStatus(path: filePath(.locks, id)).size == 0 { break }
                    result.locks.append(try LockFile(id: id, parsing: read(.locks, id)))
                    break
                } catch let error as SystemCallError where error.code == ENOENT {
                    break
                } catch {
                    if attempt < 3 {
                        Time.sleep(seconds: 1)
                        continue
                    }
                    let reason: String
                    if let error = error as? LockFile.Unreadable {
                        reason = error.reason
                    } else if case .damaged(_, let why)? = error as? RepositoryError {
                        reason = why
                    } else {
                        throw error
                    }
                    result.unreadable.append(FoundLocks.Unreadable(id: id, reason: reason))
                }
            }
        }
        result.locks.sort { $0.time < $1.time }
        return result
    }

    /// Removes the lock files of our own dead processes, and no others.
    /// - Parameter isAlive: Whether a process with this UUID still has its connection to the catalogue.
    /// - Returns: What was removed.
    package func removeDeadLocks(isAlive: (String) throws -> Bool) throws -> [LockFile] {
        var removed: [LockFile] = []
        for lock in try locks().locks {
            guard let owner = lock.owner, try !isAlive(owner) else { continue }
            try remove(.locks, lock.id)
            removed.append(lock)
        }
        return removed
    }

    /// What to type to remove stale locks of foreign clients.
    package var unlockCommand: String { "restic -r \(path) unlock" }
}
