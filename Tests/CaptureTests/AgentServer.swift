import Glibc
import Posix
import SSH
import Synchronization
import Wire

/// A value that one thread gives to another, once.
final class Found<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    func put(_ new: Value) { value.withLock { $0 = new } }
    func take() -> Value? {
        value.withLock { value in
            defer { value = nil }
            return value
        }
    }
}

/// An SSH server that speaks the coordinator's part, one connection after the other.
final class AgentServer: Sendable {
    enum Work: Sendable {
        case capture(@Sendable (FakeCoordinator) -> Void)
        case busy(String)
        case wait
    }
    private struct State: Sendable {
        var work = Work.wait
        var refusesTokens = false
        var coordinators: [CoordinatorPlace] = []
        var last: FakeCoordinator?
        var hasCommitted = false
        var isWaiting = false
    }

    let port: UInt16
    let hostKey: KeyPair
    private let state = Mutex(State())
    private let stopping: Int32
    private let listening: Mutex<Bool>

    var work: Work {
        get { state.withLock { $0.work } }
        set { state.withLock { $0.work = newValue } }
    }
    var refusesTokens: Bool {
        get { state.withLock { $0.refusesTokens } }
        set { state.withLock { $0.refusesTokens = newValue } }
    }
    /// What it tells of the fleet.
    var coordinators: [CoordinatorPlace] {
        get { state.withLock { $0.coordinators } }
        set { state.withLock { $0.coordinators = newValue } }
    }
    /// Of the last capture; to be looked at once the agent has ended.
    var last: FakeCoordinator? { state.withLock { $0.last } }
    /// Whether the last capture has been committed; may be asked at any time.
    var hasCommitted: Bool { state.withLock { $0.hasCommitted } }

    init(port: UInt16 = 0, hostKey: KeyPair? = nil) throws {
        self.hostKey = try hostKey ?? KeyPair.generate()
        let listener = try TCPListener(address: "127.0.0.1", port: port)
        self.port = listener.port
        let pipe = try FileDescriptor.pipe()
        stopping = pipe.write
        listening = Mutex(true)
        let socket = try listener.descriptor.duplicate().release()
        let thread = try Posix.Thread("server") { [self] in
            let listener = FileDescriptor(owning: socket)
            let stop = FileDescriptor(owning: pipe.read)
            while try waitReadable([listener.raw, stop.raw], seconds: nil) == [0] {
                let connection = accept(listener.raw, nil, nil)
                try? serve(FileDescriptor(owning: connection), stop: stop.raw)
            }
            try? listener.close()
            listening.withLock { $0 = false }
        }
        thread.detach()
    }

    /// Ends the server and waits until its port is free again.
    func stop() {
        close(stopping)
        while listening.withLock({ $0 }) { Time.sleep(seconds: 0.01) }
    }

    func untilWaiting() throws {
        for _ in 0..<200 where !state.withLock({ $0.isWaiting }) { Time.sleep(seconds: 0.05) }
    }

    private func serve(_ socket: consuming FileDescriptor, stop: Int32) throws {
        let (channel, _) = try SSHServerConnection.accept(socket, hostKey: hostKey)
        defer { channel.close() }
        let stream = FrameStream(channel)
        switch try stream.receive({ try AgentMessage(type: $0, body: $1) }) {
        case .join:
            if refusesTokens {
                try stream.send(CoordinatorMessage.refused(message: "this token was used before"))
            } else {
                try stream.send(CoordinatorMessage.joined(host: "test"))
            }
            try stream.flush()
            return
        case .hello: try stream.send(CoordinatorMessage.welcome(version: protocolVersion, host: "test"))
        case let other: throw FakeCoordinator.Breach(what: "\(other) as greeting")
        }
        guard case .clock = try stream.receive({ try AgentMessage(type: $0, body: $1) }) else {
            throw FakeCoordinator.Breach(what: "a greeting without the agent's clock")
        }
        try stream.send(CoordinatorMessage.coordinators(coordinators))
        try stream.flush()
        switch work {
        case .busy(let message):
            _ = try stream.receive { try AgentMessage(type: $0, body: $1) }
            try stream.send(CoordinatorMessage.busy(message: message))
            try stream.flush()
        case .wait:
            _ = try stream.receive { try AgentMessage(type: $0, body: $1) }
            state.withLock { $0.isWaiting = true }
            _ = try channel.waitReadable(alsoOn: stop)
        case .capture(let prepare):
            let coordinator = FakeCoordinator(stream)
            prepare(coordinator)
            state.withLock { $0.last = coordinator }
            try coordinator.run()
            state.withLock { $0.hasCommitted = coordinator.committed }
            // One capture for each server and set-up.
            _ = try channel.waitReadable(alsoOn: stop, seconds: 20)
        }
    }
}
