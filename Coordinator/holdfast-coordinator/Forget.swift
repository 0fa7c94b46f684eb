import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Repository
import Retention
import Sessions
import Wire

/// `forget HOST [--dry-run]`: lets go of the snapshots that the host's retention does not keep: they can be recalled
/// until their grace is over. With `--dry-run` it changes nothing, takes no lock, and works beside a backup.
func forget(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let isDry = arguments.flag("--dry-run")
    let name = try arguments.required("HOST")
    try arguments.finish()
    let fleet = try settings.fleet()
    let policy = fleet.policy(of: name)
    return try fleet.withServer { server, catalogue in
        let host = try catalogue.host(named: name)
        if isDry {
            let outlook = try RetentionOutlook(
                host,
                policy,
                catalogue,
                fleet.openRepository(of: name),
                now: Time.now()
            )
            if settings.json {
                printJSON(json(host, outlook, policy, nil))
            } else {
                show(host, outlook)
                let (going, all) = (outlook.plan.going.count, outlook.plan.decisions.count)
                put("dry run: \(going) of \(snapshots(all)) would go\n")
                if let held = outlook.heldBack { put("\(held)\n") }
            }
            return .done
        }
        let interrupt = try InterruptFlag()
        let start = Time.monotonic()
        var line = LiveLine()
        let result = try ForgetJob(host, fleet: fleet, server: server).perform(
            stop: { interrupt.isSet },
            progress: { done, all in
                guard Time.monotonic() - start > 2_000_000_000 else { return }
                line.show("\(name): \(done) of \(all) forgotten")
            }
        )
        line.clear()
        if settings.json {
            printJSON(json(host, result.outlook, policy, result))
        } else {
            show(host, result.outlook)
            tell(result, policy)
        }
        if result.isInterrupted { return .interrupted }
        return result.held == nil ? .done : .incomplete
    }
}

/// `1 snapshot`, `3 snapshots`.
private func snapshots(_ count: Int) -> String { "\(count) snapshot\(count == 1 ? "" : "s")" }

private func tell(_ result: ForgetJob.Result, _ policy: HostPolicy) {
    let count = result.forgotten.count
    if count == 0 {
        put("nothing was forgotten\n")
    } else {
        let end = Time.local(Time.adding(policy.grace, to: result.time))
        put(
            "\(snapshots(count)) forgotten: `holdfast-coordinator snapshot recall ID` brings "
                + "\(count == 1 ? "it" : "one") back until \(end), and until something is pruned after that\n"
        )
    }
    if result.isInterrupted { put("interrupted: the rest stays until the next time\n", to: STDERR_FILENO) }
    if let held = result.held { put("holdfast-coordinator: \(held)\n", to: STDERR_FILENO) }
}

private func show(_ host: HostRow, _ outlook: RetentionOutlook) {
    for kind in CaptureKind.allCases {
        let decisions = outlook.plan.decisions.filter { $0.candidate.kind == kind }
        let kept = outlook.policies[kind].map(\.description) ?? "everything"
        put("\(host.name), \(kind.name): keeps \(kept)\n")
        guard !decisions.isEmpty else {
            put("no snapshots\n\n")
            continue
        }
        var table = Table([("ID", .left), ("AGE", .right), ("DATA OF", .left), ("", .left), ("WHY", .left)])
        for decision in decisions {
            let candidate = decision.candidate
            let time = candidate.time.nanoseconds
            let reasons = decision.reasons.map(\.description).joined(separator: ", ")
            table.row([
                candidate.id.short, Human.duration(nanoseconds: Time.now() - time), Time.local(time),
                decision.stays ? "stays" : "goes",
                (candidate.isIncomplete ? "incomplete; " : "") + (decision.stays ? reasons : "–"),
            ])
        }
        put(table.text + "\n")
    }
    for finding in outlook.freezes {
        put("nothing goes while this is open: \(finding.message)\n")
    }
    if outlook.foreign > 0 {
        put("\(snapshots(outlook.foreign)) of a stock restic: left alone\n")
    }
}

private func json(
    _ host: HostRow,
    _ outlook: RetentionOutlook,
    _ policy: HostPolicy,
    _ result: ForgetJob.Result?
) -> JSON {
    let forgotten = Set(result?.forgotten ?? [])
    let decisions = outlook.plan.decisions.map { decision in
        JSON([
            ("id", JSON(decision.candidate.id.hex)), ("kind", JSON(decision.candidate.kind.name)),
            ("time", instant(decision.candidate.time.nanoseconds)),
            ("incomplete", JSON(decision.candidate.isIncomplete)), ("stays", JSON(decision.stays)),
            ("reasons", JSON(decision.reasons.map(\.description))),
            ("forgotten", JSON(forgotten.contains(decision.candidate.id))),
        ])
    }
    return JSON([
        ("host", JSON(host.name)), ("dry_run", JSON(result == nil)),
        (
            "policy",
            JSON(CaptureKind.allCases.map { ($0.name, JSON(outlook.policies[$0]?.description)) })
        ),
        ("snapshots", .array(decisions)), ("foreign_snapshots", JSON(outlook.foreign)),
        ("held_back", JSON(result == nil ? outlook.heldBack : result?.held)),
        ("findings", JSON(outlook.freezes.map(\.message))),
        ("recall_until", instant(result.map { Time.adding(policy.grace, to: $0.time) })),
    ])
}
