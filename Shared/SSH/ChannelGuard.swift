import CLibSSH

/// Watches what libssh takes in for the channel and answers its requests. libssh itself accepts data beyond the
/// window and keeps what comes on the error stream; both would let the other side fill our memory.
final class ChannelGuard {
    private unowned let session: Session
    private let callbacks = UnsafeMutablePointer<ssh_channel_callbacks_struct>.allocate(capacity: 1)
    /// Whether the subsystem runs; on the server a request for it makes it so, once.
    private(set) var started = false
    /// The other side closed the channel: it will send and take no more.
    private(set) var peerClosed = false
    private var dropping = false

    init(_ session: Session) {
        self.session = session
        callbacks.initialize(to: ssh_channel_callbacks_struct())
        callbacks.pointee.size = MemoryLayout<ssh_channel_callbacks_struct>.size
        callbacks.pointee.userdata = Unmanaged.passUnretained(self).toOpaque()
        callbacks.pointee.channel_data_function = { _, _, _, length, isError, data in
            guard let data else { return 0 }
            return Unmanaged<ChannelGuard>.fromOpaque(data).takeUnretainedValue()
                .arrived(Int(length), onErrorStream: isError != 0)
        }
        callbacks.pointee.channel_close_function = { _, _, data in
            guard let data else { return }
            Unmanaged<ChannelGuard>.fromOpaque(data).takeUnretainedValue().peerClosed = true
        }
    }

    deinit { callbacks.deallocate() }

    /// Lets requests for the subsystem through; all others have no function here and are refused by libssh.
    func serveSubsystem() {
        callbacks.pointee.channel_subsystem_request_function = { _, _, name, data in
            guard let data, let name else { return 1 }
            let guardian = Unmanaged<ChannelGuard>.fromOpaque(data).takeUnretainedValue()
            guard !guardian.started, String(cString: name) == Session.subsystem else { return 1 }
            guardian.started = true
            return 0
        }
    }

    func watch(_ channel: ssh_channel) throws(SSHError) {
        guard ssh_set_channel_callbacks(channel, callbacks) == SSH_OK else { throw .library("out of memory") }
        session.retained.append(self)
    }

    /// From now on what comes is forgotten.
    func startDropping() { dropping = true }

    /// Returns how many of `length` waiting bytes libssh shall forget.
    private func arrived(_ length: Int, onErrorStream: Bool) -> Int32 {
        if onErrorStream || dropping { return Int32(clamping: length) }
        // The window counts what the peer may send; one packet more can be under way.
        if length > SSHChannel.window + (2 << 20), session.violation == nil {
            session.violation = "more data than the channel's window allows"
            session.breaker.shut()
        }
        return 0
    }
}
