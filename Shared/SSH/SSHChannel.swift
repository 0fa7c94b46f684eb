import CLibSSH
import Glibc
import Posix
import Wire

/// The one channel of a connection: bytes in both directions. For one thread at a time, except `breaker`.
///
/// Dropping the value without `close` cuts the connection, which the other side sees as lost.
package final class SSHChannel: ByteChannel {
    private let session: Session
    private let channel: ssh_channel
    private let guardian: ChannelGuard
    private let scratch: UnsafeMutableRawBufferPointer
    private var sinceWidened = SSHChannel.window
    private var wanted = SSHChannel.window
    private var closed = false

    /// Ends the connection from another thread.
    package var breaker: Breaker { session.breaker }

    /// Bytes that may be under way to us. libssh's own 1.25 MiB would hold a path of 300 ms to 4 MB/s.
    package static let window = 8 << 20

    /// Nanoseconds that a living peer may take nothing.
    private static let patience: Int64 = 900_000_000_000

    /// `channel` is open, belongs to `session` and is freed with it.
    init(_ session: Session, _ channel: ssh_channel, _ guardian: ChannelGuard) {
        self.session = session
        self.guardian = guardian
        self.channel = channel
        // Never touched, so that it takes no memory (see `widen`).
        scratch = .allocate(byteCount: Self.window, alignment: 16)
        ssh_set_blocking(session.handle, 1)
        session.limitCalls(seconds: Double(session.step) / 1000)
    }

    deinit { scratch.deallocate() }

    /// Names of what was negotiated, for a log: the cipher of each direction and the key exchange.
    package var algorithms: (incoming: String, outgoing: String, keyExchange: String) {
        func text(_ pointer: UnsafePointer<CChar>?) -> String { pointer.map { String(cString: $0) } ?? "?" }
        return (
            text(ssh_get_cipher_in(session.handle)), text(ssh_get_cipher_out(session.handle)),
            text(ssh_get_kex_algo(session.handle))
        )
    }

    /// Reads at least one byte; 0 once the other side has said that nothing more will come.
    ///
    /// - Throws: `SSHError.lost` when the connection ends in any other way, `.brokenOff`, `.limit`.
    package func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        guard buffer.count > 0 else { return 0 }
        try widen()
        // A larger count would make libssh widen the window at every call.
        let count = UInt32(min(buffer.count, Self.window / 4))
        while true {
            let got = ssh_channel_read_timeout(channel, buffer.baseAddress, count, 0, session.step)
            if (got < 0 && got != SSH_AGAIN) || session.violation != nil { throw session.failure() }
            if got > 0 {
                sinceWidened += Int(got)
                return Int(got)
            }
            // 0 also says that the time has passed.
            if ssh_channel_is_eof(channel) != 0 { return 0 }
            try session.checkPeer()
        }
    }

    /// Milliseconds that `readNow` lets libssh wait for the rest of a packet: it takes in 4 KiB at a time.
    private static let packetPatience: Int32 = 1

    /// Reads what is there, at most a packet's arrival late: 0 when that is nothing, nil once the other side has said
    /// that nothing more will come.
    func readNow(into buffer: UnsafeMutableRawBufferPointer) throws -> Int? {
        try widen()
        let count = UInt32(min(buffer.count, Self.window / 4))
        let got = ssh_channel_read_timeout(channel, buffer.baseAddress, count, 0, Self.packetPatience)
        if (got < 0 && got != SSH_AGAIN) || session.violation != nil { throw session.failure() }
        if got > 0 {
            sinceWidened += Int(got)
            return Int(got)
        }
        return ssh_channel_is_eof(channel) != 0 ? nil : 0
    }

    /// Sleeps until the socket itself or `other` can be read; what libssh holds already does not count. Touches
    /// nothing of libssh's but the socket's number.
    func waitForSocket(alsoOn other: Int32) throws -> Ready {
        var polled = [
            pollfd(fd: ssh_get_fd(session.handle), events: Int16(POLLIN), revents: 0),
            pollfd(fd: other, events: Int16(POLLIN), revents: 0),
        ]
        let count = poll(&polled, 2, session.step)
        if count < 0 && errno != EINTR { throw SystemCallError("poll", errno: errno) }
        if polled[1].revents != 0 { return .other }
        return count == 0 ? .timedOut : .peer
    }

    /// Throws when the other machine no longer answers.
    func checkPeer() throws { try session.checkPeer() }

    /// Bytes under way to us that suffice for so many a second, on a path of half a second; nil for as many as come. Less
    /// than the other side was allowed before takes effect once that much has come.
    func limitWindow(toRate rate: Int64?) {
        wanted = rate.map { min(Self.window, max(Self.window / 8, Int(clamping: $0 / 2))) } ?? Self.window
    }

    /// Keeps the window near `wanted` bytes: libssh widens it to what a caller wants to read at once, whatever
    /// comes of it. The error stream serves for that because it stays empty (`ChannelGuard`), so that the
    /// call returns at once and nothing is copied. Not while bytes wait to be read: the call also takes in
    /// what the socket holds, and if that were its end, libssh would no longer hand them out.
    private func widen() throws {
        guard sinceWidened >= wanted / 4, ssh_channel_poll(channel, 0) == 0 else { return }
        sinceWidened = 0
        let got = ssh_channel_read_timeout(channel, scratch.baseAddress, UInt32(wanted), 1, 0)
        if got == SSH_ERROR { throw session.failure() }
    }

    /// Hands all bytes to the kernel. A peer that lives but takes nothing is waited for, a quarter of an hour.
    package func write(_ bytes: UnsafeRawBufferPointer) throws {
        var done = 0
        var progress = Time.monotonic()
        while true {
            if done < bytes.count {
                let count = UInt32(min(bytes.count - done, 1 << 20))
                let put = ssh_channel_write(channel, bytes.baseAddress.map { $0 + done }, count)
                if put < 0 || session.violation != nil { throw session.failure() }
                done += Int(put)
                if put > 0 { progress = Time.monotonic() }
            }
            // libssh may have kept some of it when its time was over.
            let code = ssh_blocking_flush(session.handle, session.step)
            if code == SSH_ERROR { throw session.failure() }
            if code == SSH_OK, done == bytes.count { return }
            if Time.monotonic() - progress < Int64(session.step) * 1_000_000 { continue }
            try session.checkPeer()
            if Time.monotonic() - progress > Self.patience {
                session.breaker.shut()
                throw SSHError.lost("the other side took nothing for 15 minutes")
            }
        }
    }

    /// Whether `read` would return at once (bytes, the end or an error wait); never blocks.
    package func inputWaits() throws -> Bool {
        let waiting = ssh_channel_poll(channel, 0)
        if waiting < 0 && waiting != SSH_EOF { throw session.failure() }
        return waiting != 0
    }

    /// What `waitReadable` waited for.
    package enum Ready: Sendable { case peer, other, timedOut }

    /// Sleeps until the other side sent something (or ended: `read` tells), `other` can be read, or `seconds`
    /// have passed; without `seconds` there is no limit. What libssh has already taken in counts.
    package func waitReadable(alsoOn other: Int32? = nil, seconds: Double? = nil) throws -> Ready {
        let deadline = seconds.map { Time.monotonic() + Int64($0 * 1e9) }
        while true {
            let waiting = ssh_channel_poll(channel, 0)
            if waiting > 0 || waiting == SSH_EOF { return .peer }
            if waiting < 0 || session.violation != nil { throw session.failure() }
            let left = deadline.map { max(0, $0 - Time.monotonic()) }
            let events = Int16(POLLIN) | (session.hasUnsent ? Int16(POLLOUT) : 0)
            var polled = [pollfd(fd: ssh_get_fd(session.handle), events: events, revents: 0)]
            if let other { polled.append(pollfd(fd: other, events: Int16(POLLIN), revents: 0)) }
            var time = left.map { Int32(min(($0 + 999_999) / 1_000_000, 1_000_000_000)) } ?? -1
            // While the kernel awaits an answer it probes no more, so we look.
            if session.awaitsPeer { time = time < 0 ? session.step : min(time, session.step) }
            let count = poll(&polled, nfds_t(polled.count), time)
            if count < 0 && errno != EINTR { throw SystemCallError("poll", errno: errno) }
            if count > 0, polled.count > 1, polled[1].revents != 0 { return .other }
            if count == 0, left == 0 { return .timedOut }
            if count == 0 { try session.checkPeer() }
        }
    }

    /// Says that nothing more will be written; reading goes on.
    package func sendEnd() throws {
        if ssh_channel_send_eof(channel) == SSH_ERROR { throw session.failure() }
    }

    /// Ends the connection in good order: says the end, then waits for the other side to do the same, dropping
    /// what it still sends. Without the wait, bytes that nobody takes would make the kernel reset the connection, and
    /// our last words would be lost with it. Failures don't matter any more.
    ///
    /// - Parameter seconds: How long to wait for a peer that has not closed its side.
    package func close(seconds: Double = 10) {
        guard !closed else { return }
        closed = true
        let deadline = Time.monotonic() + Int64(seconds * 1e9)
        session.limitCalls(seconds: seconds)
        guardian.startDropping()
        ssh_channel_close(channel)
        ssh_set_blocking(session.handle, 0)
        while !guardian.peerClosed, ssh_is_connected(session.handle) == 1 {
            let left = (deadline - Time.monotonic()) / 1_000_000
            let socket = ssh_get_fd(session.handle)
            guard left > 0, socket >= 0 else { break }
            let events = Int16(POLLIN) | (session.hasUnsent ? Int16(POLLOUT) : 0)
            var polled = pollfd(fd: socket, events: events, revents: 0)
            poll(&polled, 1, Int32(left + 1))
            if ssh_execute_message_callbacks(session.handle) == SSH_ERROR { break }
        }
        breaker.shut()
    }
}
