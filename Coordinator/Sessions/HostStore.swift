package import Catalogue
package import Fleet
import Glibc
import Posix
package import Repository
import SSH

/// Where a host's backups lie and what opens them.
extension FleetConfiguration {
    package var folder: StateFolder { StateFolder(state) }

    /// Opens the repository of `host` with the password in the state folder; with what the state folder keeps of the
    /// recovery passphrase when the key file of the password is damaged, which `check` then reports, and when the host was
    /// added at another coordinator, which has its password.
    ///
    /// - Throws: `PasswordUnreadable`, `RepositoryError`.
    package func openRepository(of host: String) throws -> Repository {
        let path = repository(of: host)
        let password: String
        do { password = try folder.password(of: host) } catch {
            if error.code == ENOENT, let recovery = try? RecoveryKey(decoding: Files.read(folder.recovery)),
                let repository = try? Repository.open(at: path, recovery: recovery)
            {
                return repository
            }
            throw PasswordUnreadable(
                host: host,
                repository: path,
                error: error,
                isShared: catalogue != nil && error.code == ENOENT
            )
        }
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
    /// The catalogue may be shared with a coordinator that has the password.
    let isShared: Bool

    package var description: String {
        let elsewhere =
            isShared
            ? "; where the host was added at another coordinator, copy recovery.json of that one's state folder, or this "
                + "password file" : ""
        return
            "the password file of \(host)'s repository can't be read (\(error)); the recovery passphrase opens the "
            + "repository too: restic -r \(repository) snapshots" + elsewhere
    }
}
