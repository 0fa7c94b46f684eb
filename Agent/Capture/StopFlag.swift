import Synchronization

/// Tells work on other threads to end soon; set once, by the thread that hears SIGTERM.
package final class StopFlag: Sendable {
    private let flag = Atomic(false)
    package init() {}
    package func set() { flag.store(true, ordering: .relaxed) }
    package var isSet: Bool { flag.load(ordering: .relaxed) }

    func check() throws {
        if isSet { throw CaptureFailure(.stopped, "the agent was stopped") }
    }
}
