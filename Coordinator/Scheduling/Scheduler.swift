package import Catalogue
package import Fleet
import Posix

/// The schedule's work on the catalogue: keeps a job for each kind of work that the inventory wants of a host, queues runs when
/// their time and their turn have come, and sees to it that what fails is tried again.
///
/// Exactly one coordinator does this at a time, on the connection that holds the duty's lock, so whoever lost the lock
/// can't write any more. A run and the job that it belongs to are written in one transaction: wherever a coordinator dies,
/// the next one finds either both or none. A run is queued only when an agent is there to take it up; one that was not taken
/// up because the agent went away at that moment is taken back.
package final class Scheduler {
    /// What the coordinator does alone: a run that waits for its command to be started.
    package struct Errand: Sendable, Equatable {
        /// UUID.
        package let run: String
        package let kind: RunKind
        package let hostName: String
        /// Since when it waits.
        package let requested: Int64
    }

    private let catalogue: Catalogue
    /// What was planned for a host last, to see what changed of the inventory.
    private var known: [Int32: (policy: HostPolicy, timings: [JobTiming])] = [:]

    package init(_ catalogue: Catalogue) { self.catalogue = catalogue }

    /// Does what is due.
    ///
    /// - Returns: The errands whose commands may have to be started.
    package func pass(_ fleet: FleetConfiguration, now: Int64) throws -> [Errand] {
        try catalogue.endAbandonedRuns()
        let open = try catalogue.openRuns()
        try wake(open)
        var jobs = try catalogue.jobs()
        let hosts = try catalogue.hosts()
        let timings = hosts.reduce(into: [Int32: [JobTiming]]()) { $0[$1.id] = timing(of: $1, fleet) }
        // Without a schedule there is nothing more to ask.
        guard !jobs.isEmpty || timings.values.contains(where: { !$0.isEmpty }) else { return [] }
        let good = try catalogue.goodRuns(before: now)
        try takeUp(&jobs, hosts, timings, good, now)
        try advance(&jobs, timings, good, open, now)
        try giveTurns(&jobs, hosts, timings, open, fleet, now)
        return open.filter { $0.state == .queued && $0.kind.capture == nil && $0.isScheduled }.map {
            Errand(run: $0.id, kind: $0.kind, hostName: $0.hostName, requested: $0.requested)
        }
    }

    /// Wakes the agents whose runs could not begin while somebody else had the host, which is free now.
    private func wake(_ open: [RunRow]) throws {
        let waiting = Set(open.filter { $0.state == .queued && $0.kind.capture != nil }.map(\.host))
        guard !waiting.isEmpty else { return }
        let taken = try Set(catalogue.holders().map(\.host)).union(
            open.filter { $0.state == .running }.map(\.host)
        )
        for host in waiting.subtracting(taken) { try catalogue.wakeAgent(host: host) }
    }

    private func timing(of host: HostRow, _ fleet: FleetConfiguration) -> [JobTiming] {
        let policy = fleet.policy(of: host.name)
        if let known = known[host.id], known.policy == policy { return known.timings }
        let timings = RunKind.allCases.compactMap { JobTiming($0, host: host.name, policy) }
        known[host.id] = (policy, timings)
        return timings
    }

    // MARK: - The inventory

    /// Makes the jobs those that the inventory wants.
    private func takeUp(
        _ jobs: inout [JobRow],
        _ hosts: [HostRow],
        _ timings: [Int32: [JobTiming]],
        _ good: [Int32: [RunKind: GoodRun]],
        _ now: Int64
    ) throws {
        var kept: [JobRow] = []
        var places: [Int32: [RunKind: Int]] = [:]
        for job in jobs {
            if timings[job.host]?.contains(where: { $0.kind == job.kind }) == true {
                places[job.host, default: [:]][job.kind] = kept.count
                kept.append(job)
            } else if let job = try catalogue.withdrawRun(of: job), job.run == nil {
                try catalogue.removeJob(host: job.host, kind: job.kind)
            } else if try job.run.flatMap({ try catalogue.run($0) })?.state.isOver != false {
                try catalogue.removeJob(host: job.host, kind: job.kind)
            }
        }
        for host in hosts {
            for timing in timings[host.id] ?? [] {
                let planner = Planner(timing)
                if let index = places[host.id]?[timing.kind] {
                    var job = kept[index]
                    planner.reschedule(&job, now: now)
                    try write(job, over: &kept[index])
                } else {
                    let captured = timing.captured(good[host.id], timings[host.id])
                    let job = planner.job(host: host.id, now: now, captured: captured)
                    try catalogue.put(job)
                    kept.append(job)
                }
            }
        }
        jobs = kept
    }

    private func write(_ job: JobRow, over old: inout JobRow) throws {
        guard job != old else { return }
        try catalogue.put(job)
        old = job
    }

    // MARK: - Time goes on

    /// Takes up how runs ended, and what became due.
    private func advance(
        _ jobs: inout [JobRow],
        _ timings: [Int32: [JobTiming]],
        _ good: [Int32: [RunKind: GoodRun]],
        _ open: [RunRow],
        _ now: Int64
    ) throws {
        for index in jobs.indices {
            var job = jobs[index]
            guard let all = timings[job.host], let timing = all.first(where: { $0.kind == job.kind })
            else { continue }
            let planner = Planner(timing)
            if let id = job.run, !open.contains(where: { $0.id == id }) {
                // A row that is gone lets the occurrence wait again.
                let run = try catalogue.run(id)
                if let run { planner.ended(&job, RunEnd(run), now: now) } else { job.run = nil }
            }
            let runs = good[job.host]
            var begun = runs?[job.kind]?.started
            if job.kind == .database, let full = runs?[.full]?.started { begun = max(begun ?? full, full) }
            planner.advance(&job, good: begun, captured: timing.captured(runs, all), now: now)
            try write(job, over: &jobs[index])
        }
    }

    // MARK: - Turns

    private func giveTurns(
        _ jobs: inout [JobRow],
        _ hosts: [HostRow],
        _ timings: [Int32: [JobTiming]],
        _ open: [RunRow],
        _ fleet: FleetConfiguration,
        _ now: Int64
    ) throws {
        let connected = try catalogue.waitingAgents()
        try withdraw(&jobs, open, connected, now)
        let waiting = jobs.indices.filter { jobs[$0].due != nil && jobs[$0].run == nil }
        guard !waiting.isEmpty else { return }
        let joined = try catalogue.joinedHosts()
        let holders = try catalogue.holders()
        let named = Dictionary(hosts.map { ($0.id, $0) }) { first, _ in first }
        var indices: [Int] = []
        var candidates: [Candidate] = []
        for index in waiting {
            let job = jobs[index]
            guard let host = named[job.host], let due = job.due,
                let timing = timings[job.host]?.first(where: { $0.kind == job.kind })
            else { continue }
            indices.append(index)
            candidates.append(
                Candidate(
                    job,
                    hostName: host.name,
                    priority: known[job.host]?.policy.priority ?? 0,
                    since: due + timing.offset,
                    isConnected: connected.contains(job.host),
                    busy: busy(job, open, holders, connected),
                    absence: joined.contains(job.host)
                        ? "waits for the host's agent, \(host.lastContact.map { "which was here last at \(Time.local($0))" } ?? "which was never here")"
                        : "waits for the host to join: host token \(host.name)"
                )
            )
        }
        let own = Set(jobs.compactMap(\.run))
        var turns = Turns(
            capturesAtOnce: fleet.capturesAtOnce,
            capturing: open.count { $0.kind.capture != nil && ($0.state == .running || own.contains($0.id)) },
            isQuiet: !open.contains { $0.kind.capture == nil && own.contains($0.id) }
        )
        for (index, turn) in zip(indices, turns.give(candidates, now: now)) {
            switch turn {
            case .begin: jobs[index] = try catalogue.queueRun(of: jobs[index])
            case .wait(let why):
                var job = jobs[index]
                job.waits = why
                try write(job, over: &jobs[index])
            }
        }
    }

    /// Takes back the runs that nobody took up: the agent went away just then, and its place is another's.
    private func withdraw(_ jobs: inout [JobRow], _ open: [RunRow], _ connected: Set<Int32>, _ now: Int64)
        throws
    {
        for run in open where run.state == .queued && run.kind.capture != nil && run.isScheduled {
            guard !connected.contains(run.host), let index = jobs.firstIndex(where: { $0.run == run.id })
            else { continue }
            if let job = try catalogue.withdrawRun(of: jobs[index]) { jobs[index] = job }
        }
    }

    /// Why a host can't have this work now; nil when it can.
    private func busy(
        _ job: JobRow,
        _ open: [RunRow],
        _ holders: [LockHolder],
        _ connected: Set<Int32>
    ) -> String? {
        let hindrance = open.first { run in
            guard run.host == job.host else { return false }
            // One of the same kind that a person queued is taken; one whose agent is away hinders nobody.
            return run.state == .running
                || run.kind != job.kind && (run.kind.capture == nil || connected.contains(run.host))
        }
        if let run = hindrance {
            return run.state == .queued
                ? "a \(run.kind.words) of the host waits to begin"
                : "a \(run.kind.words) of the host is under way"
        }
        let hinders =
            job.kind.capture != nil
            ? holders.first {
                $0.host == job.host && ($0.locks.contains("run") || $0.locks.contains("repository!"))
            }
            : holders.first { $0.host == job.host }
        return hinders.map { "the host is busy: \($0)" }
    }
}

extension JobTiming {
    /// When the newest good capture ended that `forget` follows: full ones, where the host has such a schedule.
    fileprivate func captured(_ good: [RunKind: GoodRun]?, _ all: [JobTiming]?) -> Int64? {
        let hasFull = all?.contains { $0.kind == .full } ?? false
        let hasDatabase = all?.contains { $0.kind == .database } ?? false
        guard !hasFull && hasDatabase else { return good?[.full]?.ended }
        return [good?[.full]?.ended, good?[.database]?.ended].compactMap { $0 }.max()
    }
}
