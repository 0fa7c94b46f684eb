import CLinux
import Glibc

/// A thread of its own for work that blocks.
package struct Thread: ~Copyable {
    private let handle: pthread_t
    private let outcome: Outcome

    private final class Outcome: @unchecked Sendable {
        // Written by the thread before it ends and read after pthread_join, which orders the two.
        var error: (any Error)?
        let name: String
        let body: @Sendable () throws -> Void
        init(_ name: String, _ body: @escaping @Sendable () throws -> Void) {
            self.name = name
            self.body = body
        }
    }

    /// Starts `body`; `name` shows in ps(1), at most 15 bytes of it.
    package init(_ name: String, _ body: @escaping @Sendable () throws -> Void) throws(SystemCallError) {
        let outcome = Outcome(name, body)
        var handle = pthread_t()
        let argument = Unmanaged.passRetained(outcome)
        let code = pthread_create(&handle, nil, threadMain, argument.toOpaque())
        if code != 0 {
            argument.release()
            throw SystemCallError("pthread_create", errno: code)
        }
        self.handle = handle
        self.outcome = outcome
    }

    /// Waits for the end and rethrows what `body` threw.
    package consuming func join() throws {
        pthread_join(handle, nil)
        if let error = outcome.error { throw error }
    }

    /// Lets the thread go on by itself; what it throws is lost.
    package consuming func detach() { pthread_detach(handle) }

    fileprivate static func run(_ argument: UnsafeMutableRawPointer) {
        let outcome = Unmanaged<Outcome>.fromOpaque(argument).takeRetainedValue()
        clinux_name_thread(outcome.name)
        do { try outcome.body() } catch { outcome.error = error }
    }
}

private func threadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let argument { Thread.run(argument) }
    return nil
}
