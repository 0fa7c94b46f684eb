import Glibc
import Posix

/// A private sshd on loopback and the client configuration to reach it as `nas`, with keys of their own.
final class SSHServer {
    let pid: Int32
    /// For `ssh -F`.
    let clientConfiguration: String

    /// - Parameter folder: An absolute path; sshd refuses others.
    init(folder: String) throws {
        try Files.makeDirectories(folder)
        for key in ["host", "client"] {
            _ = try run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "\(folder)/\(key)"])
        }
        let port = try freePort()
        clientConfiguration = "\(folder)/client.conf"
        // Both name the cipher that Holdfast prefers, so that nobody pays more for the road.
        try Files.writeAtomically(
            Array(
                """
                Port \(port)
                ListenAddress 127.0.0.1
                HostKey \(folder)/host
                AuthorizedKeysFile \(folder)/client.pub
                PidFile none
                UsePAM no
                StrictModes no
                PasswordAuthentication no
                PermitRootLogin prohibit-password
                Ciphers aes128-gcm@openssh.com
                Subsystem sftp /usr/lib/openssh/sftp-server

                """.utf8
            ),
            to: "\(folder)/sshd.conf"
        )
        try Files.writeAtomically(
            Array(
                """
                Host nas
                HostName 127.0.0.1
                Port \(port)
                IdentityFile \(folder)/client
                IdentitiesOnly yes
                UserKnownHostsFile \(folder)/known_hosts
                StrictHostKeyChecking accept-new
                Ciphers aes128-gcm@openssh.com
                LogLevel ERROR

                """.utf8
            ),
            to: clientConfiguration
        )
        // sshd as root insists on this folder of the Debian package's.
        if getuid() == 0 { try? Files.makeDirectories("/run/sshd", mode: 0o755) }
        let server = try ChildProcess([
            "/usr/sbin/sshd", "-D", "-f", "\(folder)/sshd.conf", "-E", "\(folder)/sshd.log",
        ])
        pid = server.pid
        var tries = 0
        while (try? run(["ssh", "-F", clientConfiguration, "nas", "true"])) == nil {
            tries += 1
            if tries > 50 { throw CommandFailed(description: "sshd does not answer; see \(folder)/sshd.log") }
            Time.sleep(seconds: 0.1)
        }
    }

    func stop() { end(pid) }
}

/// Runs a command that is not measured; throws with its last words when it fails.
@discardableResult
func run(_ arguments: [String], environment: [String: String?] = [:]) throws -> String {
    let result = try ChildProcess.run(arguments, environment: environment)
    guard result.end == .exit(0) else {
        let said = String(decoding: (result.error + result.output).suffix(1500), as: UTF8.self)
        throw CommandFailed(description: "\(arguments.joined(separator: " ")): \(result.end): \(said)")
    }
    return String(decoding: result.output, as: UTF8.self)
}

/// Ends a child of this process and waits for it.
func end(_ pid: Int32) {
    kill(pid, SIGTERM)
    var status: Int32 = 0
    for _ in 0..<300 {
        if waitpid(pid, &status, WNOHANG) != 0 { return }
        Time.sleep(seconds: 0.1)
    }
    kill(pid, SIGKILL)
    waitpid(pid, &status, 0)
}

/// A TCP port of 127.0.0.1 that nobody listens on.
func freePort() throws -> UInt16 {
    let listener = try TCPListener(address: "127.0.0.1", port: 0)
    return listener.port
}
