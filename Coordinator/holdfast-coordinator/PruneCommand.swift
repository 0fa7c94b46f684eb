import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Repository
import Sessions

/// `prune HOST [--dry-run]`: takes out of the repository what no snapshot needs, and deletes what an earlier run took out.
/// With `--dry-run` it changes nothing, and works beside a backup.
func prune(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let isDry = arguments.flag("--dry-run")
    let name = try arguments.required("HOST")
    try arguments.finish()
    let fleet = try settings.fleet()
    let display = PruneDisplay(name)
    if isDry {
        return try fleet.reading(name) { catalogue, host, repository in
            let held = try catalogue.freezingFindings(of: host).map(\.message)
            let interrupt = try InterruptFlag()
            let prune = Prune(
                repository,
                try repository.pruneTerms(of: host, fleet),
                progress: { step in
                    if interrupt.isSet {
                        throw CommandFailure(.interrupted, "interrupted; nothing was changed")
                    }
                    display.show(step)
                },
                // Nothing is dropped by a plan.
                drop: { _ in }
            )
            let report = try prune.plan()
            display.clear()
            if settings.json {
                printJSON(json(name, report, isDry: true, held: held))
            } else {
                show(name, report, isDry: true)
                for message in held { put("nothing goes while this is open: \(message)\n") }
            }
            return .done
        }
    }
    return try fleet.withServer { server, catalogue in
        let host = try catalogue.host(named: name)
        let interrupt = try InterruptFlag()
        let result = try PruneJob(host, fleet: fleet, server: server).perform(
            stop: { interrupt.isSet },
            progress: { display.show($0) }
        )
        display.clear()
        if settings.json {
            printJSON(json(name, result.report, isDry: false, held: result.held.map { [$0] } ?? []))
        } else {
            show(name, result.report, isDry: false)
        }
        if let held = result.held { put("holdfast-coordinator: \(held)\n", to: STDERR_FILENO) }
        if result.isInterrupted {
            put(
                "holdfast-coordinator: interrupted; everything is in order, and the next prune goes on from here\n",
                to: STDERR_FILENO
            )
            return .interrupted
        }
        return result.held == nil ? .done : .incomplete
    }
}

private func show(_ name: String, _ report: PruneReport, isDry: Bool) {
    let would = isDry ? "would be " : ""
    func packs(_ count: Int) -> String { "\(Human.count(count)) pack\(count == 1 ? "" : "s")" }
    var text =
        "\(name): \(Human.bytes(report.usedBytes)) are needed by \(Human.count(report.snapshots)) snapshots"
        + (report.forgotten > 0 ? " and \(Human.count(report.forgotten)) forgotten ones" : "") + "\n"
    if !report.dropped.isEmpty {
        let ids = report.dropped.prefix(10).map(\.short).joined(separator: ", ")
        text +=
            "the grace of \(Human.count(report.dropped.count)) forgotten snapshots is over, they \(isDry ? "would go" : "are gone"): "
            + ids + (report.dropped.count > 10 ? " and more" : "") + "\n"
    }
    if report.takenBack > 0 {
        text +=
            "\(packs(report.takenBack)) \(would)taken back into the index, because a snapshot needs them\n"
    }
    if report.lostOfForgotten > 0 {
        text +=
            "forgotten snapshots lack \(Human.count(report.lostOfForgotten)) blobs, which a stock client has pruned: they "
            + "cannot be recalled whole\n"
    }
    if report.adoptedPacks > 0 {
        text += "\(packs(report.adoptedPacks)) of a run that was cut off were listed\n"
    }
    if report.orphanPacks > 0 {
        text += "\(packs(report.orphanPacks)) of a run that was cut off are not counted here\n"
    }
    for damage in report.aside { text += "pack \(damage.pack) was set aside: \(damage.reason)\n" }
    if report.missingPacks > 0 {
        text +=
            "\(packs(report.missingPacks)) that are not there, and that nothing needs, \(would)no longer listed\n"
    }
    text +=
        "\(isDry ? "would free" : "freed") now: \(Human.bytes(report.deletedBytes)) in \(packs(report.deletedPacks))\n"
    let out = report.unusedPacks + report.rewrittenPacks
    if out > 0 {
        text +=
            "\(would)taken out of the index: \(packs(report.unusedPacks)) that nothing needs "
            + "(\(Human.bytes(report.unusedBytes))), \(packs(report.rewrittenPacks)) that were partly needed or small "
            + "(\(Human.bytes(report.rewrittenBytes)), of which \(Human.bytes(report.writtenBytes)) \(would)written anew)\n"
    }
    if let next = report.nextDeletion {
        text +=
            "to be freed later: \(Human.bytes(report.waitingBytes)) in \(packs(report.waitingPacks)), by a prune after "
            + "\(Time.local(next))\n"
    }
    text += "not needed and left: \(Human.bytes(report.unusedLeft))\n"
    if report.withoutRoom > 0 || report.ranOutOfSpace {
        text +=
            "too little space is free to write packs anew"
            + (report.withoutRoom > 0 ? ", which would free \(Human.bytes(report.withoutRoom)) more" : "")
            + "\n"
    }
    put(text)
}

private func json(_ name: String, _ report: PruneReport, isDry: Bool, held: [String]) -> JSON {
    JSON([
        ("host", JSON(name)), ("dry_run", JSON(isDry)), ("held", JSON(held)),
        ("snapshots", JSON(report.snapshots)), ("forgotten", JSON(report.forgotten)),
        ("dropped", JSON(report.dropped.map(\.hex))),
        ("freed_packs", JSON(report.deletedPacks)), ("freed_bytes", JSON(report.deletedBytes)),
        ("unused_packs", JSON(report.unusedPacks)), ("unused_bytes", JSON(report.unusedBytes)),
        ("rewritten_packs", JSON(report.rewrittenPacks)), ("rewritten_bytes", JSON(report.rewrittenBytes)),
        ("written_bytes", JSON(report.writtenBytes)),
        ("later_packs", JSON(report.waitingPacks)), ("later_bytes", JSON(report.waitingBytes)),
        ("later_after", instant(report.nextDeletion)),
        ("needed_bytes", JSON(report.usedBytes)), ("unneeded_bytes_left", JSON(report.unusedLeft)),
        ("bytes_without_room", JSON(report.withoutRoom)), ("ran_out_of_space", JSON(report.ranOutOfSpace)),
        ("missing_packs", JSON(report.missingPacks)), ("taken_back_packs", JSON(report.takenBack)),
        ("blobs_lost_of_forgotten", JSON(report.lostOfForgotten)),
        ("adopted_packs", JSON(report.adoptedPacks)), ("unlisted_packs", JSON(report.orphanPacks)),
        ("aside", JSON(report.aside.map(\.pack.hex))),
    ])
}

/// Says how far the work is once it takes more than two seconds.
private final class PruneDisplay {
    private let host: String
    private let start = Time.monotonic()
    private var line = LiveLine()
    private var meter = RateMeter()

    init(_ host: String) { self.host = host }

    func show(_ step: PruneProgress) {
        guard Time.monotonic() - start > 2_000_000_000 else { return }
        if step.phase == .rewriting { meter.note(Int64(clamping: step.done)) }
        line.show(text(step))
    }

    func clear() { line.clear() }

    private func text(_ step: PruneProgress) -> String {
        switch step.phase {
        case .reading: return "\(host): \(Human.count(step.done)) folders read"
        case .deleting:
            return "\(host): \(Human.count(step.done)) of \(Human.count(step.total)) packs deleted"
        case .index:
            return "\(host): \(Human.count(step.done)) of \(Human.count(step.total)) index files replaced"
        case .rewriting:
            let rate = meter.perSecond
            let left = rate > 0 ? Double(step.total - min(step.done, step.total)) / Double(rate) : nil
            return "\(host): \(Human.bytes(step.done)) of \(Human.bytes(step.total)) written anew  "
                + "\(Human.bytes(rate))/s"
                + (left.map { "  time left \(Human.duration(nanoseconds: Int64($0 * 1e9)))" } ?? "")
        }
    }
}
