import Arguments
import Capture
import Glibc
import Posix
import SSH
import Synchronization
import Wire

/// `run`: waits for work as long as it lives.
final class Daemon: Sendable {
    private struct State {
        var isCapturing = false
        var breaker: Breaker?
    }

    private let folder: String
    private let stop = StopFlag()
    private let state = Mutex(State())

    init(folder: String) { self.folder = folder }

    func run() throws -> ExitCode {
        try Signals.watch([SIGTERM, SIGINT]) { [self] number in end(number) }
        Host.setIdlePriority()
        Host.raiseDescriptorLimit()
        // What is wrong with the files shows at once, not as one failed attempt of many.
        let first = try AgentFile.load(folder)
        _ = try KeyPair.load(AgentFile.keyPath(folder))
        let addresses = first.coordinators.map { "\($0.address)" }.joined(separator: ", ")
        let silence = try first.silence.map { try Silence($0, folder: folder, coordinator: addresses) }
        Log.write(.notice, "holdfast-agent \(version) started for the coordinator at \(addresses)")
        var last: AgentFile.Coordinator?
        var pause = 1.0
        while true {
            var wasGreeted = false
            do {
                try serve(after: last) {
                    wasGreeted = true
                    last = $0
                    silence?.reached()
                }
            } catch {
                silence?.failed("\(error)", afterContact: wasGreeted)
                if stop.isSet { return .done }
                if wasGreeted { pause = 1 }
                // Up to half more, so that all agents do not come at once when a coordinator starts again.
                let seconds = pause * (1 + Double(randomBytes(1)[0]) / 512)
                Log.write(.warning, "\(error); trying again in \(Human.fixed(seconds, 0)) s")
                Time.sleep(seconds: seconds)
                pause = min(60, pause * 2)
            }
        }
    }

    /// One connection, to its end.
    ///
    /// - Parameter last: The coordinator that greeted last.
    private func serve(after last: AgentFile.Coordinator?, greeted: (AgentFile.Coordinator) -> Void) throws {
        let link = try Link.open(folder, after: last, stop: stop) { breaker in
            state.withLock { $0.breaker = breaker }
        }
        defer { state.withLock { $0 = State() } }
        greeted(link.coordinator)
        Log.write(
            .notice,
            "connected to the coordinator at \(link.coordinator.address) as host '\(link.host)', waiting for work"
        )
        while true {
            var start: Int64 = 0
            let outcome = try link.conversation.next(request: nil) { kind in
                start = Time.monotonic()
                state.withLock { $0.isCapturing = true }
                Log.write(
                    .notice,
                    kind == .full ? "a capture starts" : "a capture of the database alone starts"
                )
            }
            state.withLock { $0.isCapturing = false }
            report(outcome, after: Time.monotonic() - start)
            if stop.isSet {
                link.channel.close()
                throw CaptureFailure(.stopped, "the agent was stopped")
            }
        }
    }

    private func report(_ outcome: Conversation.Outcome, after nanoseconds: Int64) {
        switch outcome {
        case .committed(let snapshot, let progress):
            Log.write(
                progress.isIncomplete ? .warning : .notice,
                "captured as snapshot \(snapshot) in \(Human.duration(nanoseconds: nanoseconds)): "
                    + summary(progress)
            )
            for name in progress.named { Log.write(.warning, name) }
        case .aborted(let message): Log.write(.warning, "the coordinator ended the capture: \(message)")
        case .failed(let failure): Log.write(.error, "the capture failed: \(failure)")
        case .busy(let message): Log.write(.info, message)
        }
    }

    /// On SIGTERM: at once while nothing runs; else the capture ends at the next frame, and if it does not come to
    /// one, the connection is broken off.
    private func end(_ number: Int32) {
        stop.set()
        guard state.withLock({ $0.isCapturing }) else {
            Log.write(.notice, "stopped")
            exit(0)
        }
        Log.write(.notice, "stopping: the capture under way ends")
        Time.sleep(seconds: 5)
        state.withLock { $0.breaker?.breakOff() }
        Time.sleep(seconds: 10)
        exit(1)
    }
}

/// What a capture took, in one line.
func summary(_ progress: Progress) -> String {
    var parts = [
        "dump \(Human.bytes(progress.dumpBytes))",
        "\(Human.count(progress.listed)) entries",
        "\(Human.count(progress.files)) files sent (\(Human.bytes(progress.bytes)))",
    ]
    let odd: [(UInt64, String)] = [
        (progress.unreadable, "unreadable"), (progress.changing, "kept changing"),
        (progress.vanished, "vanished"), (progress.failedFolders, "folders unreadable"),
        (progress.skipped, "left out"),
    ]
    for (count, what) in odd where count > 0 { parts.append("\(Human.count(count)) \(what)") }
    return parts.joined(separator: ", ")
}
