import CLibSSH
package import Posix

/// The agent's side of a connection.
package enum SSHClient {
    /// Connects, checks the host key against the pinned one, authenticates with `key` and starts the subsystem
    /// `holdfast`. No configuration file, known_hosts, agent or prompt is involved.
    ///
    /// - Parameters:
    ///   - seconds: For all of it, the name look-up apart.
    ///   - user: The coordinator does not look at it; an ordinary SSH server would.
    ///   - rekeyBytes: New keys after so many bytes; 0 is libssh's rule, 64 GiB with AES (RFC 4344).
    package static func connect(
        host: String,
        port: UInt16,
        expectedHostKey: Fingerprint,
        key: KeyPair,
        user: String = "holdfast",
        seconds: Double = 30,
        liveness: Liveness = .standard,
        rekeyBytes: UInt64 = 0
    ) throws(SSHError) -> SSHChannel {
        let start = Time.monotonic()
        let socket: FileDescriptor
        do { socket = try dialTCP(host: host, port: port, seconds: seconds) } catch { throw .dial(error) }
        return try connect(
            socket,
            address: "\(host) port \(port)",
            expectedHostKey: expectedHostKey,
            key: key,
            user: user,
            seconds: seconds,
            since: start,
            liveness: liveness,
            rekeyBytes: rekeyBytes
        )
    }

    /// The same on a socket that is connected already; `address` is for messages.
    ///
    /// - Parameter start: `Time.monotonic()`, nanoseconds, from which `seconds` count.
    package static func connect(
        _ socket: consuming FileDescriptor,
        address: String,
        expectedHostKey: Fingerprint,
        key: KeyPair,
        user: String = "holdfast",
        seconds: Double = 30,
        since start: Int64 = Time.monotonic(),
        liveness: Liveness = .standard,
        rekeyBytes: UInt64 = 0
    ) throws(SSHError) -> SSHChannel {
        let deadline = start + Int64(seconds * 1e9)
        let session = try Session(socket: socket, liveness: liveness)
        try configure(session)
        try session.set(SSH_OPTIONS_USER, user)
        try session.set(SSH_OPTIONS_REKEY_DATA, rekeyBytes)
        // From here on libssh closes it.
        try session.set(SSH_OPTIONS_FD, socket.release())

        func step(_ stage: String, _ body: () -> Int32) throws(SSHError) -> Int32 {
            session.limitCalls(seconds: Double(deadline - Time.monotonic()) / 1e9)
            let code = body()
            // libssh counts whole milliseconds and ends a little early.
            if code != SSH_OK && Time.monotonic() >= deadline - 20_000_000 {
                throw .timedOut(stage: "\(stage) with \(address)", seconds: seconds)
            }
            return code
        }
        func failed(_ stage: String) -> SSHError {
            .failure(stage: "\(stage) with \(address)", reason: session.errorText)
        }

        guard try step("key exchange", { ssh_connect(session.handle) }) == SSH_OK else {
            throw failed("key exchange")
        }
        var hostKey: ssh_key?
        guard ssh_get_server_publickey(session.handle, &hostKey) == SSH_OK, let hostKey else {
            throw failed("key exchange")
        }
        defer { ssh_key_free(hostKey) }
        guard let found = Fingerprint(handle: hostKey) else { throw .library("out of memory") }
        guard found == expectedHostKey else {
            throw .wrongHostKey(expected: expectedHostKey, found: found, address: address)
        }

        let login = try step("authentication") { ssh_userauth_publickey(session.handle, nil, key.handle) }
        switch login {
        case SSH_AUTH_SUCCESS.rawValue: break
        case SSH_AUTH_DENIED.rawValue, SSH_AUTH_PARTIAL.rawValue:
            throw .keyNotAccepted(key.publicKey.fingerprint, address: address)
        default: throw failed("authentication")
        }

        // Freed with the session.
        guard let channel = ssh_channel_new(session.handle) else { throw .library("out of memory") }
        let guardian = ChannelGuard(session)
        try guardian.watch(channel)
        guard try step("opening a channel", { ssh_channel_open_session(channel) }) == SSH_OK else {
            throw failed("opening a channel")
        }
        let code = try step("subsystem") { ssh_channel_request_subsystem(channel, Session.subsystem) }
        guard code == SSH_OK else {
            if ssh_is_connected(session.handle) == 1 { throw .noSubsystem(address: address) }
            throw failed("subsystem")
        }
        return SSHChannel(session, channel, guardian)
    }

    private static func configure(_ session: Session) throws(SSHError) {
        try session.set(SSH_OPTIONS_PROCESS_CONFIG, false)
        // Only for messages: the socket is connected already.
        try session.set(SSH_OPTIONS_HOST, "holdfast")
        // Named so that libssh does not look for a home directory, and reads no file.
        try session.set(SSH_OPTIONS_SSH_DIR, "/dev/null")
        try session.set(SSH_OPTIONS_KNOWNHOSTS, "/dev/null")
        try session.set(SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null")
        try session.set(SSH_OPTIONS_KEY_EXCHANGE, Session.keyExchanges)
        try session.set(SSH_OPTIONS_HOSTKEYS, Session.keyType)
        try session.set(SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES, Session.keyType)
        try session.set(SSH_OPTIONS_CIPHERS_C_S, Session.ciphers)
        try session.set(SSH_OPTIONS_CIPHERS_S_C, Session.ciphers)
        try session.set(SSH_OPTIONS_HMAC_C_S, Session.macs)
        try session.set(SSH_OPTIONS_HMAC_S_C, Session.macs)
        try session.set(SSH_OPTIONS_COMPRESSION_C_S, "none")
        try session.set(SSH_OPTIONS_COMPRESSION_S_C, "none")
        // Nothing is opened towards us.
        ssh_set_message_callback(session.handle, { _, _, _ in 1 }, nil)
    }
}
