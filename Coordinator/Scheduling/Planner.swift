package import Catalogue
import Posix

/// How a run of a job ended.
package struct RunEnd: Sendable, Equatable {
    package let state: RunRow.State
    package let failure: RunRow.Failure?
    package let started: Int64?
    package let error: String?

    package init(
        _ state: RunRow.State,
        _ failure: RunRow.Failure? = nil,
        started: Int64? = nil,
        error: String? = nil
    ) {
        self.state = state
        self.failure = failure
        self.started = started
        self.error = error
    }

    package init(_ run: RunRow) {
        self.init(run.state, run.failure, started: run.started, error: run.error)
    }
}

/// What is due of one job, and what becomes of it. It knows no clock and no catalogue: whoever asks says what time it is.
///
/// - A job has at most one occurrence under way. What was due meanwhile, or while nothing ran here, is made up for once:
///   the newest of them counts.
/// - An occurrence is known by when it was due, so a clock that is put back makes none come twice, and one that is put
///   forward leaves none out. When the clock had been ahead by more than one occurrence, those are due again at their
///   time: one run too many is better than a week without any.
/// - It waits for its agent, for its turn and for whoever holds the host's locks as long as it takes. Once a run of it failed,
///   it is tried again with growing pauses until the window that its first attempt opened is over. An attempt that was cut off by the loss of a connection
///   or of the coordinator has one more, whenever that is possible again.
/// - A good run that was begun after it was due is as good as its own: a person's, or a full capture for a database.
package struct Planner {
    package let timing: JobTiming

    private static let second: Int64 = 1_000_000_000
    /// Between the end of a capture and forgetting.
    private static let forgetDelay = 300 * second

    package init(_ timing: JobTiming) { self.timing = timing }

    // MARK: - The inventory

    /// A job that was not there before: its first occurrence is the next one.
    ///
    /// - Parameter captured: When the newest good capture ended, for `forget`.
    package func job(host: Int32, now: Int64, captured: Int64? = nil) -> JobRow {
        let now = timing.cron == nil ? captured ?? 0 : now - timing.offset
        return JobRow(
            host: host,
            kind: timing.kind,
            schedule: timing.schedule,
            handled: now,
            next: timing.next(after: now)
        )
    }

    /// Takes a changed schedule up. What was due by the old one stays due; the new one counts from now on.
    package func reschedule(_ job: inout JobRow, now: Int64) {
        guard job.schedule != timing.schedule else { return }
        let here = now - timing.offset
        if let next = job.next, next <= here, job.run == nil { open(&job, next) }
        job.schedule = timing.schedule
        job.handled = here
        job.next = timing.next(after: here)
    }

    // MARK: - Time goes on

    /// Brings the job to `now`.
    ///
    /// - Parameters:
    ///   - good: When the newest good run was begun that does what this job wants done; not behind `now`.
    ///   - captured: When the newest good capture ended, for `forget`.
    package func advance(_ job: inout JobRow, good: Int64?, captured: Int64? = nil, now: Int64) {
        if timing.cron == nil {
            // A little later, so that it does not stand in the way of who looks at what was just captured. One that ended in
            // the future did so by a clock that was wrong.
            if let captured, captured != job.handled, job.run == nil,
                now >= captured + Self.forgetDelay || now < captured
            {
                job.handled = captured
                open(&job, captured)
            }
        } else {
            // Every time is that of the schedule itself: the host's share of the spread only shifts all of them.
            let here = now - timing.offset
            if job.handled > here, let first = timing.next(after: here), first < job.handled {
                // The clock had been ahead by more than one occurrence.
                job.handled = here
                job.next = first
                if job.run == nil { close(&job) } else { job.due = here }
            }
            if job.run == nil, let next = job.next, next <= here {
                if job.due != nil { job.missed += 1 }
                let due = timing.last(upTo: here, from: next)
                open(&job, due)
                job.handled = due
                job.next = timing.next(after: due)
            }
        }
        if let due = job.due, job.run == nil, let good, good >= due {
            close(&job)
            job.missed = 0
            job.note = nil
        }
        // A clock that was put back would make the pause longer than any is.
        if let retry = job.retryAt, retry - now > 2 * JobTiming.longestPause { job.retryAt = now }
    }

    /// Takes up how the job's run ended.
    package func ended(_ job: inout JobRow, _ end: RunEnd, now: Int64) {
        job.lastRun = job.run
        job.run = nil
        guard let due = job.due else { return }
        let reason = end.error ?? "it was \(end.state.rawValue)"
        if end.state == .done || end.state == .incomplete {
            close(&job)
            job.missed = 0
            job.note = nil
            return
        }
        if end.state == .cancelled && end.failure != .locked {
            close(&job)
            job.note = "was cancelled; nothing is tried again"
            return
        }
        if end.failure == .limit {
            // Only a person can mend that.
            close(&job)
            job.missed += 1
            job.note = "trying again would not help: \(reason)"
            return
        }
        job.attempts += 1
        let wasCut =
            end.state == .interrupted || end.failure == .connection || end.failure == .stopped
        let base = (wasCut ? 20 : 300) * Self.second
        let retry = now + timing.pause(afterAttempts: job.attempts, due: due, base: base)
        // One that had to wait until it could begin at all has its whole window: a host that was away has hardly started
        // everything when its agent is back.
        let windowEnd = job.windowEnd ?? max(due + timing.offset, end.started ?? now) + timing.window
        job.windowEnd = windowEnd
        // The window may be over when host or coordinator is back, and they never had their chance.
        let isOwed = wasCut && (end.started ?? 0) < windowEnd
        if retry > windowEnd && !isOwed {
            let tries = job.attempts == 1 ? "one attempt" : "\(job.attempts) attempts"
            close(&job)
            job.missed += 1
            job.note = "given up after \(tries), because the window is over: \(reason)"
        } else {
            job.retryAt = retry
            job.note = reason
        }
    }

    private func open(_ job: inout JobRow, _ due: Int64) {
        job.due = due
        job.attempts = 0
        job.retryAt = nil
        job.windowEnd = nil
        job.waits = nil
    }

    private func close(_ job: inout JobRow) {
        job.due = nil
        job.attempts = 0
        job.retryAt = nil
        job.windowEnd = nil
        job.waits = nil
    }
}
