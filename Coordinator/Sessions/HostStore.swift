package import Fleet
import Posix
package import Repository

/// Where a host's backups lie and what opens them.
extension FleetConfiguration {
    package var folder: StateFolder { StateFolder(state) }

    /// Opens the repository of `host` with the password in the state folder.
    ///
    /// - Throws: `PasswordUnreadable`, `RepositoryError`.
    package func openRepository(of host: String) throws -> Repository {
        let password: String
        do { password = try folder.password(of: host) } catch {
            throw PasswordUnreadable(host: host, repository: repository(of: host), reason: "\(error)")
        }
        return try Repository.open(at: repository(of: host), password: password)
    }

    /// Keeps the host's name and its agents' keys (OpenSSH's one-line form) where the catalogue's loss does not
    /// reach them.
    package func recordHost(_ host: String, keys: [String]) throws {
        let repository = try openRepository(of: host)
        try repository.writeHostRecord(HostRecord(name: host, agentKeys: keys))
    }
}

/// The file with a repository's password is missing or unreadable.
package struct PasswordUnreadable: Error, CustomStringConvertible {
    package let host: String
    let repository: String
    let reason: String

    package var description: String {
        "the password file of \(host)'s repository can't be read (\(reason)); the recovery passphrase opens the "
            + "repository too: restic -r \(repository) snapshots"
    }
}
