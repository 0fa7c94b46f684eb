import CLibSSH
import Glibc
import Posix
import Synchronization

/// Ends a connection from any thread: a blocked read or write of its channel then throws `SSHError.brokenOff`.
package final class Breaker: Sendable {
    // A duplicate, because libssh closes its own number as soon as the connection fails.
    private let socket: FileDescriptor
    private let used = Atomic(false)

    init(_ socket: consuming FileDescriptor) { self.socket = socket }

    package func breakOff() {
        used.store(true, ordering: .sequentiallyConsistent)
        shut()
    }

    var isBroken: Bool { used.load(ordering: .sequentiallyConsistent) }

    /// Sends what is under way, then the end, and reads nothing more.
    func shut() { shutdown(socket.raw, Int32(SHUT_RDWR)) }
}

/// Owns a libssh session, its socket, and what libssh calls back into. For one thread at a time.
final class Session {
    let handle: ssh_session
    let breaker: Breaker
    /// Kept until libssh let go of it.
    var retained: [AnyObject] = []
    /// Why we ended the connection, when it was for something the other side did.
    var violation: String?
    private var silence: SilenceWatch

    static let ciphers = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com"
    static let keyExchanges = "curve25519-sha256,curve25519-sha256@libssh.org"
    static let macs = "hmac-sha2-256-etm@openssh.com,hmac-sha2-256"
    static let keyType = "ssh-ed25519"
    static let subsystem = "holdfast"

    /// Makes a session for a connected socket, which it does not own yet: libssh takes the number over later,
    /// in `ssh_connect` or `ssh_bind_accept_fd`.
    init(socket: borrowing FileDescriptor, liveness: Liveness) throws(SSHError) {
        do throws(SystemCallError) {
            breaker = Breaker(try socket.duplicate())
            try liveness.apply(to: socket.raw)
            try Session.limitBlocking(socket.raw)
        } catch { throw .library("\(error)") }
        silence = SilenceWatch(liveness)
        guard let handle = ssh_new() else { throw .library("out of memory") }
        self.handle = handle
    }

    deinit { ssh_free(handle) }

    /// A send(2) that blocks shall return with what it could send, so that libssh looks at what came in
    /// meanwhile: two ends that both send much must not wait for each other.
    private static func limitBlocking(_ socket: Int32) throws(SystemCallError) {
        var time = timeval(tv_sec: 1, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        _ = try retryingOnInterrupt("setsockopt") { setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &time, size) }
    }

    var errorText: String {
        guard let text = ssh_get_error(UnsafeMutableRawPointer(handle)), text.pointee != 0 else {
            return "no reason given"
        }
        return escaped(Array(String(cString: text).utf8))
    }

    /// What to throw when a call on the running connection failed.
    func failure() -> SSHError {
        if let violation { return .limit(violation) }
        if breaker.isBroken { return .brokenOff }
        return .lost(errorText)
    }

    func set(_ option: ssh_options_e, _ text: String) throws(SSHError) {
        guard text.withCString({ ssh_options_set(handle, option, $0) }) == SSH_OK else {
            throw .library("option \(option.rawValue): \(errorText)")
        }
    }

    func set<I: FixedWidthInteger>(_ option: ssh_options_e, _ value: I) throws(SSHError) {
        var value = value
        guard ssh_options_set(handle, option, &value) == SSH_OK else {
            throw .library("option \(option.rawValue): \(errorText)")
        }
    }

    func set(_ option: ssh_options_e, _ value: Bool) throws(SSHError) {
        var value = value
        guard ssh_options_set(handle, option, &value) == SSH_OK else {
            throw .library("option \(option.rawValue): \(errorText)")
        }
    }

    /// Milliseconds after which a blocking call shall return, so that `checkPeer` is called.
    var step: Int32 { Int32(silence.step * 1000) }

    /// Throws when the other machine no longer answers; call it whenever `step` passed without progress.
    func checkPeer() throws(SSHError) {
        let socket = ssh_get_fd(handle)
        if violation != nil || breaker.isBroken || socket < 0 { throw failure() }
        guard silence.isDead(socket) else { return }
        breaker.shut()
        throw .lost("the other machine no longer answers")
    }

    /// Whether the kernel still waits for an acknowledgement, and so sends no keep-alive probes.
    var awaitsPeer: Bool { silence.isWaiting(ssh_get_fd(handle)) }

    /// The longest that one blocking call of libssh takes; nil for no limit.
    func limitCalls(seconds: Double?) {
        var whole = Int(max(0, seconds ?? 0))
        var micro = Int((max(0, seconds ?? 0) - Double(whole)) * 1e6)
        // 0 and 0 mean no limit.
        if seconds != nil && whole == 0 && micro < 1000 { micro = 1000 }
        ssh_options_set(handle, SSH_OPTIONS_TIMEOUT, &whole)
        ssh_options_set(handle, SSH_OPTIONS_TIMEOUT_USEC, &micro)
    }

    /// Whether libssh holds bytes that it could not send yet.
    var hasUnsent: Bool { ssh_get_poll_flags(handle) & SSH_WRITE_PENDING != 0 }
}
