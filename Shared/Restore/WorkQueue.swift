import Glibc

/// Hands jobs to threads, first in, first out; who adds waits while it is full.
final class WorkQueue<Job: Sendable>: @unchecked Sendable {
    // Everything below is guarded by `mutex`.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var jobs: [Job] = []
    private var taken = 0
    private var closed = false
    private let capacity: Int

    init(capacity: Int) {
        self.capacity = capacity
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// - Returns: false, without taking the job, once the queue is closed.
    func add(_ job: Job) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while jobs.count - taken >= capacity && !closed { pthread_cond_wait(changed, mutex) }
        if closed { return false }
        jobs.append(job)
        pthread_cond_broadcast(changed)
        return true
    }

    /// The next job; nil once the queue is closed and empty.
    func next() -> Job? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while jobs.count == taken && !closed { pthread_cond_wait(changed, mutex) }
        if jobs.count == taken { return nil }
        let job = jobs[taken]
        taken += 1
        if taken == jobs.count {
            jobs.removeAll(keepingCapacity: true)
            taken = 0
        } else if taken >= 256 {
            jobs.removeFirst(taken)
            taken = 0
        }
        pthread_cond_broadcast(changed)
        return job
    }

    /// No more jobs come; with `dropping`, those that wait are not done either.
    func close(dropping: Bool = false) {
        pthread_mutex_lock(mutex)
        closed = true
        if dropping {
            jobs.removeAll()
            taken = 0
        }
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }
}
