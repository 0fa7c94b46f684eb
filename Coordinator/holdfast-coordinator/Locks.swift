import Arguments
import Catalogue
import Fleet
import JSON
import Posix
import Repository
import Sessions

/// `locks`: who holds which host, from the catalogue, and restic's lock files in the repositories.
func locks(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let holders = try catalogue.holders()
        let alive = try catalogue.liveLeases()
        var files: [(host: String, lock: LockFile, state: String)] = []
        var unreadable: [String] = []
        for host in try catalogue.hosts() {
            do {
                let repository = try fleet.openRepository(of: host.name)
                let found = try repository.locks()
                for lock in found.locks { files.append((host.name, lock, describe(lock, alive, repository))) }
                unreadable += found.unreadable.map {
                    "\(host.name): lock file \($0.id) can't be read (\($0.reason)); when nothing uses the repository: "
                        + "\(repository.unlockCommand) --remove-all"
                }
            } catch { unreadable.append("\(host.name): \(error)") }
        }
        if settings.json {
            printJSON([
                "holders": .array(holders.map(holderJSON)),
                "lock_files": .array(files.map { lockJSON($0.host, $0.lock, $0.state) }),
                "errors": JSON(unreadable),
            ])
            return .done
        }
        if holders.isEmpty { put("nobody holds a lock\n") }
        for holder in holders {
            put("\(holder.hostName): \(holder.locks.joined(separator: ", ")): \(holder)\n")
        }
        for (host, lock, state) in files { put("\(host): restic lock \(lock.id.short), \(lock): \(state)\n") }
        for line in unreadable { put("\(line)\n") }
        return .done
    }
}

/// What a lock file means and what to do about it.
private func describe(_ lock: LockFile, _ alive: Set<String>, _ repository: Repository) -> String {
    if let owner = lock.owner {
        return alive.contains(owner)
            ? "ours, in use" : "ours, of a process that ended; the next run removes it"
    }
    guard lock.isStale() else { return "of a stock restic, \(ago(lock.time))" }
    return "of a stock restic, stale; when nothing uses the repository: \(repository.unlockCommand)"
}

private func holderJSON(_ holder: LockHolder) -> JSON {
    JSON([
        ("host", JSON(holder.hostName)), ("locks", JSON(holder.locks)), ("kind", JSON(holder.kind)),
        ("since", instant(holder.since)), ("machine", JSON(holder.machine)),
        ("pid", JSON(holder.pid.map { Int64($0) })), ("epoch", JSON(holder.epoch)), ("run", JSON(holder.run)),
        ("phase", JSON(holder.phase)), ("fraction", holder.fraction.map { JSON($0) } ?? .null),
    ])
}

private func lockJSON(_ host: String, _ lock: LockFile, _ state: String) -> JSON {
    JSON([
        ("host", JSON(host)), ("id", JSON(lock.id.hex)), ("time", instant(lock.time)),
        ("exclusive", JSON(lock.exclusive)), ("machine", JSON(lock.hostname)), ("pid", JSON(Int64(lock.pid))),
        ("ours", JSON(lock.owner != nil)), ("state", JSON(state)),
    ])
}
