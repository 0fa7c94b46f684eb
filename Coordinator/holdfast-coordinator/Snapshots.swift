import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Wire
import Repository

/// `snapshots [HOST]`.
func snapshots(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let name = arguments.argument()
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let hosts = try name.map { [try catalogue.host(named: $0)] } ?? catalogue.hosts()
        let listed = try hosts.flatMap { host in try catalogue.snapshots(of: host).map { (host.name, $0) } }
        if settings.json {
            printJSON(["snapshots": .array(listed.map { snapshotJSON($0.1, host: $0.0) })])
            return .done
        }
        var table = Table([
            ("ID", .left), ("HOST", .left), ("DATA OF", .left), ("KIND", .left), ("SCOPE", .left),
            ("IMMICH", .left),
            ("FILES", .right), ("SIZE", .right), ("ADDED", .right), ("", .left),
        ])
        for (host, snapshot) in listed {
            table.row([
                String(snapshot.id.prefix(8)), host, Time.local(snapshot.time), snapshot.kind.name,
                snapshot.scope.isEmpty ? "–" : snapshot.scope,
                snapshot.immichVersion ?? "–", Human.count(snapshot.files), Human.bytes(snapshot.bytes),
                Human.bytes(snapshot.storedBytes), snapshot.incomplete ? "incomplete" : "",
            ])
        }
        put(listed.isEmpty ? "no snapshots yet\n" : table.text)
        return .done
    }
}

func snapshotJSON(_ snapshot: SnapshotRow, host: String) -> JSON {
    JSON([
        ("id", JSON(snapshot.id)), ("host", JSON(host)), ("time", instant(snapshot.time)),
        ("kind", JSON(snapshot.kind.name)), ("scope", snapshot.scope.isEmpty ? .null : JSON(snapshot.scope)),
        ("tree", JSON(snapshot.tree)), ("epoch", JSON(snapshot.epoch)),
        ("run", JSON(snapshot.run)), ("dump", JSON(snapshot.dumpName)),
        ("dump_bytes", JSON(snapshot.dumpBytes)),
        ("immich_version", JSON(snapshot.immichVersion)),
        ("postgres_version", JSON(snapshot.postgresVersion)),
        ("files", JSON(snapshot.files)), ("bytes", JSON(snapshot.bytes)),
        ("bytes_stored", JSON(snapshot.storedBytes)), ("incomplete", JSON(snapshot.incomplete)),
    ])
}

extension Catalogue {
    /// The snapshot that `text` begins the id of; without it the newest full one, and never one of the database alone.
    func choose(_ text: String?, of host: HostRow) throws -> SnapshotRow {
        let all = try snapshots(of: host)
        guard let text, text != "latest" else {
            guard let newest = all.first(where: { $0.kind == .full }) else {
                throw CommandFailure(
                    .failed,
                    all.isEmpty
                        ? "\(host.name) has no snapshot yet: holdfast-coordinator backup \(host.name)"
                        : "\(host.name) has no snapshot with its library yet: holdfast-coordinator backup \(host.name); "
                            + "--snapshot \(all[0].id.prefix(8)) names the newest of the database alone"
                )
            }
            return newest
        }
        let found = all.filter { $0.id.hasPrefix(text.lowercased()) }
        guard let only = found.first, !text.isEmpty else {
            throw CommandFailure(
                .failed,
                "\(host.name) has no snapshot \(text): holdfast-coordinator snapshots \(host.name) lists them"
            )
        }
        guard found.count == 1 else {
            throw CommandFailure(
                .failed,
                "\(text) begins the ids of \(found.count) snapshots: give more digits"
            )
        }
        return only
    }
}

extension SnapshotRow {
    /// Tells a person who named it that it holds no library.
    func warnOfKind() {
        guard kind == .database else { return }
        put(
            "snapshot \(id.prefix(8)) holds the database alone: the dump and the deployment's files, and no photos\n",
            to: STDERR_FILENO
        )
    }
}
