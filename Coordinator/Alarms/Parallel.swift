import Outward
import Posix

/// Several pieces of blocking work, each on a thread of its own.
final class Parallel: @unchecked Sendable {
    typealias Outcome = Result<Void, OutwardError>

    // Only touched inside `monitor.locked`.
    private var finished: [(Int, Outcome)] = []
    private var left: Int
    private let monitor = Monitor()

    private init(_ count: Int) { left = count }

    static func run(_ works: [@Sendable () -> Outcome]) -> Parallel {
        let result = Parallel(works.count)
        for (index, work) in works.enumerated() {
            do {
                try Thread("outward") { result.end(index, work()) }.detach()
            } catch {
                result.end(index, .failure(.transfer(place: "no thread", reason: error.description)))
            }
        }
        return result
    }

    private func end(_ index: Int, _ outcome: Outcome) {
        monitor.locked {
            finished.append((index, outcome))
            monitor.wakeAll()
        }
    }

    /// Waits for the next one that ends: its place in the list, and how it went. Nil after all have.
    func next() -> (Int, Outcome)? {
        monitor.locked {
            guard left > 0 else { return nil }
            while finished.isEmpty { monitor.wait() }
            left -= 1
            return finished.removeFirst()
        }
    }
}
