package import Posix

/// Why a connection could not be made or could not go on.
package enum SSHError: Error, Equatable, CustomStringConvertible {
    /// No TCP connection: name, port, route or time.
    case dial(DialError)
    /// The other side presented another key than the one that was pinned.
    case wrongHostKey(expected: Fingerprint, found: Fingerprint, address: String)
    /// The coordinator does not know our key (any more).
    case keyNotAccepted(Fingerprint, address: String)
    /// The other side refused the subsystem `holdfast`.
    case noSubsystem(address: String)
    /// `stage` did not end in the time allowed.
    case timedOut(stage: String, seconds: Double)
    /// The other side does not speak SSH as it must; libssh's sentence.
    case failure(stage: String, reason: String)
    /// The connection ended without a goodbye; libssh's sentence.
    case lost(String)
    /// This program broke the connection off.
    case brokenOff
    /// The other side ignored a limit.
    case limit(String)
    /// A key file is unusable: why, and what to do.
    case keyFile(path: String, String)
    /// libssh could not do what needs nobody else: out of memory, no random numbers.
    case library(String)

    package var description: String {
        switch self {
        case .dial(.nameNotFound(let host, let reason)):
            "cannot find \(host): \(reason); check the address and this machine's name servers"
        case .dial(.refused(let host, let port)):
            "\(host) port \(port): connection refused; check that the coordinator runs (holdfast-coordinator "
                + "serve) and that the port is right"
        case .dial(.timedOut(let host, let port, let seconds)):
            "\(host) port \(port): no answer within \(seconds.rounded()) s; check the address, firewalls "
                + "between the machines, and that the coordinator's machine is up"
        case .dial(let other): "\(other); check the address and this machine's network"
        case .wrongHostKey(let expected, let found, let address):
            "\(address) is not the coordinator this agent joined: its host key is \(found.text), expected "
                + "\(expected.text); if the coordinator was set up anew, run `holdfast-coordinator host token` "
                + "there and join again; otherwise something else answers at this address"
        case .keyNotAccepted(let key, let address):
            "\(address) does not accept this machine's key \(key.text); run `holdfast-coordinator host token` "
                + "there and join again"
        case .noSubsystem(let address):
            "\(address) accepted the key but offers no Holdfast service; check that the port is the "
                + "coordinator's, not an ordinary SSH server's"
        case .timedOut(let stage, let seconds):
            "\(stage): no end within \(seconds.rounded()) s; the other side is overloaded, or no SSH server"
        case .failure(let stage, let reason):
            "\(stage): \(reason); check that the port is the coordinator's and that both sides run the same "
                + "Holdfast release"
        case .lost(let reason): "the connection was lost: \(reason)"
        case .brokenOff: "the connection was broken off by this program"
        case .limit(let what): "the other side ignores a limit: \(what)"
        case .keyFile(let path, let what): "key \(path): \(what)"
        case .library(let what): "libssh: \(what)"
        }
    }
}
