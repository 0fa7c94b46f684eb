import Posix

/// Hands steps from one thread to another, first in, first out. Who adds waits while too much is in it.
final class StepQueue<Step: Sendable>: @unchecked Sendable {
    // Guards everything below.
    private let monitor = Monitor()
    private var steps: [(step: Step, weight: Int)?] = []
    private var head = 0
    private var weight = 0
    private var closed = false
    private let capacity: Int

    /// - Parameter capacity: The weight of all that wait at most; one that is heavier waits alone.
    init(capacity: Int) { self.capacity = capacity }

    /// The weight of all that waits.
    var load: Int { monitor.locked { weight } }

    /// - Returns: False, without taking the step, once the queue is closed.
    @discardableResult
    func add(_ step: Step, weight added: Int) -> Bool {
        monitor.locked {
            while weight > 0 && weight + added > capacity && !closed { monitor.wait() }
            if closed { return false }
            steps.append((step, added))
            weight += added
            if steps.count - head == 1 { monitor.wakeAll() }
            return true
        }
    }

    /// The next step; nil once the queue is closed and empty.
    func next() -> Step? {
        monitor.locked {
            while head == steps.count && !closed { monitor.wait() }
            guard head < steps.count, let (step, taken) = steps[head] else { return nil }
            steps[head] = nil
            head += 1
            if head == steps.count || head >= 1024 {
                steps.removeFirst(head)
                head = 0
            }
            let before = weight
            weight -= taken
            // Not at every step: waking a thread for each costs more than a small file.
            if weight == 0 || (before > capacity / 2 && weight <= capacity / 2) { monitor.wakeAll() }
            return step
        }
    }

    /// No more steps come; with `dropping`, those that wait are not done either but returned.
    @discardableResult
    func close(dropping: Bool = false) -> [Step] {
        monitor.locked {
            closed = true
            var dropped: [Step] = []
            if dropping {
                dropped = steps[head...].compactMap { $0?.step }
                steps.removeAll()
                head = 0
                weight = 0
            }
            monitor.wakeAll()
            return dropped
        }
    }
}
