import Glibc

/// Hands jobs to threads, first in, first out; who adds waits while it is full.
final class WorkQueue<Job: Sendable>: @unchecked Sendable {
    // Everything below is guarded by `mutex`.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let filled = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let emptied = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var jobs: [Job] = []
    private var taken = 0
    private var closed = false
    private let capacity: Int

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

    private var waiting: Int { jobs.count - taken }

    /// - Returns: false, without taking the job, once the queue is closed.
    func add(_ job: Job) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while waiting >= capacity && !closed { pthread_cond_wait(emptied, mutex) }
        if closed { return false }
        jobs.append(job)
        pthread_cond_signal(filled)
        return true
    }

    /// The next job; nil once the queue is closed and empty.
    func next() -> Job? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while waiting == 0 && !closed { pthread_cond_wait(filled, mutex) }
        if waiting == 0 { return nil }
        let job = jobs[taken]
        taken += 1
        if waiting == 0 || taken >= capacity {
            jobs.removeFirst(taken)
            taken = 0
        }
        // Not at every job: waking a thread for each costs more than a small file.
        if waiting == capacity / 2 || waiting == 0 { pthread_cond_signal(emptied) }
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
        pthread_cond_broadcast(filled)
        pthread_cond_broadcast(emptied)
        pthread_mutex_unlock(mutex)
    }
}
