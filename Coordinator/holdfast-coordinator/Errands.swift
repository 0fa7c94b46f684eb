import Arguments
import Catalogue
import Fleet
import Glibc
import Posix
import Scheduling
import Synchronization

/// The commands that this `serve` has started for what the coordinator does alone: `forget HOST` and `prune HOST`, each a
/// process of its own that takes its waiting run. The duty's thread starts them, the service's reaps them.
final class Errands: Sendable {
    /// A command whose process is over.
    struct Ended: Sendable {
        /// UUID.
        let run: String
        /// How, with its last words.
        let reason: String
        /// Somebody else worked on the host.
        let isLocked: Bool
    }

    /// What a command says on stderr; it goes on to the log.
    private final class Words: Sendable {
        private struct State {
            var last = ""
            var isOver = false
        }
        private let state = Mutex(State())
        var last: String { state.withLock { $0.last } }
        var isOver: Bool { state.withLock { $0.isOver } }

        /// Reads `end` until nobody writes to it any more.
        func read(_ end: borrowing FileDescriptor) {
            var line: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                let got = Glibc.read(end.raw, &buffer, buffer.count)
                if got < 0 && errno == EINTR { continue }
                guard got > 0 else { break }
                for byte in buffer[..<got] {
                    if byte == 0x0A { take(&line) } else if line.count < 4096 { line.append(byte) }
                }
            }
            take(&line)
            state.withLock { $0.isOver = true }
        }

        private func take(_ line: inout [UInt8]) {
            defer { line.removeAll() }
            guard line.contains(where: { $0 > 0x20 }) else { return }
            put(String(decoding: line, as: UTF8.self) + "\n", to: STDERR_FILENO)
            let text = String(decoding: line, as: UTF8.self)
            state.withLock { $0.last = text }
        }
    }

    private struct Entry {
        let run: String
        let words: Words
        /// How it ended, and when on the monotonic clock; nil while it runs.
        var end: (how: ChildProcess.End, at: Int64)?
    }

    private let entries = Mutex<[pid_t: Entry]>([:])

    /// Starts the command of an errand with this `serve`'s own inventory.
    func start(_ errand: Scheduler.Errand, configuration: String) throws {
        let pipe = try FileDescriptor.pipe()
        let write = FileDescriptor(owning: pipe.write)
        let words = Words()
        let reading = pipe.read
        do {
            try Thread("errand") { words.read(FileDescriptor(owning: reading)) }.detach()
        } catch {
            close(reading)
            throw error
        }
        // Held until it is noted, so that one that ends at once is not reaped as a stranger.
        try entries.withLock { entries in
            let child = try ChildProcess(
                ["/proc/self/exe", "--config", configuration, errand.kind.rawValue, errand.hostName],
                output: .nothing,
                error: .descriptor(write.raw)
            )
            entries[child.pid] = Entry(run: errand.run, words: words)
        }
    }

    /// Whether a process of this `serve` works on the run, or its end was not taken up yet.
    func has(_ run: String) -> Bool { entries.withLock { $0.values.contains { $0.run == run } } }

    /// Notes that a process is over; nothing happens for a process that is none of these.
    func ended(_ pid: pid_t, _ end: ChildProcess.End) {
        entries.withLock { $0[pid]?.end = (end, Time.monotonic()) }
    }

    /// The commands that ended since, each told of once.
    func takeEnded() -> [Ended] {
        entries.withLock { entries in
            var result: [Ended] = []
            for (pid, entry) in entries {
                // A program that it left behind may keep its stderr open.
                guard let end = entry.end,
                    entry.words.isOver || Time.monotonic() - end.at > 2_000_000_000
                else { continue }
                let last = entry.words.last
                result.append(
                    Ended(
                        run: entry.run,
                        reason: "its command ended: \(last.isEmpty ? "\(end.how)" : last)",
                        isLocked: end.how == .exit(ExitCode.locked.rawValue)
                    )
                )
                entries[pid] = nil
            }
            return result
        }
    }

    /// The runs whose processes are alive.
    var runs: [String] { entries.withLock { $0.values.filter { $0.end == nil }.map(\.run) } }

    /// Asks the process that works on `run` to end; nothing happens when it is none of these.
    func cancel(_ run: String) { signal(SIGTERM) { $0.run == run } }

    func signalAll(_ number: Int32) { signal(number) { _ in true } }

    private func signal(_ number: Int32, _ isMeant: (Entry) -> Bool) {
        entries.withLock { entries in
            // One that was reaped has no process any more, and its number may be another's.
            for (pid, entry) in entries where entry.end == nil && isMeant(entry) { kill(pid, number) }
        }
    }
}
