import Arguments
import Capture
import Glibc
import Posix
import SSH
import Synchronization
import Wire

extension Program {
    /// Asks for a capture now and shows it.
    static func backup(_ kind: CaptureKind, folder: String) throws -> ExitCode {
        let stop = StopFlag()
        try Signals.watch([SIGTERM, SIGINT]) { _ in
            // The second time at once.
            if stop.isSet { exit(ExitCode.interrupted.rawValue) }
            stop.set()
        }
        Host.setIdlePriority()
        Host.raiseDescriptorLimit()
        let display = Display()
        let link = try Link.open(folder, stop: stop, show: { display.show($0) })
        defer { link.channel.close() }
        let start = Time.monotonic()
        let outcome = try link.conversation.next(request: kind)
        display.clear()
        switch outcome {
        case .committed(let snapshot, let progress):
            let time = Human.duration(nanoseconds: Time.monotonic() - start)
            put("snapshot \(snapshot) in \(time): \(summary(progress))\n")
            for name in progress.named { put("  \(name)\n") }
            return progress.isIncomplete ? .incomplete : .done
        case .busy(let message): throw CommandFailure(.locked, message)
        case .aborted(let message):
            throw CommandFailure(.failed, "the coordinator ended the capture: \(message)")
        case .failed(let failure):
            let code: ExitCode =
                switch failure.kind {
                case .dump: .dumpFailed
                case .stopped: .interrupted
                case .discovery, .folders: .failed
                }
            throw CommandFailure(code, failure.description)
        }
    }
}

/// The live line of a capture; used by one thread.
private final class Display {
    private var line = LiveLine()
    private var samples: [(time: Int64, bytes: UInt64)] = []

    func show(_ progress: Progress) {
        let now = Time.monotonic()
        let bytes = progress.dumpBytes + progress.bytes
        samples.append((now, bytes))
        // The rate of the last seconds: the average of a long run tells nothing of now.
        while let first = samples.first, now - first.time > 5_000_000_000 { samples.removeFirst() }
        line.show(text(progress, now, bytes))
    }

    private func text(_ progress: Progress, _ now: Int64, _ bytes: UInt64) -> String {
        var text = progress.phase.rawValue
        switch progress.phase {
        case .finding, .committing: return text
        case .dumping: text += ": \(Human.bytes(progress.dumpBytes))"
        case .files:
            text +=
                ": \(Human.count(progress.files)) of \(Human.count(progress.wanted)) wanted, "
                + "\(Human.bytes(progress.bytes)); \(Human.count(progress.listed)) entries listed"
        }
        if let first = samples.first, now > first.time {
            let rate = Double(bytes - first.bytes) / (Double(now - first.time) / 1e9)
            text += ", \(Human.bytes(Int64(rate)))/s"
        }
        return text
    }

    func clear() { line.clear() }
}
