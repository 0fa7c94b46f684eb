import Glibc

/// Hands steps from one thread to another, first in, first out. Who adds waits while too much is in it.
final class StepQueue<Step: Sendable>: @unchecked Sendable {
    // Everything below is guarded by `mutex`.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let filled = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let emptied = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var steps: [(step: Step, weight: Int)?] = []
    private var head = 0
    private var weight = 0
    private var closed = false
    private let capacity: Int

    /// - Parameter capacity: The weight of all that wait at most; one that is heavier waits alone.
    init(capacity: Int) {
        self.capacity = capacity
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(filled, nil)
        pthread_cond_init(emptied, nil)
    }

    deinit {
        pthread_cond_destroy(emptied)
        pthread_cond_destroy(filled)
        pthread_mutex_destroy(mutex)
        emptied.deallocate()
        filled.deallocate()
        mutex.deallocate()
    }

    /// - Returns: False, without taking the step, once the queue is closed.
    @discardableResult
    func add(_ step: Step, weight added: Int) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while weight > 0 && weight + added > capacity && !closed { pthread_cond_wait(emptied, mutex) }
        if closed { return false }
        steps.append((step, added))
        weight += added
        if steps.count - head == 1 { pthread_cond_signal(filled) }
        return true
    }

    /// The next step; nil once the queue is closed and empty.
    func next() -> Step? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while head == steps.count && !closed { pthread_cond_wait(filled, mutex) }
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
        if weight == 0 || (before > capacity / 2 && weight <= capacity / 2) { pthread_cond_signal(emptied) }
        return step
    }

    /// No more steps come; with `dropping`, those that wait are not done either but returned.
    @discardableResult
    func close(dropping: Bool = false) -> [Step] {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        closed = true
        var dropped: [Step] = []
        if dropping {
            dropped = steps[head...].compactMap { $0?.step }
            steps.removeAll()
            head = 0
            weight = 0
        }
        pthread_cond_broadcast(filled)
        pthread_cond_broadcast(emptied)
        return dropped
    }
}
