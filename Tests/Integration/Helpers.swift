import Glibc
import JSON
import Posix
import Synchronization

extension Posix.Thread {
    /// The highest number that was noted.
    final class Peak: Sendable {
        private let highest = Mutex(0)
        func note(_ value: Int) { highest.withLock { $0 = max($0, value) } }
        var value: Int { highest.withLock { $0 } }
    }

    /// A thread that does something again and again, or once, until it is ended.
    final class Running: Sendable {
        private let ending = Atomic(false)
        private let isOver = Atomic(false)

        init(every seconds: Double = 0.02, _ body: @escaping @Sendable () -> Void) throws {
            let thread = try Posix.Thread("running") { [self] in
                while !ending.load(ordering: .relaxed) {
                    body()
                    Time.sleep(seconds: seconds)
                }
                isOver.store(true, ordering: .sequentiallyConsistent)
            }
            thread.detach()
        }

        init(once body: @escaping @Sendable () -> Void) throws {
            let thread = try Posix.Thread("running") { [self] in
                body()
                isOver.store(true, ordering: .sequentiallyConsistent)
            }
            thread.detach()
        }

        /// Waits until it is over.
        func end() {
            ending.store(true, ordering: .relaxed)
            while !isOver.load(ordering: .sequentiallyConsistent) { Time.sleep(seconds: 0.005) }
        }
    }
}

extension Installation {
    /// The newest run of a host, as `status` tells it.
    func run(of host: String) throws -> JSON? {
        let status = try coordinator("status", "--json")
        return status.json?["hosts"]?.array?.first { $0["host"]?.string == host }?["run"]
    }
}

/// What several threads found.
final class Results<Value: Sendable>: Sendable {
    private let found = Mutex<[Value]>([])
    func add(_ value: Value) { found.withLock { $0.append(value) } }
    var values: [Value] { found.withLock { $0 } }
}

/// A value that one thread at a time uses.
struct Unchecked<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}
