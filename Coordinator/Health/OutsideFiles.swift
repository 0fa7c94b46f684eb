package import Fleet
import Glibc
import Posix
import Synchronization

extension OutsideFile {
    /// The newest file with something in it that the backup's pattern names.
    package init(newestOf backup: OutsideBackup) {
        self.init()
        var found = glob_t()
        defer { globfree(&found) }
        guard glob(backup.pattern, GLOB_NOSORT, nil, &found) == 0 else { return }
        for index in 0..<Int(found.gl_pathc) {
            guard let raw = found.gl_pathv?[index] else { continue }
            let name = UnsafeBufferPointer(start: raw, count: strlen(raw)).map { UInt8(bitPattern: $0) }
            guard let status = try? FileStatus(at: AT_FDCWD, name, follow: true), status.kind == .file,
                status.size > 0, status.mtime > time ?? .min
            else { continue }
            self.init(path: escaped(name), time: status.mtime, bytes: Int64(clamping: status.size))
        }
    }
}

/// Looks for the backups that others make. Those mostly lie on other machines' disks, and one that is gone hangs whoever
/// asks it: so a thread of its own asks, and who wants to know waits for it only so long.
package enum OutsideFiles {
    private static let seconds: Int64 = 10

    private struct State {
        /// The patterns that a thread is looking for, or hangs at.
        var looking: Set<String> = []
        var found: [String: OutsideFile] = [:]
    }

    private static let state = Mutex(State())

    /// The newest files of each host's backups, in their order, by the host's name.
    package static func find(_ backups: [(host: String, backups: [OutsideBackup])]) -> [String: [OutsideFile]]
    {
        let wanted = backups.flatMap(\.backups)
        if wanted.isEmpty { return [:] }
        let fresh = state.withLock { state in
            let fresh = wanted.filter { !state.looking.contains($0.pattern) }
            state.looking.formUnion(fresh.map(\.pattern))
            for backup in fresh { state.found[backup.pattern] = nil }
            return fresh
        }
        let end = Time.monotonic() + seconds * 1_000_000_000
        // One for each folder, so that only those are late whose disk hangs.
        for (_, some) in Dictionary(grouping: fresh, by: { Files.parent($0.pattern) }) {
            do {
                try Thread("outside") {
                    for backup in some {
                        let file = OutsideFile(newestOf: backup)
                        state.withLock { state in
                            state.found[backup.pattern] = file
                            state.looking.remove(backup.pattern)
                        }
                    }
                }.detach()
            } catch {
                let file = OutsideFile(problem: "\(error)")
                state.withLock { state in
                    for backup in some {
                        state.found[backup.pattern] = file
                        state.looking.remove(backup.pattern)
                    }
                }
            }
        }
        while state.withLock({ state in wanted.contains { state.looking.contains($0.pattern) } }),
            Time.monotonic() < end
        {
            Time.sleep(seconds: 0.001)
        }
        return state.withLock { state in
            let late = OutsideFile(problem: "the disk with it gave no answer for \(seconds) s")
            return Dictionary(
                backups.filter { !$0.backups.isEmpty }.map { host, backups in
                    let files = backups.map { backup in
                        (state.looking.contains(backup.pattern) ? nil : state.found[backup.pattern]) ?? late
                    }
                    return (host, files)
                }
            ) { first, _ in first }
        }
    }
}
