import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Repository
import Sessions

/// `check HOST [--read-data]`: whether a repository holds what its snapshots need; with `--read-data` every byte of
/// it is decrypted and compared. The catalogue tells what the repository cannot know: snapshots that are gone. A check
/// that could not look at something does not pass.
func check(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let readData = arguments.flag("--read-data")
    let name = try arguments.required("HOST")
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.reading(name) { catalogue, host, repository in
        let display = ProgressDisplay()
        let agreement = try CatalogueAgreement(catalogue, host)
        var report = Check.run(repository, readData ? .data : .structure) { progress in
            if case .data = progress.phase {
                display.show(
                    "reading data",
                    done: progress.done,
                    of: progress.total,
                    "\(progress.findings) findings"
                )
            }
        }
        display.clear()
        let recovery = try? RecoveryKey(decoding: Files.read(fleet.folder.recovery))
        for finding in try agreement.findings(repository, recovery: recovery) { report.add(finding) }
        let (verdict, code, reason) = judge(report)
        if settings.json {
            printJSON(describe(report, verdict, reason))
        } else {
            show(report, name, readData)
        }
        for finding in report.findings.prefix(100) { put("  \(finding)\n", to: STDERR_FILENO) }
        if report.findings.count > 100 {
            put("  and \(report.findings.count - 100) more; --json lists all\n", to: STDERR_FILENO)
        }
        if code != .done {
            put(
                "holdfast-coordinator: \(name): the check \(verdict)\(reason.map { ": \($0)" } ?? "")\n",
                to: STDERR_FILENO
            )
            let message = "the check of the repository \(verdict)\(reason.map { ": \($0)" } ?? "")"
            try catalogue.addEvent(.error, kind: "check", host: host.id, message)
        }
        return code
    }
}

private func judge(_ report: CheckReport) -> (verdict: String, code: ExitCode, reason: String?) {
    switch report.verdict {
    case .passed: ("passed", .done, nil)
    case .failed: ("failed", .damaged, summary(report))
    case .couldNotRun(let reason): ("could not run", .failed, reason)
    }
}

/// What is damaged, and apart from it what could only not be looked at.
private func summary(_ report: CheckReport) -> String {
    let damage = report.findings.count { $0.isDamage }
    let unread = report.findings.count - damage
    var text = "\(damage) findings; older and other snapshots may be whole"
    if unread > 0 { text += "; \(unread) things could not be read, which is not damage" }
    if let obstacle = report.obstacle { text += "; not everything was looked at: \(obstacle)" }
    return text
}

private func counts(_ report: CheckReport) -> [(name: String, count: CheckCount)] {
    [
        ("snapshots", report.snapshots), ("keys", report.keys), ("locks", report.locks),
        ("side files", report.sideFiles), ("index files", report.indexFiles), ("packs", report.packs),
        ("trees", report.trees), ("packs read", report.packsRead), ("blobs read", report.blobsRead),
    ]
}

private func show(_ report: CheckReport, _ name: String, _ readData: Bool) {
    for (what, count) in counts(report) where count.all > 0 {
        let skipped = count.skipped.map { ", \($0.value) skipped (\($0.key))" }.joined()
        put("\(what): \(count.checked) of \(count.all) checked\(skipped)\n")
    }
    for note in report.notes { put("note: \(note)\n") }
    if case .passed = report.verdict {
        put(
            readData
                ? "\(name): passed; \(Human.bytes(report.bytesRead)) read back, decrypted and compared\n"
                : "\(name): passed; --read-data also reads every byte\n"
        )
    }
}

private func describe(_ report: CheckReport, _ verdict: String, _ reason: String?) -> JSON {
    let counted = counts(report).map { what, count in
        (
            what.split(separator: " ").joined(separator: "_"),
            JSON([
                ("all", JSON(count.all)), ("checked", JSON(count.checked)),
                ("skipped", JSON(count.skipped.sorted { $0.key < $1.key }.map { ($0.key, JSON($0.value)) })),
            ])
        )
    }
    let findings = report.findings.map { finding in
        JSON([
            ("message", JSON("\(finding)")), ("kind", JSON(finding.isDamage ? "damaged" : "unread")),
            ("file", JSON(finding.file)), ("pack", JSON(finding.pack?.hex)),
            ("blob", JSON(finding.blob?.hex)),
            (
                "needed_by",
                .array(
                    finding.needs.map { need in
                        JSON([
                            ("path", JSON(escaped(need.path))),
                            ("snapshots", JSON(need.snapshots.map(\.hex))),
                        ])
                    }
                )
            ),
        ])
    }
    return JSON(
        [("verdict", JSON(verdict)), ("reason", JSON(reason))] + counted + [
            ("bytes_read", JSON(report.bytesRead)), ("findings", .array(findings)),
            ("notes", JSON(report.notes)),
        ]
    )
}
