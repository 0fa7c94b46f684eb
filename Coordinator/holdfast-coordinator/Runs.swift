import Arguments
import Catalogue
import Fleet
import JSON
import Posix
import Scheduling

/// `runs [HOST] [--limit N]`: the newest runs first.
func runs(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let text = try arguments.option("--limit")
    let name = arguments.argument()
    try arguments.finish()
    var limit = 20
    if let text {
        guard let number = Int(text), (1...100_000).contains(number) else {
            throw UsageError.invalid(what: "--limit", value: text, reason: "give a number from 1 to 100000")
        }
        limit = number
    }
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        try catalogue.endAbandonedRuns()
        let runs = try catalogue.runs(host: name.map { try catalogue.host(named: $0) }, limit: limit)
        if settings.json {
            printJSON(["runs": .array(runs.map { runJSON($0) })])
            return .done
        }
        var table = Table([
            ("RUN", .left), ("HOST", .left), ("KIND", .left), ("STATE", .left), ("WHEN", .left),
            ("TOOK", .right),
            ("SENT", .right), ("ADDED", .right), ("BY", .left),
        ])
        for run in runs { table.row(cells(run)) }
        put(runs.isEmpty ? "no runs yet\n" : table.text)
        return .done
    }
}

private func cells(_ run: RunRow) -> [String] {
    var state = run.state.rawValue
    if run.state == .running, let fraction = run.figures.fraction { state += " \(Int(fraction * 100)) %" }
    let took = run.started.map { Human.duration(nanoseconds: (run.ended ?? Time.now()) - $0) } ?? "–"
    return [
        short(run.id), run.hostName, run.kind.rawValue, state, ago(run.started ?? run.requested), took,
        Human.bytes(run.figures.bytesSent), Human.bytes(run.figures.bytesStored),
        run.isScheduled ? "schedule" : "hand",
    ]
}

/// `run show ID`: everything that is known of one run.
func runShow(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let text = try arguments.required("ID")
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        try catalogue.endAbandonedRuns()
        let run = try catalogue.chooseRun(text)
        let problems = try catalogue.problems(run: run.id)
        let log = try catalogue.log(of: run.id)
        if settings.json {
            let lines = log.map { JSON([("time", instant($0.time)), ("line", JSON($0.text))]) }
            printJSON(["run": runJSON(run, problems), "log": .array(lines)])
            return .done
        }
        let figures = run.figures
        func fact(_ name: String, _ value: String?) {
            guard let value else { return }
            put("\(name)\(String(repeating: " ", count: max(1, 14 - name.count)))\(value)\n")
        }
        fact("run", run.id)
        fact("host", run.hostName)
        fact("kind", run.kind.words)
        fact("state", run.state.rawValue + (run.phase.map { run.state == .running ? ", \($0)" : "" } ?? ""))
        fact("asked for by", run.isScheduled ? "the schedule" : "hand")
        fact("requested", "\(ago(run.requested)), \(Time.local(run.requested))")
        fact("started", run.started.map { "\(ago($0)), \(Time.local($0))" })
        fact("ended", run.ended.map { "\(ago($0)), \(Time.local($0))" })
        if let started = run.started {
            fact("took", Human.duration(nanoseconds: (run.ended ?? Time.now()) - started))
        }
        fact("cancel asked", run.cancelRequested.map { "\(ago($0)), \(Time.local($0))" })
        if run.kind.capture != nil, run.started != nil {
            fact("looked at", "\(Human.count(figures.filesSeen)) files, \(Human.bytes(figures.bytesSeen))")
            fact("read", "\(Human.count(figures.filesRead)) files")
            fact(
                "sent",
                "\(Human.count(figures.filesSent)) files, \(Human.bytes(figures.bytesSent)) with the dump"
            )
            fact("stored", Human.bytes(figures.bytesStored))
        }
        fact("snapshot", run.snapshot)
        fact("failure", run.failure?.rawValue)
        fact("error", run.error)
        if figures.problems > 0 {
            put("\(Human.count(figures.problems)) entries were not as they should be:\n")
        }
        for problem in problems { put("  \(escaped(problem.path)): \(problem.message)\n") }
        if !log.isEmpty { put("log\n") }
        for line in log { put("  \(Time.local(line.time))  \(line.text)\n") }
        return .done
    }
}

/// `cancel RUN|HOST`: one run, or all that wait or are under way on a host.
func cancel(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let text = try arguments.required("RUN|HOST")
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        try catalogue.endAbandonedRuns()
        var meant: [RunRow]
        if let host = try catalogue.hosts().first(where: { $0.name == text }) {
            meant = try catalogue.openRuns().filter { $0.host == host.id }
            guard !meant.isEmpty else {
                throw CommandFailure(.failed, "nothing waits or is under way on \(text)")
            }
        } else {
            meant = [try catalogue.chooseRun(text)]
            if let run = meant.first, run.state.isOver {
                throw CommandFailure(
                    .failed,
                    "run \(short(run.id)) of \(run.hostName) is over already: \(run.state.rawValue) "
                        + (run.ended.map(ago) ?? "")
                )
            }
        }
        meant = try meant.map { run in
            // One that is taken up at this moment is under way then.
            if try !catalogue.cancelQueuedRun(run.id) { try catalogue.requestCancel(run: run.id) }
            return try catalogue.run(run.id) ?? run
        }
        if settings.json {
            printJSON(["runs": .array(meant.map { runJSON($0) })])
            return .done
        }
        for run in meant {
            let fate =
                switch run.state {
                case .cancelled: "is cancelled"
                case .running: "was asked to end, and keeps what it has so far: run show \(short(run.id))"
                default: "is over: \(run.state.rawValue)"
                }
            put("the \(run.kind.words) of \(run.hostName), run \(short(run.id)), \(fate)\n")
        }
        return .done
    }
}

extension Catalogue {
    /// The run that `text` begins the id of.
    fileprivate func chooseRun(_ text: String) throws -> RunRow {
        let found = try runs(beginningWith: text)
        guard let only = found.first else {
            throw CommandFailure(
                .failed,
                "there is no run \(text): holdfast-coordinator runs lists the newest, and each may be called by the "
                    + "first digits of its id"
            )
        }
        guard found.count == 1 else {
            throw CommandFailure(.failed, "\(text) begins the ids of several runs: give more digits")
        }
        return only
    }
}
