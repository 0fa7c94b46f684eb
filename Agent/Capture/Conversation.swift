import Immich
import Posix
package import Wire

/// The agent's side of protocol.md over one connection; plain blocking calls on one thread.
package final class Conversation {
    package enum Outcome: Sendable {
        case committed(snapshot: String, Progress)
        /// A requested capture can't be had now, and why.
        case busy(String)
        /// The coordinator ended the capture, and why.
        case aborted(String)
        /// This side ended it.
        case failed(CaptureFailure)
    }

    /// Unwinds a capture that the coordinator aborted.
    private struct Aborted: Error {
        let message: String
    }

    private let stream: FrameStream
    private let settings: Settings
    private let stop: StopFlag
    private let show: (Progress) -> Void
    private let learn: ([CoordinatorPlace]) -> Void

    /// - Parameters:
    ///   - settings: Read afresh for each connection.
    ///   - stop: Once set, a capture ends at the next frame.
    ///   - show: Called a few times a second during a capture.
    ///   - learn: Told of the fleet's coordinators whenever this one tells.
    package init(
        _ stream: FrameStream,
        settings: Settings,
        stop: StopFlag,
        show: @escaping (Progress) -> Void = { _ in },
        learn: @escaping ([CoordinatorPlace]) -> Void = { _ in }
    ) {
        self.stream = stream
        self.settings = settings
        self.stop = stop
        self.show = show
        self.learn = learn
    }

    /// The coordinator refused this agent: why, and what to do.
    package struct Refused: Error, CustomStringConvertible {
        package let description: String
    }

    /// Makes this connection's key the key of a host.
    ///
    /// - Returns: The host's name.
    package static func join(_ stream: FrameStream, token: String) throws -> String {
        try stream.send(AgentMessage.join(version: protocolVersion, token: token))
        switch try stream.receiveFromCoordinator() {
        case .joined(let host): return host
        case .refused(let message): throw Refused(description: message)
        case let other: throw WireError.unexpected(type: other.type, state: "joining")
        }
    }

    /// - Returns: The name under which the coordinator knows this host.
    package func greet(program: String) throws -> String {
        try stream.send(AgentMessage.hello(version: protocolVersion, program: program))
        switch try stream.receiveFromCoordinator() {
        case .welcome(let version, let host):
            guard version == protocolVersion else {
                throw WireError.version(theirs: version, ours: protocolVersion)
            }
            try tellTime()
            return host
        case .refused(let message): throw Refused(description: message)
        case let other: throw WireError.unexpected(type: other.type, state: "greeting")
        }
    }

    /// At once: the coordinator takes the time until it comes.
    private func tellTime() throws {
        try stream.send(AgentMessage.clock(Time.now()))
        try stream.flush()
    }

    /// Waits for a capture, or asks for one, and does it.
    ///
    /// - Parameters:
    ///   - request: What to ask for; nil waits.
    ///   - begin: Called when a capture starts; before that nothing but waiting happens.
    package func next(request: CaptureKind?, begin: (CaptureKind) -> Void = { _ in }) throws -> Outcome {
        try stream.send(request.map { AgentMessage.request($0) } ?? .wait)
        while true {
            switch try stream.receiveFromCoordinator() {
            case .capture(let run, let kind, let scope, let count):
                try tellTime()
                begin(kind)
                return try capture(run: run, kind, scope: scope, count: count)
            case .coordinators(let places): learn(places)
            case .busy(let message) where request != nil: return .busy(message)
            case .refused(let message): throw Refused(description: message)
            // What the coordinator had under way when a capture failed on this side.
            case .want, .abort: continue
            case let other: throw WireError.unexpected(type: other.type, state: "waiting")
            }
        }
    }

    /// Nanoseconds that files are sent before they are counted, which reads every folder and inode once more. A capture
    /// that is over sooner shows how far it is, and not how far it has to go.
    private static let countAfter: Int64 = 5_000_000_000

    private func capture(run: String, _ kind: CaptureKind, scope: Scope, count: Bool) throws -> Outcome {
        var counting: Counting?
        defer { counting?.cancel() }
        // Known once Immich was found; a capture that is over soon needs no count.
        var places: MediaPlaces?
        var countFrom = Int64.max
        let progress = ProgressBox(show: show) { [stop, stream] in
            try stop.check()
            if let found = places, Time.monotonic() > countFrom {
                places = nil
                counting = Counting(found, everything: scope == .everything)
            }
            if let total = counting?.take() {
                try stream.send(AgentMessage.expect(files: total.files, bytes: total.bytes))
            }
        }
        do {
            progress.begin(.finding)
            let host = try ImmichHost.find(settings, kind)
            try dump(host, run: run, progress)
            progress.begin(.files)
            if count {
                places = host.places
                countFrom = Time.monotonic() + Self.countAfter
            }
            // A disk may have gone while the dump ran.
            try host.places?.check()
            let root = Deployment.root(of: host, everything: scope == .everything)
            try FilePhase(stream, root: root, progress: progress) { try Self.refuse($0) }.run()
            try host.places?.check()
            progress.begin(.committing)
            try stream.send(AgentMessage.commit)
            while true {
                let message = try stream.receiveFromCoordinator()
                if case .committed(let snapshot) = message {
                    return .committed(snapshot: snapshot, progress.value)
                }
                try Self.refuse(message)
            }
        } catch let aborted as Aborted {
            try stream.send(AgentMessage.failed(message: ""))
            try stream.flush()
            return .aborted(aborted.message)
        } catch let failure as CaptureFailure {
            try stream.send(AgentMessage.failed(message: clean(failure.description)))
            try stream.flush()
            return .failed(failure)
        }
    }

    /// Whatever the coordinator says during a capture, but for `want`, ends it.
    private static func refuse(_ message: CoordinatorMessage) throws {
        switch message {
        case .abort(let message): throw Aborted(message: message)
        case .refused(let message): throw Refused(description: message)
        default: throw WireError.unexpected(type: message.type, state: "capturing")
        }
    }

    private func dump(_ host: ImmichHost, run: String, _ progress: ProgressBox) throws {
        progress.begin(.dumping)
        let program = DumpProgram.used(by: host.version)
        let name = DumpName.make(
            time: Time.compact(Time.now()),
            immich: host.version,
            postgres: host.facts.postgres
        )
        let dump = try DumpRun(host.database, program, facts: host.facts, session: "holdfast \(run)")
        var tail = DumpTail(program)
        do {
            try stream.send(
                AgentMessage.dump(
                    name: name,
                    kind: program == .cluster ? .cluster : .database,
                    immichVersion: clean(host.facts.immich ?? host.version.map { "\($0)" } ?? "", limit: 100),
                    postgresVersion: clean(host.facts.postgres, limit: 200)
                )
            )
            try pump(dump, &tail, progress)
        } catch {
            dump.abandon()
            throw error
        }
        try dump.finish()
        do throws(DumpTail.Problem) { try tail.check() } catch {
            throw CaptureFailure(.dump, "\(program.rawValue) ended with status 0, but \(error)")
        }
        try stream.send(AgentMessage.dumpEnd)
    }

    /// Sends what the dump program prints as it comes.
    private func pump(_ dump: borrowing DumpRun, _ tail: inout DumpTail, _ progress: ProgressBox) throws {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)
        defer { buffer.deallocate() }
        var lastByte = Time.monotonic()
        while true {
            try progress.tick()
            while try stream.frameWaits() { try Self.refuse(try stream.receiveFromCoordinator()) }
            guard let got = try dump.read(into: buffer, milliseconds: 250) else {
                try stream.flush()
                if Time.monotonic() - lastByte > Int64(dump.stallSeconds) * 1_000_000_000 {
                    throw CaptureFailure(.dump, "the dump printed nothing for \(dump.stallSeconds) seconds")
                }
                continue
            }
            if got == 0 { return }
            lastByte = Time.monotonic()
            let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<got])
            tail.add(bytes)
            try stream.send(type: AgentMessage.dataType, body: bytes)
            progress.dumped(got)
        }
    }
}
