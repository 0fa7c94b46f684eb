import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Repository
import Wire

/// `snapshots [HOST] [--forgotten]`.
func snapshots(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let isForgotten = arguments.flag("--forgotten")
    let name = arguments.argument()
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let hosts = try name.map { [try catalogue.host(named: $0)] } ?? catalogue.hosts()
        let listed = try hosts.flatMap { host in
            let pins = Dictionary(try catalogue.pins(of: host).map { ($0.snapshot, $0) }) { first, _ in first
            }
            let rows =
                try isForgotten ? catalogue.forgottenSnapshots(of: host) : catalogue.snapshots(of: host)
            let grace = fleet.policy(of: host.name).grace
            return rows.map { Listed(host: host.name, row: $0, pin: pins[$0.id], grace: grace) }
        }
        if settings.json {
            printJSON(["snapshots": .array(listed.map(\.json))])
        } else if listed.isEmpty {
            put(isForgotten ? "no snapshots that can be recalled\n" : "no snapshots yet\n")
        } else {
            put(isForgotten ? forgottenTable(listed) : presentTable(listed))
        }
        return .done
    }
}

/// A snapshot with what its row does not say.
struct Listed {
    let host: String
    let row: SnapshotRow
    let pin: PinRow?
    /// Nanoseconds.
    let grace: Int64

    /// Until when a forgotten one can be recalled at least, nanoseconds since 1970-01-01T00:00:00Z; nil for others.
    var recallEnd: Int64? { row.forgotten.map { Time.adding(grace, to: $0) } }

    var json: JSON {
        let pin = pin.map { JSON([("why", JSON($0.why)), ("by", JSON($0.by)), ("time", instant($0.time))]) }
        return JSON(
            snapshotMembers(row, host: host) + [
                ("state", JSON(row.state.rawValue)), ("forgotten", instant(row.forgotten)),
                ("recall_until", instant(recallEnd)), ("pin", pin ?? .null),
            ]
        )
    }
}

private func presentTable(_ listed: [Listed]) -> String {
    var table = Table([
        ("ID", .left), ("HOST", .left), ("KIND", .left), ("DATA OF", .left), ("SCOPE", .left),
        ("IMMICH", .left), ("FILES", .right), ("SIZE", .right), ("ADDED", .right), ("", .left),
    ])
    for item in listed {
        let snapshot = item.row
        let remarks = [
            snapshot.incomplete ? "incomplete" : nil, item.pin.map { "pinned: \($0.why)" },
        ].compactMap { $0 }
        table.row([
            String(snapshot.id.prefix(8)), item.host, snapshot.kind.name, Time.local(snapshot.time),
            snapshot.scope.isEmpty ? "–" : snapshot.scope, snapshot.immichVersion ?? "–",
            Human.count(snapshot.files),
            Human.bytes(snapshot.bytes), Human.bytes(snapshot.storedBytes), remarks.joined(separator: ", "),
        ])
    }
    return table.text
}

private func forgottenTable(_ listed: [Listed]) -> String {
    var table = Table([
        ("ID", .left), ("HOST", .left), ("KIND", .left), ("DATA OF", .left), ("FORGOTTEN", .left),
        ("CAN BE RECALLED", .left),
    ])
    for item in listed {
        let end = item.recallEnd ?? 0
        table.row([
            String(item.row.id.prefix(8)), item.host, item.row.kind.name, Time.local(item.row.time),
            item.row.forgotten.map(ago) ?? "–",
            end > Time.now() ? "until \(Time.local(end))" : "until something is pruned",
        ])
    }
    return table.text
}

func snapshotJSON(_ snapshot: SnapshotRow, host: String) -> JSON {
    JSON(snapshotMembers(snapshot, host: host))
}

private func snapshotMembers(_ snapshot: SnapshotRow, host: String) -> [(String, JSON)] {
    [
        ("id", JSON(snapshot.id)), ("host", JSON(host)), ("kind", JSON(snapshot.kind.name)),
        ("time", instant(snapshot.time)),
        ("scope", snapshot.scope.isEmpty ? .null : JSON(snapshot.scope)), ("tree", JSON(snapshot.tree)),
        ("epoch", JSON(snapshot.epoch)),
        ("run", JSON(snapshot.run)), ("dump", JSON(snapshot.dumpName)),
        ("dump_bytes", JSON(snapshot.dumpBytes)),
        ("immich_version", JSON(snapshot.immichVersion)),
        ("postgres_version", JSON(snapshot.postgresVersion)),
        ("files", JSON(snapshot.files)), ("bytes", JSON(snapshot.bytes)),
        ("bytes_stored", JSON(snapshot.storedBytes)), ("incomplete", JSON(snapshot.incomplete)),
    ]
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
            if !text.isEmpty,
                let gone = try forgottenSnapshots(of: host).first(where: {
                    $0.id.hasPrefix(text.lowercased())
                })
            {
                throw CommandFailure(
                    .failed,
                    "snapshot \(gone.id.prefix(8)) of \(host.name) is forgotten: `holdfast-coordinator snapshot recall "
                        + "\(gone.id.prefix(8))` brings it back"
                )
            }
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
