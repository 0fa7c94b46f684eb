import Arguments
import Catalogue
import Posix
import Wire

/// What a capture has seen, sent and met so far. Sizes in bytes.
package final class CaptureReport {
    package enum Phase: String, Sendable {
        /// Until the agent has found its database.
        case start
        case dump, files, publish
    }

    package var phase = Phase.start
    package var dumpBytes: UInt64 = 0
    package var folders = 0
    package var filesSeen = 0
    package var bytesSeen: UInt64 = 0
    /// Files whose bytes were not read, because an earlier tree has them.
    package var filesUnchanged = 0
    package var filesSent = 0
    /// Those of them that lie on the host's disks; the agent makes a few itself.
    package var filesRead = 0
    package var bytesSent: UInt64 = 0
    package var filesVanished = 0
    /// What there is in all, as far as it is known: the agent's count, or the snapshot before. For progress only.
    package var expectedFiles: UInt64?
    package var expectedBytes: UInt64?

    /// Entries that are not in the snapshot, or not as they should be: any makes the snapshot incomplete.
    package private(set) var problemCount = 0
    /// The first thousand of them.
    package private(set) var problems: [(path: [UInt8], message: String)] = []

    /// Entries that the agent left out on purpose; the first thousand, for the run's report.
    package private(set) var skipped: [(path: [UInt8], reason: String)] = []
    /// All of them.
    package private(set) var skippedCount = 0

    /// What happened and when, nanoseconds since 1970-01-01T00:00:00Z, until it is written into the run's log.
    private(set) var notes: [(time: Int64, text: String)] = []

    /// Entries that were left out which the notes name.
    private static let notedSkips = 20
    /// Bytes that are kept of a path; a hostile agent could make thousands of very long ones.
    private static let shownPath = 4096

    package init() {}

    func note(_ text: String) {
        if notes.count < 100 { notes.append((Time.now(), text)) }
    }

    /// The first of the notes is written.
    func dropNote() { notes.removeFirst() }

    /// Notes what came of the files so far.
    func noteFiles() {
        guard filesSeen > 0 else { return }
        note(
            "\(Human.count(filesSeen)) files with \(Human.bytes(bytesSeen)): \(Human.count(filesUnchanged)) known, "
                + "\(Human.count(filesSent)) sent (\(Human.bytes(bytesSent))), \(Human.count(filesVanished)) vanished, "
                + "\(Human.count(problemCount)) could not be taken as they are"
        )
        for (path, reason) in skipped.prefix(Self.notedSkips) {
            note("left out: \(escaped(path)): \(reason)")
        }
        if skippedCount > Self.notedSkips {
            note("left out: \(Human.count(skippedCount - Self.notedSkips)) more")
        }
    }

    func skip(_ path: [UInt8], _ reason: String) {
        skippedCount += 1
        if skipped.count < 1000 {
            skipped.append((Array(path.prefix(Self.shownPath)), String(reason.prefix(1000))))
        }
    }

    /// For the run's row; `stored` is what the repository grew by, in bytes.
    func figures(stored: Int64) -> RunFigures {
        var figures = RunFigures()
        figures.filesSeen = Int64(filesSeen)
        figures.bytesSeen = Int64(clamping: bytesSeen)
        figures.filesRead = Int64(filesRead)
        figures.filesSent = Int64(filesSent)
        figures.bytesSent = Int64(clamping: bytesSent + dumpBytes)
        figures.bytesStored = stored
        figures.filesExpected = expectedFiles.map { Int64(clamping: $0) }
        figures.bytesExpected = expectedBytes.map { Int64(clamping: $0) }
        figures.problems = Int64(problemCount)
        return figures
    }

    /// Records that the entry of these names, from the root down, is not as it should be.
    func problem(_ names: [[UInt8]], _ message: String) {
        problemCount += 1
        if problems.count < 1000 {
            problems.append((Array(names.joined(separator: [0x2F]).prefix(Self.shownPath)), message))
        }
    }
}

/// Why a capture ended without a snapshot, other than by the connection.
package enum CaptureError: Error, CustomStringConvertible {
    /// The agent said so.
    case agent(String)
    /// What the agent described or sent can't become a snapshot.
    case refused(String)
    /// The agent described more at once than has room in memory; what came of it would make no tree either.
    case tooWide(String)
    /// The host's repository may not grow any more: how much it holds, and what to do.
    case overLimit(String)
    /// Too little space is free where the repositories are.
    case noSpace(String)
    /// The agent said nothing whole for a long time.
    case silent
    /// This process was told to stop.
    case stopping
    /// Somebody asked for the end of this run.
    case cancelled

    package var description: String {
        switch self {
        case .agent(let message): message
        case .refused(let message), .tooWide(let message), .overLimit(let message), .noSpace(let message):
            message
        case .silent: "nothing came from the agent for \(Int(Patience.seconds / 60)) minutes"
        case .cancelled: "it was cancelled; what came so far is kept for the next backup"
        case .stopping: "the coordinator was stopped; the next backup goes on where this one was"
        }
    }
}
