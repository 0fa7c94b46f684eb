import Glibc

/// Lines for the journal or a terminal: one write(2) each, to stderr, with the journal's priority in front when
/// the journal reads them. No secrets, and names from outside only escaped.
package enum Log {
    package enum Level: Int, Sendable {
        /// Somebody must act.
        case error = 3
        /// Something was left out or put off.
        case warning = 4
        /// Start, stop, an ended job.
        case notice = 5
        case info = 6
    }

    private static let toJournal = getenv("JOURNAL_STREAM") != nil

    /// Writes `message`; control characters in it become spaces, so that it stays one line.
    package static func write(_ level: Level, _ message: String) {
        let line = String(
            String.UnicodeScalarView(message.unicodeScalars.map { $0.value < 0x20 ? " " : $0 })
        )
        if toJournal {
            put("<\(level.rawValue)>\(line)\n", to: STDERR_FILENO)
        } else {
            let name = level == .error ? "error: " : level == .warning ? "warning: " : ""
            put("\(Time.local(Time.now())) \(name)\(line)\n", to: STDERR_FILENO)
        }
    }
}
