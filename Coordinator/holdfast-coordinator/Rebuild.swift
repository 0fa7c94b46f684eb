import Arguments
import CLinux
import Catalogue
import Configuration
import Fleet
import Glibc
import JSON
import Posix
import Repository
import SSH
import Sessions

/// `catalogue rebuild`: makes the catalogue's hosts, keys, snapshots, pins, proofs and epochs again from the
/// repositories and the password files. Done twice, it changes nothing the second time.
func catalogueRebuild(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withServer { server, catalogue in
        let rebuild = CatalogueRebuild(fleet, server, catalogue, askPassphrase: askPassphrase)
        defer { rebuild.release() }
        let display = LateDisplay()
        do {
            try rebuild.survey { host, step in display.show(host, step) }
        } catch let error as RebuildRefused {
            throw CommandFailure(.locked, "\(error)")
        }
        display.clear()
        let conflicts = try rebuild.conflicts()
        guard conflicts.isEmpty else {
            for line in conflicts.prefix(20) { put("  \(line)\n", to: STDERR_FILENO) }
            if conflicts.count > 20 { put("  and \(conflicts.count - 20) more\n", to: STDERR_FILENO) }
            throw CommandFailure(
                .failed,
                "the catalogue holds rows that the repositories do not give, so it is not lost and nothing was changed: "
                    + "look into the lines above, or make the catalogue empty first (for the private one: stop the "
                    + "service and move \(fleet.folder.catalogue) away)"
            )
        }
        let changes = try rebuild.apply()
        rebuild.release()
        if settings.json {
            printJSON(json(rebuild.hosts, changes))
        } else {
            show(rebuild.hosts, changes, fleet)
        }
        return exitCode(rebuild.hosts)
    }
}

/// Only what concerns all hosts alike is told by one number; a host that is not there at all makes it incomplete.
private func exitCode(_ hosts: [CatalogueRebuild.Host]) -> ExitCode {
    if hosts.contains(where: { $0.survey == nil || $0.failure != nil }) { return .incomplete }
    return hosts.contains { $0.survey?.damage.isEmpty == false } ? .damaged : .done
}

private let lost = [
    "runs with their figures and problems", "events", "join tokens", "revoked keys",
    "when each agent was here last",
]

/// One word for what became of a host.
private func state(_ host: CatalogueRebuild.Host) -> String {
    guard let survey = host.survey else { return "not read" }
    if !survey.damage.isEmpty { return "damaged in part" }
    return survey.record?.removed == nil ? "ok" : "removed"
}

private func show(_ hosts: [CatalogueRebuild.Host], _ changes: Int, _ fleet: FleetConfiguration) {
    guard !hosts.isEmpty else {
        put("no repositories in \(fleet.repositories): is the disk mounted?\n")
        return
    }
    var table = Table([
        ("HOST", .left), ("STATE", .left), ("SNAPSHOTS", .right), ("NEWEST", .left), ("PINS", .right),
        ("PROOFS", .right), ("KEYS", .right), ("EPOCH", .right),
    ])
    for host in hosts {
        guard let survey = host.survey else {
            table.row([host.name, state(host), "–", "–", "–", "–", "–", "–"])
            continue
        }
        table.row([
            host.name, state(host), Human.count(survey.present.count),
            survey.present.last.map { Time.local($0.time) } ?? "–", Human.count(survey.pins.count),
            Human.count(survey.proofs.count), Human.count(survey.keys.count), "\(survey.epoch)",
        ])
    }
    put(table.text)
    for host in hosts {
        if let failure = host.failure { put("\(host.name): \(failure)\n") }
        for line in host.survey?.damage ?? [] { put("\(host.name): \(line)\n") }
        for line in (host.survey?.remarks ?? []) + host.repaired { put("\(host.name): \(line)\n") }
        if let forgotten = host.survey?.forgotten, !forgotten.isEmpty {
            put("\(host.name): \(forgotten.count) forgotten snapshots that can be recalled\n")
        }
        if let foreign = host.survey?.foreign, foreign > 0 {
            put("\(host.name): \(foreign) snapshots of stock clients, which the catalogue does not list\n")
        }
    }
    if changes == 0 {
        put("the catalogue has all of this already; nothing was changed\n")
    } else {
        put(
            "made again: \(changes) rows. Lost, because only the catalogue knew it: \(lost.joined(separator: ", "))\n"
        )
    }
    let damaged = hosts.filter { $0.survey?.damage.isEmpty == false }
    if !damaged.isEmpty {
        put(
            "next: \(damaged.map { "holdfast-coordinator check \($0.name) --read-data" }.joined(separator: "; "))\n"
        )
    }
}

private func json(_ hosts: [CatalogueRebuild.Host], _ changes: Int) -> JSON {
    let described = hosts.map { host in
        let survey = host.survey
        return JSON([
            ("host", JSON(host.name)), ("state", JSON(state(host))),
            ("error", JSON(host.failure.map { "\($0)" })),
            ("added", instant(survey?.added)), ("removed", instant(survey?.record?.removed)),
            ("snapshots", JSON(survey?.present.map(\.id) ?? [])),
            ("forgotten_snapshots", JSON(survey?.forgotten.map(\.id) ?? [])),
            ("foreign_snapshots", JSON(survey?.foreign ?? 0)),
            ("pins", JSON(survey?.pins.count ?? 0)), ("proofs", JSON(survey?.proofs.count ?? 0)),
            ("keys", JSON(survey?.keys.map { $0.key.fingerprint.text } ?? [])),
            ("epoch", JSON(survey?.epoch)),
            ("damage", JSON(survey?.damage ?? [])),
            ("remarks", JSON((survey?.remarks ?? []) + host.repaired)),
        ])
    }
    return JSON([
        ("hosts", .array(described)), ("rows_made", JSON(changes)), ("lost", JSON(lost)),
    ])
}

/// The recovery passphrase from the terminal, which does not show it, or a line of standard input.
private func askPassphrase(_ host: String) throws -> String? {
    let isTerminal = isatty(STDIN_FILENO) == 1
    if isTerminal {
        put("the password file of \(host) is missing; the recovery passphrase: ", to: STDERR_FILENO)
    }
    var before = termios()
    tcgetattr(STDIN_FILENO, &before)
    if isTerminal {
        var hidden = before
        hidden.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden)
    }
    defer {
        if isTerminal {
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &before)
            put("\n", to: STDERR_FILENO)
        }
    }
    guard let line = readLine(strippingNewline: true) else { return nil }
    let words = line.split(whereSeparator: \.isWhitespace)
    return words.isEmpty ? nil : words.joined(separator: " ")
}

/// Says how far the work is once it takes more than two seconds.
private final class LateDisplay {
    private let start = Time.monotonic()
    private var line = LiveLine()

    func show(_ host: String, _ step: CheckProgress) {
        guard Time.monotonic() - start > 2_000_000_000 else { return }
        let what =
            switch step.phase {
            case .loading: "\(step.done) snapshots read"
            case .packs: "\(step.done) of \(step.total) packs looked for"
            case .trees, .needs, .data: "\(step.done) folders read"
            }
        line.show("\(host): \(what), \(step.findings) findings")
    }

    func clear() { line.clear() }
}
