import Posix
import Synchronization

/// The live line of work on a known number of bytes, with rate and time left; any thread may call it.
package final class ProgressDisplay: Sendable {
    private struct State {
        var line = LiveLine()
        var meter = RateMeter()
    }

    private let state = Mutex(State())

    package init() {}

    package func show(_ what: String, done: UInt64, of total: UInt64, _ more: String) {
        state.withLock { state in
            state.meter.note(Int64(clamping: done))
            let rate = state.meter.perSecond
            state.line.show(Self.text(what, done, total, rate, more))
        }
    }

    package func clear() { state.withLock { $0.line.clear() } }

    private static func text(_ what: String, _ done: UInt64, _ total: UInt64, _ rate: Int64, _ more: String)
        -> String
    {
        var text = "\(what)  \(Human.bytes(done)) of \(Human.bytes(total))  \(more)  \(Human.bytes(rate))/s"
        if rate > 0, total > done {
            let seconds = Double(total - done) / Double(rate)
            text += "  time left \(Human.duration(nanoseconds: Int64(seconds * 1e9)))"
        }
        return text
    }
}
