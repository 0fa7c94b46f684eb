import Arguments
import Catalogue
import Fleet
import JSON
import Posix
import Repository
import Restore
import Retrieval
import SSH
import Sessions
import Wire

/// `restore HOST --to DIR`: writes a snapshot, or the parts named with `--include`, into a folder of this machine and
/// reads back what it wrote; `restore HOST --remote` grants it to another machine. It stays root where it is, to set
/// owners.
func restore(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let wanted = try arguments.option("--snapshot")
    let target = try arguments.option("--to")
    let isRemote = arguments.flag("--remote")
    let include = try arguments.options("--include").map { path in Array(path.utf8.drop { $0 == 0x2F }) }
    let name = try arguments.required("HOST")
    try arguments.finish()
    if isRemote {
        guard target == nil else {
            throw UsageError.invalid(
                what: "--to",
                value: target ?? "",
                reason: "with --remote the folder is named on the machine that shall have the files"
            )
        }
        return try grantRestore(of: name, snapshot: wanted, include: include, settings)
    }
    guard let target else { throw UsageError.missingArgument("--to DIR (or --remote)") }
    let interrupt = try InterruptFlag()
    let fleet = try settings.fleet(keepingRoot: true)
    return try fleet.reading(name) { catalogue, host, repository in
        let chosen = try catalogue.choose(wanted, of: host)
        chosen.warnOfKind()
        let sender = try sender(chosen, host, repository, include)
        let display = ProgressDisplay()
        defer { display.clear() }
        let start = Time.monotonic()
        let report = try Restorer(sender).run(to: target, stop: { interrupt.isSet }) {
            RestoreOutput.show($0, on: display)
        }
        display.clear()
        return RestoreOutput.tell(
            report,
            snapshot: chosen.id,
            time: chosen.time,
            target: target,
            took: Time.monotonic() - start,
            asJSON: settings.json
        )
    }
}

private func sender(
    _ chosen: SnapshotRow,
    _ host: HostRow,
    _ repository: Repository,
    _ include: [[UInt8]]
) throws -> SnapshotSender {
    try SnapshotSender(
        repository,
        repository.loadIndex(),
        host: host.name,
        id: chosen.id,
        snapshot: repository.snapshot(chosen.id),
        include: include
    )
}

/// Makes the token and prints the line to run on the machine that shall have the files.
private func grantRestore(
    of name: String,
    snapshot wanted: String?,
    include: [[UInt8]],
    _ settings: Settings
) throws -> ExitCode {
    let fleet = try settings.fleet()
    let day: Int64 = 24 * 3600 * 1_000_000_000
    return try fleet.reading(name) { catalogue, host, repository in
        let chosen = try catalogue.choose(wanted, of: host)
        chosen.warnOfKind()
        // Walks the snapshot, so that a path that is not in it is heard of here and not on the other machine.
        let what = try sender(chosen, host, repository, include).what
        let secret = try catalogue.grantRestore(
            of: host,
            snapshot: chosen.id,
            includes: include,
            lifetime: day
        )
        let token = try fleet.token(.restore, secret: secret)
        let line = "holdfast-agent restore \(fleet.dialled[0]) \(token.text) --to DIR"
        let parts = include.isEmpty ? "" : " (\(include.map(escaped).joined(separator: ", ")) of it)"
        try catalogue.addEvent(
            .info,
            kind: "restore",
            host: host.id,
            "a restore of snapshot \(chosen.id.prefix(8))\(parts) on another machine was granted"
        )
        if settings.json {
            printJSON([
                "host": JSON(host.name), "snapshot": JSON(chosen.id), "kind": JSON(chosen.kind.name),
                "time": instant(chosen.time),
                "files": JSON(what.files), "bytes": JSON(what.bytes), "address": JSON(fleet.dialled[0]),
                "token": JSON(token.text), "command": JSON(line),
                "expires": JSON(Time.rfc3339(Time.now() + day)),
            ])
            return .done
        }
        put(
            "Snapshot \(chosen.id.prefix(8)) of \(host.name)\(parts), data of \(Time.local(chosen.time)): "
                + "\(Human.count(what.files)) files, \(Human.bytes(what.bytes)).\n"
                + "Type this as root on the machine that shall have them, DIR being a new or empty folder there:\n\n"
                + "    \(line)\n\n"
                + "It is good for one machine and 24 hours; the same line again goes on with a restore that was cut.\n"
        )
        return .done
    }
}
