import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Repository

/// `check HOST [--read-data]`: whether a repository holds what its snapshots need; with `--read-data` every byte of
/// it is decrypted and compared. A check that could not look at something does not pass.
func check(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let readData = arguments.flag("--read-data")
    let name = try arguments.required("HOST")
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.reading(name) { catalogue, host, repository in
        let display = ProgressDisplay()
        let report = Check.run(repository, readData ? .data : .structure) { progress in
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
    case .failed:
        ("failed", .damaged, "\(report.findings.count) findings; older and other snapshots may be whole")
    case .couldNotRun(let reason): ("could not run", .failed, reason)
    }
}

private func counts(_ report: CheckReport) -> [(name: String, count: CheckCount)] {
    [
        ("snapshots", report.snapshots), ("index files", report.indexFiles), ("packs", report.packs),
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
            ("message", JSON("\(finding)")), ("pack", JSON(finding.pack?.hex)),
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
