package import Catalogue
package import Fleet
import Posix
package import Repository
import SSH

/// Where a host's backups lie and what opens them.
extension FleetConfiguration {
    package var folder: StateFolder { StateFolder(state) }

    /// Opens the repository of `host` with the password in the state folder; with what the state folder keeps of the
    /// recovery passphrase when the key file of the password is damaged, which `check` then reports.
    ///
    /// - Throws: `PasswordUnreadable`, `RepositoryError`.
    package func openRepository(of host: String) throws -> Repository {
        let password: String
        do { password = try folder.password(of: host) } catch {
            throw PasswordUnreadable(host: host, repository: repository(of: host), error: error)
        }
        let path = repository(of: host)
        do { return try Repository.open(at: path, password: password) } catch RepositoryError.damaged(
            let file,
            let reason
        ) {
            guard let recovery = try? RecoveryKey(decoding: Files.read(folder.recovery)),
                let repository = try? Repository.open(at: path, recovery: recovery)
            else { throw RepositoryError.damaged(file: file, reason: reason) }
            return repository
        }
    }

    /// Keeps the host's name, its times and its agents' keys in the repository, where the catalogue's loss does not
    /// reach them.
    package func recordHost(_ host: HostRow, keys: [AgentKeyRow]) throws {
        try openRepository(of: host.name).keepRecord(of: host, keys: keys)
    }
}

extension Repository {
    /// As the catalogue has the host and its keys now; nothing is written when the record says so already.
    func keepRecord(of host: HostRow, keys: [AgentKeyRow]) throws {
        let inUse = keys.filter { $0.revoked == nil }.compactMap { key in
            PublicKey(blob: key.publicKey).map { HostRecord.Key(line: $0.openSSH, added: key.added) }
        }
        let record = HostRecord(name: host.name, added: host.added, removed: host.removed, keys: inUse)
        if let kept = try? hostRecord(), kept == record { return }
        try writeHostRecord(record)
    }
}

/// The file with a repository's password is missing or unreadable.
package struct PasswordUnreadable: Error, CustomStringConvertible {
    package let host: String
    let repository: String
    let error: SystemCallError

    package var description: String {
        "the password file of \(host)'s repository can't be read (\(error)); the recovery passphrase opens the "
            + "repository too: restic -r \(repository) snapshots"
    }
}
