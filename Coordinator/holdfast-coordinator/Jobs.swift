import Arguments
import Catalogue
import Fleet
import JSON
import Posix
import Scheduling

/// `jobs [HOST]`: what is due when, how it went last, and what it waits for.
func jobs(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let name = arguments.argument()
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        try catalogue.endAbandonedRuns()
        let hosts = try name.map { [try catalogue.host(named: $0)] } ?? catalogue.hosts()
        let all = Dictionary(grouping: try catalogue.jobs(), by: \.host)
        let lines = try hosts.flatMap { host in
            try (all[host.id] ?? []).sorted { $0.kind.place < $1.kind.place }.map { job in
                JobLine(
                    job: job,
                    host: host.name,
                    offset: JobTiming(job.kind, host: host.name, fleet.policy(of: host.name))?.offset ?? 0,
                    run: try job.run.flatMap { try catalogue.run($0) },
                    last: try job.lastRun.flatMap { try catalogue.run($0) }
                )
            }
        }
        let isServed = try catalogue.isServed()
        if settings.json {
            printJSON(["serving": JSON(isServed), "jobs": .array(lines.map(\.json))])
            return .done
        }
        var table = Table([
            ("HOST", .left), ("JOB", .left), ("SCHEDULE", .left), ("NEXT", .left), ("LAST", .left),
        ])
        for line in lines { table.row(line.cells) }
        put(lines.isEmpty ? "nothing is scheduled yet\n" : table.text)
        for line in lines { if let remark = line.remark { put("\(remark)\n") } }
        if !isServed {
            put("the service is not running, so nothing begins: systemctl start holdfast-coordinator\n")
        }
        return .done
    }
}

/// One job with its runs.
private struct JobLine {
    let job: JobRow
    let host: String
    /// The host's share of the spread.
    let offset: Int64
    /// The one that waits or is under way.
    let run: RunRow?
    let last: RunRow?

    var next: Int64? { job.next.map { $0 + offset } }

    var cells: [String] {
        var when = next.map { Time.local($0) } ?? (job.kind == .forget ? "with the next capture" : "never")
        if let run, run.state == .running { when = "now, since \(ago(run.started ?? run.requested))" }
        if job.due != nil, run?.state != .running { when = "due since \(ago((job.due ?? 0) + offset))" }
        let how = last.map { "\($0.state.rawValue) \($0.ended.map(ago) ?? "")" } ?? "–"
        return [host, job.kind.rawValue, job.schedule.isEmpty ? "after captures" : job.schedule, when, how]
    }

    /// A line of its own, where there is more to say.
    var remark: String? {
        var parts: [String] = []
        if let waits = job.waits { parts.append(waits) }
        if run?.state == .queued { parts.append("run \(short(run?.id)) waits to be taken up") }
        if job.attempts > 0 {
            parts.append("\(job.attempts) \(job.attempts == 1 ? "attempt" : "attempts") failed")
            if let end = job.windowEnd { parts.append("tried until \(Time.local(end))") }
        }
        if job.missed > 0 { parts.append("\(job.missed) in a row came to nothing") }
        if let note = job.note { parts.append(note) }
        return parts.isEmpty ? nil : "\(host) \(job.kind.rawValue): \(parts.joined(separator: "; "))"
    }

    var json: JSON {
        JSON([
            ("host", JSON(host)), ("kind", JSON(job.kind.rawValue)), ("schedule", JSON(job.schedule)),
            ("next", instant(next)), ("due", instant(job.due)),
            ("begins", instant(job.due.map { $0 + offset })), ("attempts", JSON(Int64(job.attempts))),
            ("retry_at", instant(job.retryAt)), ("window_end", instant(job.windowEnd)),
            ("missed", JSON(Int64(job.missed))), ("waits", JSON(job.waits)), ("note", JSON(job.note)),
            ("run", JSON(job.run)), ("run_state", JSON(run?.state.rawValue)), ("last_run", JSON(job.lastRun)),
            ("last_state", JSON(last?.state.rawValue)), ("last_ended", instant(last?.ended)),
            ("last_error", JSON(last?.error)),
        ])
    }
}

extension RunKind {
    /// In which order a host's jobs are shown.
    fileprivate var place: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// The first digits of a run's id, by which it is called.
func short(_ run: String?) -> String { run.map { String($0.prefix(8)) } ?? "" }
