import CLibSSH
import Glibc
package import Posix

/// The coordinator's side of one accepted connection.
///
/// What libssh 0.10 leaves to its caller: a peer may announce packets of ten bytes, upon which a write never ends while
/// the peer keeps reading, and may ask for answers that it does not read, of which libssh gathers up to 256 MiB. So
/// whoever serves a key that is not known yet gives the whole process a limit of time (alarm(2)) and of memory.
///
/// New keys are agreed on after 64 GiB (RFC 4344), in the middle of a stream; meanwhile up to a window of data is
/// gathered in memory. A session receives 4 KiB per system call, which is what its speed hangs on.
package enum SSHServerConnection {
    /// Brings an accepted socket to the point where the subsystem `holdfast` runs on its one channel.
    ///
    /// Only public keys of type ed25519 are taken, with a signature that libssh verified; any other way to log in, a
    /// second channel, shell, command, terminal, forwarding and the like are refused.
    ///
    /// - Parameters:
    ///   - socket: Closed with the channel, or before an error is thrown.
    ///   - seconds: For everything up to the subsystem, however the peer spreads its bytes.
    ///   - rekeyBytes: New keys after so many bytes; 0 is libssh's rule, 64 GiB with AES (RFC 4344).
    ///   - authorize: Whether this key may go on; the caller still decides what it may do. It runs before the
    ///     signature is checked, perhaps more than once.
    /// - Returns: The channel and the key whose owner is at the other end.
    /// - Throws: `SSHError.timedOut`, `.failure`, `.limit`.
    package static func accept(
        _ socket: consuming FileDescriptor,
        hostKey: KeyPair,
        seconds: Double = 20,
        liveness: Liveness = .standard,
        rekeyBytes: UInt64 = 0,
        authorize: @escaping (PublicKey) -> Bool = { _ in true }
    ) throws(SSHError) -> (channel: SSHChannel, key: PublicKey) {
        let deadline = Time.monotonic() + Int64(seconds * 1e9)
        let session = try Session(socket: socket, liveness: liveness)
        try session.set(SSH_OPTIONS_REKEY_DATA, rekeyBytes)
        let handshake = Handshake(session, authorize: authorize)
        session.retained.append(handshake)
        try handshake.bind(socket, hostKey: hostKey)

        ssh_set_blocking(session.handle, 0)
        var stage = "key exchange"
        while !handshake.isDone {
            let code: Int32
            if stage == "key exchange" {
                code = ssh_handle_key_exchange(session.handle)
                if code == SSH_OK {
                    stage = "authentication"
                    continue
                }
            } else {
                code = ssh_execute_message_callbacks(session.handle)
            }
            if let violation = session.violation { throw .limit(violation) }
            // libssh reports a peer that hung up in only one of the two.
            if code == SSH_ERROR || ssh_is_connected(session.handle) == 0 {
                throw .failure(stage: stage, reason: session.errorText)
            }
            if handshake.isDone { break }
            if handshake.key != nil { stage = "request of the subsystem" }
            let left = deadline - Time.monotonic()
            guard left > 0 else { throw .timedOut(stage: stage, seconds: seconds) }
            let events = Int16(POLLIN) | (session.hasUnsent ? Int16(POLLOUT) : 0)
            var polled = pollfd(fd: ssh_get_fd(session.handle), events: events, revents: 0)
            poll(&polled, 1, Int32(left / 1_000_000 + 1))
        }
        guard let channel = handshake.channel, let key = handshake.key else {
            throw .library("a channel without a key")
        }
        return (SSHChannel(session, channel, handshake.channelGuard), key)
    }
}

/// What libssh asks while a connection is being made, and after.
private final class Handshake {
    private unowned let session: Session
    private let authorize: (PublicKey) -> Bool
    private let callbacks = UnsafeMutablePointer<ssh_server_callbacks_struct>.allocate(capacity: 1)
    let channelGuard: ChannelGuard
    private(set) var key: PublicKey?
    private(set) var channel: ssh_channel?
    private var asked = 0

    /// Requests of all kinds that one connection may make; an agent makes five.
    private static let mostRequests = 100

    init(_ session: Session, authorize: @escaping (PublicKey) -> Bool) {
        self.session = session
        self.authorize = authorize
        channelGuard = ChannelGuard(session)
        channelGuard.serveSubsystem()
        callbacks.initialize(to: ssh_server_callbacks_struct())
        callbacks.pointee.size = MemoryLayout<ssh_server_callbacks_struct>.size
        callbacks.pointee.userdata = Unmanaged.passUnretained(self).toOpaque()
        callbacks.pointee.auth_pubkey_function = { _, _, key, state, data in
            Handshake.at(data)?.authenticate(key, state) == true
                ? SSH_AUTH_SUCCESS.rawValue : SSH_AUTH_DENIED.rawValue
        }
        // Without this one libssh would look for Kerberos keys, whatever methods are allowed.
        callbacks.pointee.gssapi_select_oid_function = { _, _, _, _, data in
            Handshake.at(data)?.count()
            return nil
        }
        callbacks.pointee.channel_open_request_session_function = { _, data in Handshake.at(data)?.open() }
    }

    deinit { callbacks.deallocate() }

    private static func at(_ data: UnsafeMutableRawPointer?) -> Handshake? {
        data.map { Unmanaged<Handshake>.fromOpaque($0).takeUnretainedValue() }
    }

    var isDone: Bool { key != nil && channelGuard.started }

    /// Gives the socket and the algorithms to libssh.
    func bind(_ socket: consuming FileDescriptor, hostKey: KeyPair) throws(SSHError) {
        guard let bind = ssh_bind_new() else { throw .library("out of memory") }
        defer { ssh_bind_free(bind) }
        func set(_ option: ssh_bind_options_e, _ text: String) throws(SSHError) {
            guard ssh_bind_options_set(bind, option, text) == SSH_OK else {
                throw .library("option \(option.rawValue)")
            }
        }
        var no = false
        ssh_bind_options_set(bind, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no)
        try set(SSH_BIND_OPTIONS_KEY_EXCHANGE, Session.keyExchanges)
        try set(SSH_BIND_OPTIONS_HOSTKEY_ALGORITHMS, Session.keyType)
        try set(SSH_BIND_OPTIONS_PUBKEY_ACCEPTED_KEY_TYPES, Session.keyType)
        try set(SSH_BIND_OPTIONS_CIPHERS_C_S, Session.ciphers)
        try set(SSH_BIND_OPTIONS_CIPHERS_S_C, Session.ciphers)
        try set(SSH_BIND_OPTIONS_HMAC_C_S, Session.macs)
        try set(SSH_BIND_OPTIONS_HMAC_S_C, Session.macs)
        // The copy belongs to `bind`.
        guard let copy = ssh_key_dup(hostKey.handle),
            ssh_bind_options_set(bind, SSH_BIND_OPTIONS_IMPORT_KEY, UnsafeRawPointer(copy)) == SSH_OK
        else { throw .library("cannot use the host key") }
        try session.set(SSH_OPTIONS_COMPRESSION_C_S, "none")
        try session.set(SSH_OPTIONS_COMPRESSION_S_C, "none")
        ssh_set_auth_methods(session.handle, Int32(SSH_AUTH_METHOD_PUBLICKEY))
        guard ssh_set_server_callbacks(session.handle, callbacks) == SSH_OK else {
            throw .library("cannot set callbacks")
        }
        // What no callback takes is counted and refused.
        ssh_set_message_callback(
            session.handle,
            { _, _, data in
                Handshake.at(data)?.count()
                return 1
            },
            Unmanaged.passUnretained(self).toOpaque()
        )
        let raw = socket.raw
        guard ssh_bind_accept_fd(bind, session.handle, raw) == SSH_OK else {
            throw .library(String(cString: ssh_get_error(UnsafeMutableRawPointer(bind))))
        }
        _ = socket.release()
    }

    private func count() {
        asked += 1
        if asked > Handshake.mostRequests, session.violation == nil {
            session.violation = "more than \(Handshake.mostRequests) requests"
            session.breaker.shut()
        }
    }

    private func authenticate(_ handle: ssh_key?, _ state: CChar) -> Bool {
        count()
        guard key == nil, let handle, let offered = PublicKey(handle: handle) else { return false }
        switch UInt32(UInt8(bitPattern: state)) {
        case UInt32(SSH_PUBLICKEY_STATE_NONE.rawValue): return authorize(offered)
        case UInt32(SSH_PUBLICKEY_STATE_VALID.rawValue):
            guard authorize(offered) else { return false }
            key = offered
            return true
        default: return false
        }
    }

    private func open() -> ssh_channel? {
        count()
        guard key != nil, channel == nil, let new = ssh_channel_new(session.handle) else { return nil }
        do { try channelGuard.watch(new) } catch {
            ssh_channel_free(new)
            return nil
        }
        channel = new
        return new
    }
}
