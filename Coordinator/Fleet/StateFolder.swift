import Glibc
package import Posix

/// The coordinator's own files: everything in here but the catalogue is small, secret and worth a copy on paper.
///
/// ```
/// STATE/host_key            the SSH host key that agents pin (0600)
/// STATE/recovery.json       the recovery passphrase's costly hash, from which new repositories get their key (0600)
/// STATE/passwords/HOST      the password of a host's repository, one line (0600)
/// STATE/fleet.accepted.yaml the inventory that the running service goes by, a copy (0600)
/// STATE/catalogue/          the private PostgreSQL
/// ```
package struct StateFolder: Sendable {
    package let path: String

    package init(_ path: String) { self.path = path }

    package var hostKey: String { "\(path)/host_key" }
    package var recovery: String { "\(path)/recovery.json" }
    package var acceptedInventory: String { "\(path)/fleet.accepted.yaml" }
    package var catalogue: String { "\(path)/catalogue" }
    package func passwordFile(of host: String) -> String { "\(path)/passwords/\(host)" }

    /// Whether `init` has been run.
    package var isSetUp: Bool { Files.exists(recovery) && Files.exists(hostKey) }

    package func password(of host: String) throws(SystemCallError) -> String {
        let text = String(decoding: try Files.read(passwordFile(of: host), limit: 4096), as: UTF8.self)
        return text.split(whereSeparator: \.isWhitespace).first.map(String.init) ?? ""
    }

    package func setPassword(_ password: String, of host: String) throws(SystemCallError) {
        try Files.makeDirectories("\(path)/passwords")
        try Files.writeAtomically(Array("\(password)\n".utf8), to: passwordFile(of: host))
    }
}
