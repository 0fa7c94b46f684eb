import CLinux
import Glibc
import Posix

/// The session processes of a running `serve`: one per connection, each with a control socket. On it a session
/// says, a line each, `host ID KEY` once its key is known as that of the host's agent, or `guest ID` when it was granted a restore
/// of that host, `idle` and `working`; `serve` says `work` to wake it.
struct SessionTable {
    /// Connections whose key is not known yet, in all and from one address: each lives at most 40 s.
    static let strangers = 32
    static let strangersPerAddress = 8
    /// Seconds that an agent has to greet before its place may be given away: it takes a fraction of one.
    static let strangerSeconds = 4.0

    final class Session {
        let pid: pid_t
        let control: Int32
        let peer: String
        let since = Time.monotonic()
        /// Its place was given to another stranger.
        var isDismissed = false
        var host: Int32?
        /// The fingerprint that the host's agent is known by; nil for others.
        var agentKey: String?
        var idle = false
        /// It is an agent that takes work: it has waited for some.
        var takesWork = false
        var partial: [UInt8] = []

        init(pid: pid_t, control: Int32, peer: String) {
            self.pid = pid
            self.control = control
            self.peer = peer
        }
        deinit { close(control) }
    }

    private(set) var sessions: [Session] = []

    /// What to say of a session that a signal ended, by its process.
    private var names: [pid_t: Session] = [:]

    /// Whether one more stranger from `peer` may connect. When all places are taken, the one that has been silent for
    /// longest goes, so that strangers who only sit there keep no agent out.
    mutating func makeRoom(for peer: String) -> Bool {
        let strangers = sessions.filter { $0.host == nil }
        let neighbours = strangers.filter { $0.peer == peer }
        let crowd = neighbours.count >= Self.strangersPerAddress ? neighbours : strangers
        let isFull = neighbours.count >= Self.strangersPerAddress || strangers.count >= Self.strangers
        guard isFull, let oldest = crowd.min(by: { $0.since < $1.since }) else { return true }
        guard Double(Time.monotonic() - oldest.since) / 1e9 >= Self.strangerSeconds else { return false }
        oldest.isDismissed = true
        kill(oldest.pid, SIGKILL)
        remove(oldest)
        return true
    }

    /// A session's process is gone; says so when it was a signal that ended it.
    mutating func ended(_ pid: pid_t, signal: Int32) {
        guard let session = names.removeValue(forKey: pid), signal != 0, !session.isDismissed else { return }
        let host = session.host.map { " of host \($0)" } ?? ""
        Log.write(
            .error,
            "the session\(host) from \(session.peer) was ended by signal \(signal)"
                + (signal == SIGILL || signal == SIGTRAP || signal == SIGABRT || signal == SIGSEGV
                    ? ": it came upon a mistake of this program, or its limit of memory" : "")
        )
    }

    /// Starts a session process on an accepted socket, which is closed here.
    mutating func start(socket: consuming FileDescriptor, peer: String, arguments: [String]) throws {
        let (ours, theirs) = try socketPair()
        let childEnd = FileDescriptor(owning: theirs)
        clinux_set_nonblocking(ours, 1)
        do {
            // Its own image, also after the file was replaced by an upgrade.
            let child = try ChildProcess(
                ["/proc/self/exe", "session", peer] + arguments,
                extra: [socket.raw, childEnd.raw]
            )
            let session = Session(pid: child.pid, control: ours, peer: peer)
            sessions.append(session)
            names[child.pid] = session
        } catch {
            close(ours)
            throw error
        }
    }

    /// Reads what the session at `index` says; false when it has ended.
    func listen(to session: Session) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 512)
        let got = read(session.control, &buffer, buffer.count)
        if got < 0 && (errno == EAGAIN || errno == EINTR) { return true }
        guard got > 0 else { return false }
        session.partial.append(contentsOf: buffer[..<got])
        while let end = session.partial.firstIndex(of: 0x0A) {
            let words = String(decoding: session.partial[..<end], as: UTF8.self).split(separator: " ")
            session.partial.removeFirst(end + 1)
            switch words.first {
            case "host", "guest":
                session.host = words.dropFirst().first.flatMap { Int32($0) }
                session.agentKey = words.first == "host" ? words.dropFirst(2).first.map(String.init) : nil
            case "idle":
                session.idle = true
                session.takesWork = true
            case "working": session.idle = false
            default: break
            }
        }
        return true
    }

    /// The hosts whose agents are connected here and take work.
    var waitingHosts: Set<Int32> { Set(sessions.filter(\.takesWork).compactMap(\.host)) }

    mutating func remove(_ session: Session) { sessions.removeAll { $0 === session } }

    /// Wakes every idle session of `host`; the first to claim the run gets it.
    func wake(host: Int32) {
        for session in sessions where session.host == host && session.idle {
            put("work\n", to: session.control)
        }
    }

    /// Of the agents that are connected: a connection whose other end is gone does not last a minute.
    var agentKeys: Set<String> { Set(sessions.compactMap(\.agentKey)) }

    func signalAll(_ signal: Int32) { for session in sessions { kill(session.pid, signal) } }
}
