import Arguments
import Capture
import Configuration
import Glibc
import Posix
import Restore
import SSH
import Synchronization
import Wire

/// `restore ADDRESS TOKEN --to DIR`: fetches what a person granted, and goes on by itself when the connection is cut.
struct RestoreCommand {
    private let address: Endpoint
    private let hostKey: Fingerprint
    private let token: String
    private let target: String
    private let folder: String
    private let asJSON: Bool

    /// Seconds before each new try; a try that brought something starts them anew.
    private static let pauses: [Double] = [1, 2, 5, 10, 20, 30]

    init(_ address: String, _ token: String, target: String, folder: String, asJSON: Bool) throws {
        (self.address, hostKey) = try Program.peer(address, token, for: .restore)
        self.token = token
        self.target = target
        self.folder = folder
        self.asJSON = asJSON
    }

    func run() throws -> ExitCode {
        let stop = StopFlag()
        let breaker = Mutex<Breaker?>(nil)
        try Signals.watch([SIGTERM, SIGINT]) { _ in
            // The second time at once.
            if stop.isSet { exit(ExitCode.interrupted.rawValue) }
            stop.set()
            breaker.withLock { $0?.breakOff() }
        }
        let key = try key()
        let start = Time.monotonic()
        let display = ProgressDisplay()
        defer { display.clear() }
        var tries = 0
        var hasBegun = false
        while true {
            let progress = Reached()
            do {
                let (what, report) = try attempt(key, stop, { found in breaker.withLock { $0 = found } }) {
                    RestoreOutput.show($0, on: display)
                    progress.note($0.bytes)
                } begun: {
                    hasBegun = true
                }
                display.clear()
                return RestoreOutput.tell(
                    report,
                    snapshot: what.snapshot,
                    time: what.time,
                    target: target,
                    took: Time.monotonic() - start,
                    asJSON: asJSON
                )
            } catch {
                if stop.isSet { throw RestoreError.interrupted(path: target) }
                // What never began is told at once; what was cut is tried again.
                guard hasBegun, isCut(error) else { throw error }
                if progress.isFurther { tries = 0 }
                guard tries < Self.pauses.count else {
                    throw CommandFailure(
                        .unreachable,
                        "\(error); tried \(tries) times. What is in \(target) stays: the same command goes on with it"
                    )
                }
                let pause = Self.pauses[tries]
                tries += 1
                display.clear()
                put(
                    "holdfast-agent: \(error); going on in \(Human.fixed(pause, 0)) s\n",
                    to: STDERR_FILENO
                )
                Time.sleep(seconds: pause)
                if stop.isSet { throw RestoreError.interrupted(path: target) }
            }
        }
    }

    private func isCut(_ error: any Error) -> Bool {
        switch error {
        case is SSHError: true
        case WireError.closed: true
        case RestoreError.ended: true
        default: false
        }
    }

    private func attempt(
        _ key: KeyPair,
        _ stop: StopFlag,
        _ connected: (Breaker?) -> Void,
        progress: @escaping @Sendable (RestoreProgress) -> Void,
        begun: () -> Void
    ) throws -> (Restoring, RestoreReport) {
        let channel = try SSHClient.connect(
            host: address.host,
            port: address.port,
            expectedHostKey: hostKey,
            key: key
        )
        connected(channel.breaker)
        defer {
            connected(nil)
            channel.close()
        }
        let stream = FrameStream(channel)
        try stream.send(RestoreRequest.restore(version: protocolVersion, token: token))
        let what = try stream.receive { type, body in
            guard !RestoreReply.types.contains(type) else {
                let message = try RestoreReply(type: type, body: body)
                guard case .restoring(let what) = message else {
                    throw WireError.unexpected(type: type, state: "a restore begins")
                }
                return what
            }
            switch try CoordinatorMessage(type: type, body: body) {
            case .refused(let reason):
                throw CommandFailure(.failed, "the coordinator refused: \(reason)")
            case .busy(let reason): throw CommandFailure(.locked, reason)
            case .abort(let reason): throw RestoreError.ended(reason: reason)
            default: throw WireError.unexpected(type: type, state: "a restore begins")
            }
        }
        begun()
        let receiver = RestoreReceiver(stream, to: target, stop: { stop.isSet }, progress: progress)
        return (what, try receiver.run(what))
    }

    /// This machine's key; one that has not joined gets a key for restores, which is kept so that a restore can go on
    /// after a restart.
    private func key() throws -> KeyPair {
        let own = AgentFile.keyPath(folder)
        if Files.exists(own) { return try KeyPair.load(own) }
        let path = "\(folder)/restore.key"
        if Files.exists(path) { return try KeyPair.load(path) }
        do {
            try Files.makeDirectories(folder, mode: 0o700)
            let key = try KeyPair.generate()
            try key.save(to: path)
            return key
        } catch let error as SystemCallError {
            throw CommandFailure(
                .configuration,
                "cannot write to \(folder): \(error); run as root, or name another folder with --config"
            )
        }
    }
}

/// Whether a try brought anything new: what an earlier one brought is counted again in each.
private final class Reached: Sendable {
    private static let most = Mutex<UInt64>(0)
    private let further = Mutex(false)

    func note(_ bytes: UInt64) {
        let isMore = Self.most.withLock { most in
            defer { most = max(most, bytes) }
            return bytes > most
        }
        if isMore { further.withLock { $0 = true } }
    }

    var isFurther: Bool { further.withLock { $0 } }
}
