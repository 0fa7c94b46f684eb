import Arguments
import Capture
import Configuration
import Glibc
import Posix
import SSH
import Wire

extension Program {
    /// Makes this machine's key known to the coordinator with the token, then writes both down.
    static func join(address: String, token: String, folder: String) throws -> ExitCode {
        let (address, hostKey) = try peer(address, token, for: .join)
        do {
            try Files.makeDirectories(folder, mode: 0o700)
            // A key that is in use stays until the new one is accepted.
            let key = try KeyPair.generate()
            let fresh = AgentFile.keyPath(folder) + ".new"
            try key.save(to: fresh)
            defer { try? Files.remove(fresh) }
            let channel = try SSHClient.connect(
                host: address.host,
                port: address.port,
                expectedHostKey: hostKey,
                key: key
            )
            defer { channel.close() }
            let host: String
            do { host = try Conversation.join(FrameStream(channel), token: token) } catch {
                if let refused = error as? Conversation.Refused {
                    throw CommandFailure(.failed, "the coordinator refused: \(refused)")
                }
                throw error
            }
            try Files.rename(fresh, to: AgentFile.keyPath(folder))
            try AgentFile.save(
                [AgentFile.Coordinator(address: address, hostKey: hostKey)],
                host: host,
                folder: folder
            )
            try Files.syncDirectory(folder)
            put(
                "This machine is now host '\(host)' of the coordinator at \(address).\n"
                    + "Next: holdfast-agent doctor, then start the agent (systemctl enable --now holdfast-agent).\n"
            )
        } catch let error as SystemCallError {
            throw CommandFailure(
                .configuration,
                "cannot write to \(folder): \(error); run as root, or name another folder with --config"
            )
        }
        return .done
    }

    /// Who is dialled and the host key it must show, from the two words of a pasted line.
    static func peer(_ address: String, _ token: String, for purpose: JoinToken.Purpose) throws
        -> (Endpoint, Fingerprint)
    {
        guard let endpoint = Endpoint(address) else {
            throw UsageError.invalid(what: "ADDRESS", value: address, reason: "not like nas.lan:2222")
        }
        let source = purpose == .join ? "host add NAME" : "restore HOST --remote"
        // A token is a secret as long as it was not used: it is not repeated here.
        guard let parsed = JoinToken(token), let hostKey = Fingerprint(bytes: parsed.fingerprint) else {
            throw CommandFailure(
                .usage,
                "the token is not whole: paste the line of `holdfast-coordinator \(source)` once more, on one line"
            )
        }
        guard parsed.purpose == purpose else {
            throw CommandFailure(
                .usage,
                "this token is for `holdfast-agent \(parsed.purpose)`; `holdfast-coordinator \(source)` makes one for this"
            )
        }
        return (endpoint, hostKey)
    }
}
