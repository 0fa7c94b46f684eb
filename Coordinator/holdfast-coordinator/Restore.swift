import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Repository
import Restore
import Sessions

/// `restore HOST --to DIR`: writes a snapshot, or the parts named with `--include`, into an empty folder and reads
/// back what it wrote. It stays root where it is, to set owners.
func restore(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let wanted = try arguments.option("--snapshot")
    let target = try arguments.option("--to")
    let include = try arguments.options("--include").map { path in Array(path.utf8.drop { $0 == 0x2F }) }
    let name = try arguments.required("HOST")
    try arguments.finish()
    guard let target else { throw UsageError.missingArgument("--to DIR") }
    let fleet = try settings.fleet(keepingRoot: true)
    return try fleet.reading(name) { catalogue, host, repository in
        let chosen = try catalogue.choose(wanted, of: host)
        let snapshot = try repository.snapshot(chosen.id)
        let restorer = try Restorer(repository, repository.loadIndex(), snapshot: snapshot, include: include)
        let display = ProgressDisplay()
        let start = Time.monotonic()
        let report = try restorer.run(to: target) { progress in
            display.show(
                "restoring",
                done: progress.bytes,
                of: progress.totalBytes,
                "\(Human.count(progress.files)) of \(Human.count(progress.totalFiles)) files"
            )
        }
        display.clear()
        if settings.json {
            printJSON(describe(report, chosen, target))
        } else {
            let time = Human.duration(nanoseconds: Time.monotonic() - start)
            put(
                "\(report.files) files, \(Human.bytes(report.bytes)), of snapshot \(chosen.id.prefix(8)) "
                    + "(data of \(Time.local(chosen.time))) written to \(target) and read back in \(time)\n"
            )
            for limit in limits(report) { put("  \(limit)\n", to: STDERR_FILENO) }
        }
        for problem in report.problems.prefix(100) { put("  \(problem)\n", to: STDERR_FILENO) }
        return report.isWhole ? .done : .damaged
    }
}

private func limits(_ report: RestoreReport) -> [String] {
    [
        (report.owners, "owners could not be set (run the restore as root for that)"),
        (report.attributes, "extended attributes could not be set"),
        (report.sockets, "sockets were left out"),
    ].compactMap { limit, what in limit.count == 0 ? nil : "\(limit.count) \(what), as of \(limit.example)" }
}

private func describe(_ report: RestoreReport, _ snapshot: SnapshotRow, _ target: String) -> JSON {
    JSON([
        ("snapshot", JSON(snapshot.id)), ("time", instant(snapshot.time)), ("target", JSON(target)),
        ("files", JSON(report.files)), ("directories", JSON(report.directories)),
        ("links", JSON(report.links)),
        ("hard_links", JSON(report.hardLinks)), ("bytes", JSON(report.bytes)),
        ("whole", JSON(report.isWhole)), ("limits", JSON(limits(report))),
        (
            "problems",
            .array(
                report.problems.map { JSON([("path", JSON(escaped($0.path))), ("message", JSON("\($0)"))]) }
            )
        ),
    ])
}
