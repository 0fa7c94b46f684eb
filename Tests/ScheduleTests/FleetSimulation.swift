import Catalogue
import Fleet
import Posix
import Repository
import Retention
import Schedule
import Scheduling
import TestSupport
import Wire

/// A fleet with a clock of its own: the planner and the turns as the coordinator uses them, captures that only take their
/// time, and hosts, coordinator and clock that fail when they are told to. Times are nanoseconds since
/// 1970-01-01T00:00:00Z, and real ones unless it says *clock*.
final class FleetSimulation {
    struct Host {
        let name: String
        let policy: HostPolicy
        /// When its agent is away.
        var away: [Range<Int64>] = []
        /// How many attempts fail of the full occurrence that was due then.
        var failures: [Int64: Int] = [:]
        /// How long a full capture takes.
        var takes: Int64 = 10 * minute
    }

    /// A good capture.
    struct Capture: Equatable {
        let kind: RunKind
        let due: Int64
        let started: Int64
    }

    private struct Running {
        let job: Int
        let started: Int64
        let clockStarted: Int64
        let end: Int64
        let outcome: RunEnd
    }

    let hosts: [Host]
    /// When the coordinator is off; what it had under way is cut.
    var off: [Range<Int64>] = []
    /// How far the coordinator's clock is off, from when on.
    var clocks: [(from: Int64, ahead: Int64)] = []
    var capturesAtOnce = 4

    private(set) var captures: [[Capture]]
    /// Failed attempts of each host's full occurrences, by due.
    private(set) var failed: [[Int64: Int]]
    /// Runs that were cut off, all in all.
    private(set) var cut = 0
    private(set) var mostAtOnce = 0
    /// What retention leaves of the full captures, by their time.
    private(set) var kept: [[Int64]]

    private var jobs: [JobRow] = []
    private var planners: [Planner] = []
    private var owners: [Int] = []
    /// When the newest good run of each kind was begun, by the clock.
    private var good: [[RunKind: Int64]]
    private var running: [Running] = []
    private var runs = 0

    init(_ hosts: [Host], start: Int64) {
        self.hosts = hosts
        captures = hosts.map { _ in [] }
        failed = hosts.map { _ in [:] }
        kept = hosts.map { _ in [] }
        good = hosts.map { _ in [:] }
        for (index, host) in hosts.enumerated() {
            for kind in [RunKind.full, .database] {
                guard let timing = JobTiming(kind, host: host.name, host.policy) else { continue }
                planners.append(Planner(timing))
                jobs.append(Planner(timing).job(host: Int32(index), now: start))
                owners.append(index)
            }
        }
    }

    private func ahead(_ now: Int64) -> Int64 { clocks.last { $0.from <= now }?.ahead ?? 0 }

    /// Goes on to `end`, by whole minutes, past those in which nothing can happen.
    func run(from start: Int64, to end: Int64) {
        let edges = (off.flatMap { [$0.lowerBound, $0.upperBound] } + clocks.map(\.from)).sorted()
        var now = start
        while now < end {
            step(now)
            let next = max(now + minute, nextEvent(after: now, edges.first { $0 > now } ?? end))
            now = start + (next - start + minute - 1) / minute * minute
        }
    }

    private func nextEvent(after now: Int64, _ edge: Int64) -> Int64 {
        let ahead = ahead(now)
        var event = min(edge, running.map(\.end).min() ?? edge)
        for (index, job) in jobs.enumerated() where job.run == nil {
            if let next = job.next { event = min(event, next + planners[index].timing.offset - ahead) }
            guard job.due != nil else { continue }
            let away = hosts[owners[index]].away.filter { $0.contains(now) }.map(\.upperBound).max()
            event = min(event, away ?? max(now, (job.retryAt ?? now) - ahead))
        }
        return event
    }

    private func step(_ now: Int64) {
        let isOff = off.contains { $0.contains(now) }
        if isOff || !running.isEmpty { endRuns(now, isOff) }
        if isOff { return }
        let clock = now + ahead(now)
        var waiting: [Int] = []
        for index in jobs.indices {
            let job = jobs[index]
            let here = clock - planners[index].timing.offset
            // Nothing can change for the others.
            guard job.due != nil || job.handled > here || (job.next ?? .max) <= here else { continue }
            let runs = good[owners[index]]
            let begun = [runs[job.kind], job.kind == .database ? runs[.full] : nil].compactMap { $0 }
            planners[index].advance(&jobs[index], good: begun.filter { $0 <= clock }.max(), now: clock)
            if jobs[index].due != nil && jobs[index].run == nil { waiting.append(index) }
        }
        if !waiting.isEmpty { begin(waiting, now, clock) }
    }

    private func begin(_ waiting: [Int], _ now: Int64, _ clock: Int64) {
        let candidates = waiting.map { index in
            let host = hosts[owners[index]]
            return Candidate(
                jobs[index],
                hostName: host.name,
                priority: host.policy.priority,
                since: (jobs[index].due ?? 0) + planners[index].timing.offset,
                isConnected: !host.away.contains { $0.contains(now) },
                busy: running.contains { owners[$0.job] == owners[index] } ? "under way" : nil
            )
        }
        var turns = Turns(capturesAtOnce: capturesAtOnce, capturing: running.count, isQuiet: true)
        for (index, turn) in zip(waiting, turns.give(candidates, now: clock)) where turn == .begin {
            runs += 1
            jobs[index].run = "\(runs)"
            running.append(newRun(index, now, clock))
        }
        mostAtOnce = max(mostAtOnce, running.count)
    }

    private func newRun(_ index: Int, _ now: Int64, _ clock: Int64) -> Running {
        let host = hosts[owners[index]]
        let isFull = jobs[index].kind == .full
        var end = now + (isFull ? host.takes : 2 * minute)
        var state = RunEnd(.done)
        if isFull, let due = jobs[index].due, let count = host.failures[due],
            failed[owners[index]][due, default: 0] < count
        {
            end = now + minute
            state = RunEnd(.failed, .dump, started: clock, error: "no dump")
        }
        // A connection that is lost on the way cuts it.
        if let loss = host.away.first(where: { $0.lowerBound > now && $0.lowerBound <= end }) {
            end = loss.lowerBound
            state = RunEnd(.interrupted, .connection, started: clock)
        }
        return Running(job: index, started: now, clockStarted: clock, end: end, outcome: state)
    }

    private func endRuns(_ now: Int64, _ isOff: Bool) {
        let clock = now + ahead(now)
        for run in running {
            let host = owners[run.job]
            if isOff {
                cut += 1
                planners[run.job].ended(
                    &jobs[run.job],
                    RunEnd(.interrupted, .stopped, started: run.clockStarted),
                    now: clock
                )
            } else if run.end <= now {
                let due = jobs[run.job].due ?? 0
                planners[run.job].ended(&jobs[run.job], run.outcome, now: clock)
                switch run.outcome.state {
                case .done:
                    keep(
                        host,
                        Capture(kind: jobs[run.job].kind, due: due, started: run.started),
                        run.clockStarted
                    )
                case .failed: failed[host][due, default: 0] += 1
                default: cut += 1
                }
            }
        }
        running.removeAll { isOff || $0.end <= now }
    }

    private func keep(_ host: Int, _ capture: Capture, _ clock: Int64) {
        captures[host].append(capture)
        good[host][capture.kind] = clock
        guard capture.kind == .full, let retention = hosts[host].policy.retention[.full] else { return }
        kept[host].append(clock)
        let zone = hosts[host].policy.schedule.zone
        let reasons = retention.reasons(kept[host].map { zoned($0, zone) }, now: clock)
        kept[host] = zip(kept[host], reasons).filter { !$1.isEmpty }.map(\.0)
    }
}

/// An instant as a snapshot of a host in `zone` has it.
func zoned(_ instant: Int64, _ zone: TimeZone) -> ZonedTime {
    var time = ZonedTime(nanoseconds: instant)
    time.offsetMinutes = Int16(zone.offset(at: instant / second) / 60)
    return time
}
