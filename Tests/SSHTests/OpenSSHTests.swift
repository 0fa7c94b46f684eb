import Glibc
import Posix
import SSH
import Testing

@Suite("OpenSSH at the other end")
struct OpenSSHTests {
    /// Runs OpenSSH's client against our server, which sends back what it gets.
    private func ssh(
        _ options: [String],
        keyType: [String] = ["-t", "ed25519"],
        input: [UInt8] = []
    ) throws -> (end: ChildProcess.End, output: [UInt8], error: String, served: (any Error)?) {
        let scratch = try Scratch()
        let key = "\(scratch.path)/key"
        _ = try ChildProcess.run(["ssh-keygen", "-q", "-N", "", "-f", key] + keyType)
        var result: (end: ChildProcess.End, output: [UInt8], error: [UInt8])?
        let served = try serving(
            seconds: 10,
            { channel, _ in
                let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
                defer { buffer.deallocate() }
                while true {
                    let got = try channel.read(into: buffer)
                    if got == 0 { break }
                    try channel.write(UnsafeRawBufferPointer(rebasing: buffer[..<got]))
                }
            },
            dial: { port, hostKey in
                result = try ChildProcess.run(
                    [
                        "ssh", "-F", "none", "-i", key, "-p", "\(port)", "-o", "IdentitiesOnly=yes", "-o",
                        "IdentityAgent=none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o",
                        "UserKnownHostsFile=/dev/null", "-o", "LogLevel=INFO",
                    ] + options,
                    input: input,
                    limit: 64 << 20
                )
            }
        )
        guard let result else { throw SSHError.brokenOff }
        return (result.end, result.output, String(decoding: result.error, as: UTF8.self), served)
    }

    @Test(arguments: [
        [], ["-o", "RekeyLimit=1M"], ["-c", "aes256-gcm@openssh.com"],
        ["-c", "chacha20-poly1305@openssh.com"],
    ])
    func `its client gets the subsystem`(options: [String]) throws {
        let input = Array(Pattern.bytes + Pattern.bytes + Pattern.bytes)
        let run = try ssh(options + ["-s", "127.0.0.1", "holdfast"], input: input)
        #expect(run.output == input, "\(run.error)")
        #expect(run.served == nil)
    }

    @Test(arguments: [["-t", "rsa", "-b", "2048"], ["-t", "ecdsa"]])
    func `its client is refused with a key of another type`(type: [String]) throws {
        let run = try ssh(["-s", "127.0.0.1", "holdfast"], keyType: type)
        #expect(run.end == .exit(255))
        #expect(run.error.contains("Permission denied (publickey)"))
        #expect(run.served is SSHError)
    }

    @Test(arguments: ["password", "keyboard-interactive", "gssapi-with-mic", "hostbased", "none"])
    func `its client gets in by no other method`(method: String) throws {
        let run = try ssh([
            "-o", "PreferredAuthentications=\(method)", "-o", "GSSAPIAuthentication=yes", "-s", "127.0.0.1",
            "holdfast",
        ])
        #expect(run.end == .exit(255))
        #expect(run.error.contains("Permission denied (publickey)"))
        #expect(run.served is SSHError)
    }

    @Test(arguments: [
        (["127.0.0.1", "true"], "exec request failed"),
        (["-s", "127.0.0.1", "sftp"], "subsystem request failed"),
        (["127.0.0.1"], "shell request failed"),
        (["-W", "127.0.0.1:22", "127.0.0.1"], "administratively prohibited"),
        (
            ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22", "127.0.0.1"],
            "remote port forwarding failed"
        ),
    ])
    func `its client gets nothing but the subsystem`(options: [String], reason: String) throws {
        let run = try ssh(options)
        #expect(run.end != .exit(0))
        #expect(run.error.contains(reason), "\(run.error)")
        #expect(run.served is SSHError)
    }

    @Test(.enabled(if: Files.exists("/usr/sbin/sshd"), "openssh-server is not installed"))
    func `our client uses its server`() throws {
        let scratch = try Scratch()
        let hostKey = try KeyPair.generate()
        let key = try KeyPair.generate()
        try hostKey.save(to: "\(scratch.path)/host")
        try Files.writeAtomically(
            Array(key.publicKey.openSSH.utf8),
            to: "\(scratch.path)/authorized",
            mode: 0o644
        )
        let port = try TCPListener(address: "127.0.0.1", port: 0).port
        let configuration = """
            ListenAddress 127.0.0.1:\(port)
            HostKey \(scratch.path)/host
            PidFile none
            UsePAM no
            StrictModes no
            PasswordAuthentication no
            AuthorizedKeysFile \(scratch.path)/authorized
            Subsystem holdfast /bin/cat
            RekeyLimit 1M

            """
        try Files.writeAtomically(Array(configuration.utf8), to: "\(scratch.path)/config")
        if getuid() == 0 { try Files.makeDirectories("/run/sshd", mode: 0o755) }
        let log = try FileDescriptor(open: "\(scratch.path)/log", O_WRONLY | O_CREAT)
        let server = try ChildProcess(
            ["/usr/sbin/sshd", "-D", "-e", "-f", "\(scratch.path)/config"],
            output: .descriptor(log.raw),
            error: .descriptor(log.raw)
        )
        let pid = server.pid
        defer {
            kill(-pid, SIGTERM)
            waitpid(pid, nil, 0)
        }
        guard let entry = getpwuid(getuid()) else { return }
        let user = String(cString: entry.pointee.pw_name)
        func dial(_ pin: Fingerprint, _ key: KeyPair, rekeyBytes: UInt64 = 0) throws -> SSHChannel {
            try SSHClient.connect(
                host: "127.0.0.1",
                port: port,
                expectedHostKey: pin,
                key: key,
                user: user,
                rekeyBytes: rekeyBytes
            )
        }
        var first: SSHChannel?
        for _ in 0..<100 where first == nil {
            do { first = try dial(hostKey.publicKey.fingerprint, key) } catch SSHError.dial {
                Time.sleep(seconds: 0.1)
            }
        }
        let channel = try #require(first)
        // Less than the window, because nothing is read meanwhile.
        try channel.writePattern(bytes: 600_000)
        try channel.sendEnd()
        #expect(try channel.readPattern() == (600_000, true))
        channel.close()

        let second = try dial(hostKey.publicKey.fingerprint, key, rekeyBytes: 1 << 20)
        for round in 0..<100 {
            try second.writePattern(bytes: 100_000, from: round * 100_000)
            let back = try second.read(100_000)
            #expect(back.withUnsafeBytes { Pattern.matches($0, at: round * 100_000) })
        }
        second.close()

        let other = try KeyPair.generate()
        let address = "127.0.0.1 port \(port)"
        #expect(throws: SSHError.keyNotAccepted(other.publicKey.fingerprint, address: address)) {
            try dial(hostKey.publicKey.fingerprint, other)
        }
        let found = hostKey.publicKey.fingerprint
        let expected = other.publicKey.fingerprint
        #expect(throws: SSHError.wrongHostKey(expected: expected, found: found, address: address)) {
            try dial(expected, key)
        }
    }
}
