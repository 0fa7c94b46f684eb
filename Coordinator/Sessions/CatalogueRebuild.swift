package import Catalogue
package import Fleet
import JSON
import Posix
import Postgres
package import Repository
import SSH

/// Makes the catalogue's hosts, keys, snapshots, pins, proofs and epochs again from the repositories and the password
/// files: `survey` reads and locks, `conflicts` compares with the rows that are there, `apply` adds what is missing,
/// all in one transaction. Until `release` nobody else changes the repositories.
package final class CatalogueRebuild {
    /// What became of one host.
    package struct Host {
        package let name: String
        /// Nil when its repository could not be read at all; `failure` then says why.
        package var survey: RepositorySurvey?
        package var failure: (any Error)?
        /// Its password file was missing and was made again, or its repository lacked the fleet's recovery key.
        package var repaired: [String] = []

        package init(name: String) { self.name = name }
    }

    private let fleet: FleetConfiguration
    private let server: CatalogueServer
    private let catalogue: Catalogue
    private let askPassphrase: (String) throws -> String?
    private var passphrases: [String] = []
    private var gaveUpAsking = false
    private let id = newUUID()
    private var locks: [RepositoryLock] = []
    private var leases: [HostLease] = []
    private var repositories: [String: Repository] = [:]
    /// Whose password file is missing and has to be made.
    private var withoutPassword: Set<String> = []

    package private(set) var hosts: [Host] = []

    /// - Parameter askPassphrase: Asks a person for the recovery passphrase that opens the repository of this host;
    ///   nil when nobody answers.
    package init(
        _ fleet: FleetConfiguration,
        _ server: CatalogueServer,
        _ catalogue: Catalogue,
        askPassphrase: @escaping (String) throws -> String?
    ) {
        self.fleet = fleet
        self.server = server
        self.catalogue = catalogue
        self.askPassphrase = askPassphrase
    }

    // MARK: Reading

    /// Opens, locks and reads every repository.
    ///
    /// - Throws: `CatalogueError.locked`, `RepositoryError.locked` when somebody works on one of them; `CommandFailure`
    ///   when another rebuild is under way. What concerns one host only is kept with that host.
    package func survey(progress: @escaping (_ host: String, CheckProgress) -> Void) throws {
        guard try catalogue.lockForRebuild() else { throw RebuildRefused.underWay }
        let rows = Dictionary(try catalogue.hosts(removedToo: true).map { ($0.name, $0) }) { first, _ in first
        }
        for name in try names() {
            var host = Host(name: name)
            do {
                if let row = rows[name] {
                    leases.append(try HostLease(row, .rebuilding, server: server.address))
                }
                let repository = try open(name)
                try lock(repository)
                repositories[name] = repository
                let survey = try RepositorySurvey(repository) { [self] step in
                    keepLocks()
                    progress(name, step)
                }
                if let record = survey.record, record.name != name {
                    throw RebuildRefused.otherHost(name: record.name, folder: fleet.repository(of: name))
                }
                host.survey = survey
            } catch let error as CatalogueError {
                throw error
            } catch let error as RepositoryError {
                if case .locked = error { throw error }
                if case .unreadableLock = error { throw error }
                host.failure = error
            } catch {
                host.failure = error
            }
            hosts.append(host)
        }
        for lock in locks { try lock.confirm() }
        // Numbers are given out in the order in which hosts came.
        hosts.sort { ($0.survey?.added ?? .max, $0.name) < ($1.survey?.added ?? .max, $1.name) }
    }

    /// Hosts that have a repository or a password file.
    private func names() throws -> [String] {
        var result: Set<String> = []
        for folder in [fleet.repositories, "\(fleet.state)/passwords"] where Files.exists(folder) {
            for name in try Directory.names(folder) {
                let text = String(decoding: name, as: UTF8.self)
                let path = "\(folder)/\(text)"
                let isRepository = ["config", "keys", "data"].contains { Files.exists("\(path)/\($0)") }
                let counts = folder == fleet.repositories ? isRepository : !text.contains("-tmp-")
                if HostName.problem(text) == nil && counts { result.insert(text) }
            }
        }
        return result.sorted()
    }

    /// With the password file; without one with what the state folder keeps of the recovery passphrase, and then with
    /// the passphrase itself.
    private func open(_ name: String) throws -> Repository {
        if Files.exists(fleet.folder.passwordFile(of: name)) { return try fleet.openRepository(of: name) }
        withoutPassword.insert(name)
        let path = fleet.repository(of: name)
        if let recovery = try? RecoveryKey(decoding: Files.read(fleet.folder.recovery)),
            let repository = try? Repository.open(at: path, recovery: recovery)
        {
            return repository
        }
        for passphrase in passphrases {
            if let repository = try? Repository.open(at: path, password: passphrase) { return repository }
        }
        while !gaveUpAsking {
            guard let passphrase = try askPassphrase(name) else {
                gaveUpAsking = true
                break
            }
            do {
                let repository = try Repository.open(at: path, password: passphrase)
                passphrases.append(passphrase)
                return repository
            } catch RepositoryError.wrongPassword {
                Log.write(.warning, "\(name): this passphrase does not open \(path)")
            }
        }
        throw RebuildRefused.noPassword(
            host: name,
            repository: path,
            file: fleet.folder.passwordFile(of: name)
        )
    }

    /// Keeps every other client away. The locks of our own processes that ended are removed first; with the catalogue
    /// gone, only the process itself can tell.
    private func lock(_ repository: Repository) throws {
        let alive = try catalogue.liveLeases()
        for lock in try repository.locks().locks {
            guard let owner = lock.owner, !alive.contains(owner), lock.isStale() else { continue }
            try repository.remove(.locks, lock.id)
        }
        locks.append(try RepositoryLock(repository, exclusive: true, owner: id))
    }

    private func keepLocks() {
        for lock in locks { try? lock.refreshIfDue() }
    }

    /// Gives all locks back.
    package func release() {
        for lock in locks { lock.release() }
        for lease in leases { lease.release() }
        locks = []
        leases = []
    }

    // MARK: Comparing

    /// Rows of the catalogue that this would not make, one line each. What the repositories do not know (runs, events,
    /// tokens, revoked keys, the last contact) is no conflict.
    package func conflicts() throws -> [String] {
        var result: [String] = []
        for row in try catalogue.hosts(removedToo: true) {
            guard let survey = hosts.first(where: { $0.name == row.name })?.survey else {
                result.append("it has the host \(row.name), whose repository cannot be read")
                continue
            }
            result += try conflicts(row, survey)
        }
        return result
    }

    private func conflicts(_ row: HostRow, _ survey: RepositorySurvey) throws -> [String] {
        var result: [String] = []
        let name = row.name
        if let record = survey.record, (row.removed == nil) != (record.removed == nil) {
            result.append(
                "\(name) is \(row.removed == nil ? "" : "not ")in the fleet, and its repository says otherwise"
            )
        }
        let known = Set(survey.keys.map(\.key.fingerprint.text))
        for key in try catalogue.keys(of: row) where (key.revoked == nil) != known.contains(key.fingerprint) {
            result.append(
                "\(name): the key \(key.fingerprint) is \(key.revoked == nil ? "in use" : "revoked"), and the "
                    + "repository says otherwise (the next backup writes it there)"
            )
        }
        let snapshots = Dictionary(survey.snapshots.map { ($0.id, $0) }) { first, _ in first }
        for snapshot in try catalogue.snapshots(of: row, asideToo: true) where snapshot.state == .present {
            guard var made = snapshots[snapshot.id] else {
                result.append(
                    "\(name): it has the snapshot \(snapshot.id.prefix(8)), which the repository has not"
                )
                continue
            }
            // What is lost with the runs, or with a damaged tree, is none of this; nor is where the file lies, which a
            // forgetting that was interrupted may not have told the row.
            made.run = snapshot.run
            made.state = snapshot.state
            made.forgotten = snapshot.forgotten
            made.dumpBytes = made.dumpBytes ?? snapshot.dumpBytes
            if made != snapshot {
                result.append("\(name): the snapshot \(snapshot.id.prefix(8)) is another one there")
            }
        }
        for pin in try catalogue.pins(of: row) where !survey.pins.contains(pin) {
            result.append(
                "\(name): the pin of snapshot \(pin.snapshot.prefix(8)) is not in the repository as it is here"
            )
        }
        for proof in try catalogue.proofs(of: row)
        where !survey.proofs.contains(where: { Self.same($0, proof) }) {
            result.append(
                "\(name): the proof \(proof.level) of snapshot \(proof.snapshot.prefix(8)) is not in the repository as "
                    + "it is here"
            )
        }
        return result
    }

    /// The server spells the figures in its own way.
    private static func same(_ made: ProofRow, _ row: ProofRow) -> Bool {
        guard made.snapshot == row.snapshot, made.level == row.level, made.time == row.time,
            let left = try? JSON(parsing: made.figures).object,
            let right = try? JSON(parsing: row.figures).object
        else { return false }
        return left.members.count == right.members.count
            && left.members.allSatisfy { right[$0.key] == $0.value }
    }

    // MARK: Writing

    /// Adds what is missing. Keys and password files first: what is in a repository is then within reach whatever
    /// happens next.
    ///
    /// - Returns: The number of rows that were added or changed; 0 when all of it was there.
    package func apply() throws -> Int {
        for index in hosts.indices where hosts[index].survey != nil {
            do { hosts[index].repaired = try repairKeys(hosts[index].name) } catch {
                hosts[index].failure = error
            }
        }
        return try catalogue.connection.transaction {
            var changes = 0
            for host in hosts {
                if let survey = host.survey { changes += try apply(host.name, survey) }
            }
            if changes > 0 {
                try catalogue.addEvent(
                    .warning,
                    kind: "catalogue-rebuilt",
                    "the catalogue was made again from the repositories; runs and events before this are lost"
                )
            }
            return changes
        }
    }

    private func apply(_ name: String, _ survey: RepositorySurvey) throws -> Int {
        let before = try catalogue.hosts(removedToo: true).first { $0.name == name }
        let host = try catalogue.restoreHost(
            name,
            added: survey.added,
            removed: survey.record?.removed,
            epoch: survey.epoch
        )
        var changes = before == host ? 0 : 1
        let keys = Set(try catalogue.keys(of: host).map(\.fingerprint))
        for (key, added) in survey.keys where !keys.contains(key.fingerprint.text) {
            try catalogue.restoreKey(
                host: host,
                publicKey: key.blob,
                fingerprint: key.fingerprint.text,
                added: added
            )
            changes += 1
        }
        let rows = try catalogue.snapshots(of: host, asideToo: true)
        let states = Dictionary(rows.map { ($0.id, $0.state) }) { first, _ in first }
        for snapshot in survey.snapshots {
            switch (states[snapshot.id], snapshot.state) {
            case (nil, _): try catalogue.put(snapshot, host: host.id)
            case (.present, .forgotten):
                try catalogue.setForgotten(snapshot.id, host: host.id, at: snapshot.forgotten ?? 0)
            case (.forgotten, .present): try catalogue.setPresent(snapshot.id, host: host.id)
            default: continue
            }
            changes += 1
        }
        let pins = Set(try catalogue.pins(of: host).map(\.snapshot))
        for pin in survey.pins where !pins.contains(pin.snapshot) {
            try catalogue.put(pin, host: host.id)
            changes += 1
        }
        let proofs = try catalogue.proofs(of: host)
        for proof in survey.proofs where !proofs.contains(where: { Self.same(proof, $0) }) {
            try catalogue.put(proof, host: host.id)
            changes += 1
        }
        return changes
    }

    /// Gives a repository without a password file a new password, and the fleet's recovery key if it lacks that.
    private func repairKeys(_ name: String) throws -> [String] {
        guard withoutPassword.contains(name), let repository = repositories[name] else { return [] }
        var result: [String] = []
        let password = Passphrase.machinePassword()
        _ = try repository.addKey(.password(password))
        try fleet.folder.setPassword(password, of: name)
        result.append(
            "its password file was missing: \(fleet.folder.passwordFile(of: name)) holds a new password"
        )
        let recovery = try RecoveryKey(decoding: Files.read(fleet.folder.recovery))
        if try !repository.hasKey(recovery) {
            _ = try repository.addKey(.recovery(recovery))
            result.append("it opens with this fleet's recovery passphrase too from now on")
        }
        return result
    }
}

/// Why a catalogue is not made again, or a host not found.
package enum RebuildRefused: Error, CustomStringConvertible {
    case underWay
    case otherHost(name: String, folder: String)
    case noPassword(host: String, repository: String, file: String)

    package var description: String {
        switch self {
        case .underWay: "another rebuild of the catalogue is under way"
        case .otherHost(let name, let folder):
            "the repository in \(folder) is that of the host \(name): give the folder that name, or move a copy away"
        case .noPassword(let host, let repository, let file):
            "the password file \(file) is missing, and nothing else here opens \(repository): put the file back, or run "
                + "this again and type the recovery passphrase when asked for \(host)"
        }
    }
}
