import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Postgres

/// `backup HOST [--database-only]`: queues a run, wakes the service, and watches the run to its end. Interrupted, the run goes on
/// unless no agent has taken it yet.
func backup(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let kind: RunKind = arguments.flag("--database-only") ? .database : .full
    let name = try arguments.required("HOST")
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withServer { server, catalogue in
        let host = try catalogue.host(named: name)
        if let holder = try catalogue.holders(host: host.id).first(where: {
            $0.kind == "capture" && $0.run != nil
        }) {
            throw CommandFailure(.locked, "a backup of \(name) is running already: \(holder)")
        }
        // A service whose catalogue was restarted is back in a moment.
        let patience = Time.monotonic() + 3_000_000_000
        while try !catalogue.isServed(), Time.monotonic() < patience { Time.sleep(seconds: 0.1) }
        guard try catalogue.isServed() else {
            throw CommandFailure(
                .unreachable,
                "the service is not running, so no agent can be reached: start it with "
                    + "`systemctl start holdfast-coordinator` or `holdfast-coordinator serve`"
            )
        }
        guard try catalogue.keys(of: host).contains(where: { $0.revoked == nil }) else {
            throw CommandFailure(
                .unreachable,
                "\(name) has not joined yet: `holdfast-coordinator host token \(name)` gives the line to type there"
            )
        }
        let run = try catalogue.queueRun(host: host, kind: kind)
        return try watch(run, host, server, catalogue, settings)
    }
}

private func watch(
    _ queued: RunRow,
    _ host: HostRow,
    _ server: CatalogueServer,
    _ first: Catalogue,
    _ settings: Settings
) throws -> ExitCode {
    var catalogue = first
    let interrupted = try InterruptFlag()
    var line = LiveLine()
    var progress = RateMeter()
    let start = Time.monotonic()
    try catalogue.connection.listen(Catalogue.Channel.runs)
    var looked = start
    while true {
        // A session that was killed can't say that its run is over.
        if Time.monotonic() - looked > 2_000_000_000 {
            looked = Time.monotonic()
            _ = try? catalogue.endAbandonedRuns()
        }
        let found: RunRow?
        do { found = try catalogue.run(queued.id) } catch let error as PostgresError {
            // A catalogue that was restarted knows how the run went on.
            guard case .connectionLost = error else { throw error }
            catalogue = try server.open()
            try catalogue.connection.listen(Catalogue.Channel.runs)
            continue
        }
        guard let run = found else {
            throw CommandFailure(.failed, "the run \(queued.id) is gone from the catalogue")
        }
        if run.state.isOver {
            line.clear()
            return try report(run, catalogue, settings)
        }
        if interrupted.isSet {
            line.clear()
            let cancelled = try catalogue.cancelQueuedRun(run.id)
            let fate = cancelled ? "was cancelled" : "goes on: holdfast-coordinator status"
            put("the backup of \(host.name) \(fate)\n", to: STDERR_FILENO)
            return .interrupted
        }
        if run.state == .running {
            progress.note(run.figures.bytesSent)
            line.show(describe(run, progress))
        } else if Time.monotonic() - start > 2_000_000_000 {
            line.show("\(reason(host, catalogue)); Ctrl-C cancels")
        }
        // A connection that was lost shows at the next look.
        _ = try? catalogue.connection.notifications(timeout: 0.2)
    }
}

/// What a queued run waits for.
private func reason(_ host: HostRow, _ catalogue: Catalogue) -> String {
    if let holder = try? catalogue.holders(host: host.id).first(where: {
        $0.locks.contains("run") || $0.locks.contains("repository!")
    }) {
        return "waiting, because \(host.name) is busy: \(holder)"
    }
    if (try? catalogue.waitingAgents())?.contains(host.id) == true {
        return "waiting for \(host.name) to begin"
    }
    let contact = host.lastContact.map { "last contact \(ago($0))" } ?? "it was never in contact"
    return "waiting for the agent of \(host.name) (\(contact))"
}

/// `files  62 %  1.2 GB of 1.9 GB  98 MB/s  12,304 files  time left 7 s`.
private func describe(_ run: RunRow, _ meter: RateMeter) -> String {
    let figures = run.figures
    var parts = ["\(run.hostName): \(run.phase ?? "starting")"]
    if let fraction = figures.fraction { parts.append("\(Int(fraction * 100)) %") }
    parts.append("\(Human.count(figures.filesSeen)) files, \(Human.bytes(figures.bytesSeen)) looked at")
    parts.append("\(Human.bytes(figures.bytesSent)) sent, \(Human.bytes(meter.perSecond))/s")
    if let fraction = figures.fraction, fraction > 0.01, let started = run.started {
        let elapsed = Double(Time.now() - started)
        parts.append("time left \(Human.duration(nanoseconds: Int64(elapsed / fraction * (1 - fraction))))")
    }
    return parts.joined(separator: "  ")
}

private func report(_ run: RunRow, _ catalogue: Catalogue, _ settings: Settings) throws -> ExitCode {
    let problems = try catalogue.problems(run: run.id)
    if settings.json {
        printJSON(runJSON(run, problems))
    } else if let snapshot = run.snapshot, run.state == .done || run.state == .incomplete {
        let figures = run.figures
        let time = Human.duration(nanoseconds: (run.ended ?? 0) - (run.started ?? 0))
        let what =
            run.kind == .database
            ? "the database alone, \(Human.bytes(figures.bytesSent))"
            : "\(Human.count(figures.filesSeen)) files, \(Human.bytes(figures.bytesSeen)); "
                + "\(Human.count(figures.filesSent)) files sent, \(Human.bytes(figures.bytesSent)) with the dump"
        put(
            "\(run.hostName): snapshot \(snapshot.prefix(8)) in \(time): \(what); the repository grew by "
                + "\(Human.bytes(figures.bytesStored))\n"
        )
    }
    for problem in problems.prefix(20) {
        put("  \(escaped(problem.path)): \(problem.message)\n", to: STDERR_FILENO)
    }
    if run.figures.problems > 20 {
        put("  and \(run.figures.problems - 20) more entries; --json lists up to 1,000\n", to: STDERR_FILENO)
    }
    switch run.state {
    case .done: return .done
    case .incomplete: return .incomplete
    default: break
    }
    let reason = run.error ?? "it was \(run.state.rawValue)"
    put("holdfast-coordinator: no snapshot of \(run.hostName): \(reason)\n", to: STDERR_FILENO)
    return switch run.failure {
    case .space: .noSpace
    case .limit: .overLimit
    case .dump: .dumpFailed
    case .catalogue: .noCatalogue
    case .locked: .locked
    default: run.state == .cancelled ? .locked : .failed
    }
}

/// A run with its figures, for `--json`.
func runJSON(_ run: RunRow, _ problems: [RunProblem] = []) -> JSON {
    let figures = run.figures
    return JSON([
        ("run", JSON(run.id)), ("host", JSON(run.hostName)), ("kind", JSON(run.kind.rawValue)),
        ("state", JSON(run.state.rawValue)), ("scheduled", .bool(run.isScheduled)),
        ("phase", JSON(run.phase)), ("requested", instant(run.requested)), ("started", instant(run.started)),
        ("ended", instant(run.ended)), ("files_seen", JSON(figures.filesSeen)),
        ("bytes_seen", JSON(figures.bytesSeen)), ("files_read", JSON(figures.filesRead)),
        ("files_sent", JSON(figures.filesSent)), ("bytes_sent", JSON(figures.bytesSent)),
        ("bytes_stored", JSON(figures.bytesStored)), ("files_expected", JSON(figures.filesExpected)),
        ("bytes_expected", JSON(figures.bytesExpected)), ("problem_count", JSON(figures.problems)),
        (
            "problems",
            .array(problems.map { JSON([("path", JSON(escaped($0.path))), ("message", JSON($0.message))]) })
        ),
        ("error", JSON(run.error)), ("failure", JSON(run.failure?.rawValue)),
        ("snapshot", JSON(run.snapshot)),
    ])
}
