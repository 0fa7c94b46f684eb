import Glibc
import Posix

/// One line that is written over itself while something runs: on a terminal as often as asked, elsewhere (a log,
/// a pipe) as a line of its own every ten seconds. It goes to stderr, so that stdout stays the result alone.
package struct LiveLine {
    private let columns: Int?
    private var last: Int64 = 0
    private var shown = false

    package init() { columns = Host.terminalColumns(STDERR_FILENO) }

    /// Shows `text` unless it is too early for it.
    package mutating func show(_ text: @autoclosure () -> String) {
        let now = Time.monotonic()
        if now - last < (columns == nil ? 10_000_000_000 : 200_000_000) { return }
        // The first line of a job that ends at once would only be noise in a log.
        if columns == nil && last == 0 {
            last = now
            return
        }
        last = now
        shown = true
        if let columns {
            put("\r\u{1B}[K" + String(text().prefix(columns - 1)), to: STDERR_FILENO)
        } else {
            put(text() + "\n", to: STDERR_FILENO)
        }
    }

    /// Clears the line on a terminal.
    package mutating func clear() {
        if shown && columns != nil { put("\r\u{1B}[K", to: STDERR_FILENO) }
        shown = false
    }
}
