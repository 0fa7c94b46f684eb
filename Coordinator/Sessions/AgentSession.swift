package import Catalogue
package import Fleet
import Glibc
package import Posix
import SSH
import Synchronization
import Wire

/// One agent's connection, in a process of its own, on one thread: the greeting, the long poll, and captures, until
/// the agent goes or the service stops. While it is idle it holds no connection to the catalogue; `serve` wakes it
/// through the control socket.
package final class AgentSession {
    private var fleet: FleetConfiguration
    private let reload: () throws -> FleetConfiguration
    private let server: CatalogueServer
    private let program: String
    private let control: FileDescriptor
    private let stop = StopFlag()
    /// The public key at the other end.
    private var fingerprint = ""

    /// For a greeting once the SSH connection stands; as long again as that may take.
    private static let greetingSeconds = 20.0
    /// Private memory that whoever has no known key may cost, in bytes, beside what the program takes itself: libssh
    /// gathers answers that are not read.
    private static let strangerMemory: UInt64 = 64 << 20
    /// The last wall around a session of a known key; its own limits lie well below. Where the machine has less, three
    /// quarters of it.
    private static let sessionMemory: UInt64 = 4 << 30

    /// - Parameters:
    ///   - reload: Reads the inventory again, for settings that were changed while the agent was connected.
    ///   - control: The socket to `serve`; what is said on it stands at `SessionTable`.
    ///   - program: Name and version, for snapshots.
    package init(
        fleet: FleetConfiguration,
        reload: @escaping () throws -> FleetConfiguration,
        server: CatalogueServer,
        control: consuming FileDescriptor,
        program: String
    ) {
        self.fleet = fleet
        self.reload = reload
        self.server = server
        self.control = control
        self.program = program
    }

    /// Serves the accepted connection to its end.
    package func run(_ socket: consuming FileDescriptor, peer: String) throws {
        Host.limitMemory(Host.memory + Self.strangerMemory)
        let hostKey = try KeyPair.load(fleet.folder.hostKey)
        let (channel, key) = try SSHServerConnection.accept(socket, hostKey: hostKey)
        defer { channel.close() }
        let breaker = channel.breaker
        let stop = self.stop
        try Signals.watch([SIGTERM, SIGINT]) { _ in
            stop.set()
            breaker.breakOff()
        }
        let greeted = StopFlag()
        try Thread("greeting") {
            Time.sleep(seconds: Self.greetingSeconds)
            if !greeted.isSet { breaker.breakOff() }
        }.detach()
        let receiver = ReadAhead(channel)
        let stream = FrameStream(receiver)
        let known = try server.use { try $0.host(keyFingerprint: key.fingerprint.text) }
        let first = try stream.receive { try Greeting(type: $0, body: $1) }
        if case .restore(let theirs, let token) = first {
            let job = RestoreJob(fleet: fleet, server: server, stream: stream, stop: stop)
            // From the grant on it is no stranger any more, and may take its time.
            return try job.perform(version: theirs, token: token, key: key, peer: peer) { host in
                Self.liftMemory()
                tell("guest \(host.id)")
                greeted.set()
            }
        }
        guard case .agent(let message) = first else { return }
        guard let host = known else { return try join(message, stream, key, peer) }
        Self.liftMemory()
        fingerprint = key.fingerprint.text
        tell("host \(host.id) \(fingerprint)")
        let skew = try greet(message, stream, host)
        greeted.set()
        let coordinators = try server.use { catalogue in
            try catalogue.noteContact(host: host.id, clockSkew: skew)
            return try catalogue.coordinators()
        }
        try stream.send(.coordinators(coordinators))
        try serve(stream, channel, receiver, host)
    }

    private static func liftMemory() {
        Host.limitMemory(min(sessionMemory, max(1 << 30, Host.physicalMemory / 4 * 3)))
    }

    private func tell(_ line: String) { put(line + "\n", to: control.raw) }

    // MARK: Greeting

    /// The one message that an unknown key may send.
    private func join(_ message: AgentMessage, _ stream: FrameStream, _ key: PublicKey, _ peer: String) throws
    {
        func refuse(_ reason: String) throws {
            Log.write(.warning, "refused a join from \(peer): \(reason)")
            try stream.send(.refused(message: reason))
            try stream.flush()
        }
        switch message {
        case .join(let theirs, _) where theirs != protocolVersion:
            try refuse("\(WireError.version(theirs: theirs, ours: protocolVersion))")
        case .join(_, let text):
            guard let token = JoinToken(text), token.purpose == .join else {
                return try refuse("this is no join token")
            }
            do {
                let (host, keys) = try server.use { catalogue in
                    let host = try catalogue.join(
                        token: token.secret,
                        publicKey: key.blob,
                        fingerprint: key.fingerprint.text
                    )
                    return (host, try catalogue.keys(of: host))
                }
                // The repository's key for the recovery passphrase costs much to try.
                Self.liftMemory()
                try fleet.recordHost(host, keys: keys)
                Log.write(.notice, "\(host.name): joined from \(peer) with the key \(key.fingerprint)")
                try stream.send(.joined(host: host.name))
                try stream.flush()
            } catch let error as CatalogueError {
                try refuse("\(error)")
            }
        case .hello:
            try refuse("this machine's key \(key.fingerprint) is not known here: join first")
        default:
            throw WireError.unexpected(type: message.type, state: "the greeting of an unknown key is due")
        }
    }

    /// - Returns: By how much the agent's clock is ahead, as `agentClockSkew` has it.
    private func greet(_ message: AgentMessage, _ stream: FrameStream, _ host: HostRow) throws -> Int64 {
        guard case .hello(let theirs, _) = message else {
            throw WireError.unexpected(type: message.type, state: "hello is due")
        }
        guard theirs == protocolVersion else {
            let error = WireError.version(theirs: theirs, ours: protocolVersion)
            try stream.send(.refused(message: "\(error)"))
            try stream.flush()
            throw error
        }
        try stream.send(.welcome(version: protocolVersion, host: host.name))
        return try stream.agentClockSkew()
    }

    // MARK: Waiting

    private func serve(
        _ stream: FrameStream,
        _ channel: SSHChannel,
        _ receiver: ReadAhead,
        _ host: HostRow
    ) throws {
        while true {
            guard let message = try nextMessage(stream, host) else { return }
            switch message {
            case .wait: guard try waitForWork(stream, channel, receiver, host) else { return }
            case .request(let kind):
                let job: CaptureJob?
                do { job = try self.job(host, stream, channel, uninvited: kind) } catch let error
                    as KeyRevoked
                {
                    throw error
                } catch {
                    try stream.send(.busy(message: reason(error, host)))
                    continue
                }
                if let job, let reason = try perform(job, receiver, host) {
                    try stream.send(.busy(message: reason))
                }
            default:
                throw WireError.unexpected(type: message.type, state: "wait or request is due")
            }
        }
    }

    /// Nil when the agent is gone: one that is stopped, or whose machine is, says no goodbye.
    private func nextMessage(_ stream: FrameStream, _ host: HostRow) throws -> AgentMessage? {
        do { return try stream.receive { try AgentMessage(type: $0, body: $1) } } catch {
            guard error as? WireError == .closed || error is SSHError else { throw error }
            if !stop.isSet { Log.write(.info, "\(host.name): the agent is gone: \(error)") }
            return nil
        }
    }

    /// Sleeps until there is a run for this host and does it; false when the agent or `serve` is gone.
    private func waitForWork(
        _ stream: FrameStream,
        _ channel: SSHChannel,
        _ receiver: ReadAhead,
        _ host: HostRow
    ) throws -> Bool {
        while true {
            if try server.use({ try $0.hostsWithQueuedRuns().contains(host.id) }) {
                let job: CaptureJob?
                do { job = try self.job(host, stream, channel, uninvited: nil) } catch let error
                    as KeyRevoked
                {
                    throw error
                } catch {
                    // Whoever asked is told why instead of waiting for nobody knows how long.
                    job = nil
                    try refuse(error, host)
                }
                if let job, try perform(job, receiver, host) == nil { return true }
            }
            Host.returnFreedMemory()
            tell("idle")
            defer { tell("working") }
            switch try channel.waitReadable(alsoOn: control.raw) {
            // An agent that waits sends nothing, so this is its end.
            case .peer, .timedOut: return false
            case .other:
                var buffer = [UInt8](repeating: 0, count: 256)
                if read(control.raw, &buffer, buffer.count) <= 0 { return false }
            }
        }
    }

    /// Ends the runs that wait for what can't be begun.
    private func refuse(_ error: any Error, _ host: HostRow) throws {
        if case CatalogueError.locked = error {
            try server.use { try $0.refuseQueuedRuns(host: host.id, reason: "\(error)") }
            return
        }
        let reason = reason(error, host)
        let failure = CaptureEnd(error).failure
        try server.use { try $0.failQueuedRuns(host: host.id, reason: reason, failure: failure) }
    }

    /// Why a capture can't be begun, which is logged unless it is only somebody else's turn.
    private func reason(_ error: any Error, _ host: HostRow) -> String {
        if case CatalogueError.locked = error { return "\(error)" }
        let reason = CaptureEnd(error).reason
        Log.write(.error, "\(host.name): a backup cannot be begun: \(reason)")
        return reason
    }

    /// A capture is the one time when more comes than one thread can receive, hash and seal.
    private func perform(_ job: CaptureJob, _ receiver: ReadAhead, _ host: HostRow) throws -> String? {
        try receiver.start(limit: fleet.policy(of: host.name).rateLimit) { try job.look() }
        defer { receiver.stop() }
        return try job.perform()
    }

    private func job(
        _ host: HostRow,
        _ stream: FrameStream,
        _ channel: SSHChannel,
        uninvited: CaptureKind?
    ) throws -> CaptureJob? {
        do { fleet = try reload() } catch {
            Log.write(
                .warning,
                "the inventory as it is now can't be used, so what it said before counts: \(error)"
            )
        }
        // The machine may have been replaced, or the host removed, since this connection was made.
        let (known, coordinators) = try server.use {
            (try $0.host(keyFingerprint: fingerprint), try $0.coordinators())
        }
        guard known != nil else {
            try stream.send(.refused(message: "this machine's key \(fingerprint) is not accepted any more"))
            try stream.flush()
            throw KeyRevoked(host: host.name)
        }
        // One that came since the agent connected may be all that is left tomorrow.
        try stream.send(.coordinators(coordinators))
        return try CaptureJob(
            host,
            fleet: fleet,
            server: server,
            stream: stream,
            stop: stop,
            patience: try Patience(channel.breaker),
            program: program,
            uninvited: uninvited
        )
    }
}

/// The first frame of a connection.
private enum Greeting {
    case agent(AgentMessage)
    case restore(version: UInt16, token: String)

    init(type: UInt8, body: UnsafeRawBufferPointer) throws(WireError) {
        guard type == RestoreRequest.restoreType else {
            self = .agent(try AgentMessage(type: type, body: body))
            return
        }
        guard case .restore(let version, let token) = try RestoreRequest(type: type, body: body) else {
            throw .unexpected(type: type, state: "the greeting is due")
        }
        self = .restore(version: version, token: token)
    }
}

/// The key of an agent was revoked while it was connected.
private struct KeyRevoked: Error, CustomStringConvertible {
    let host: String
    var description: String { "the key of \(host)'s agent was revoked while it was connected" }
}

/// Set once, by a signal or a milestone, and read by the session's thread.
final class StopFlag: Sendable {
    private let value = Atomic(false)
    func set() { value.store(true, ordering: .relaxed) }
    var isSet: Bool { value.load(ordering: .relaxed) }
}
