import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Repository
import Sessions

/// `snapshot recall ID [HOST]`: brings a forgotten snapshot back, once everything that it needs was found.
func snapshotRecall(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try withSnapshot(&arguments, settings) { found, fleet in
        try fleet.reading(found.host.name) { catalogue, host, repository in
            guard try !repository.list(.snapshots).contains(found.id) else {
                // A process that ended in between may have left the row behind.
                try catalogue.setPresent(found.id.hex, host: host.id)
                return "snapshot \(found.id.short) of \(host.name) is not forgotten"
            }
            let snapshot: Snapshot
            do { snapshot = try repository.snapshot(found.id, in: .forgotten) } catch let error
                as SystemCallError where error.code == ENOENT
            {
                throw CommandFailure(
                    .failed,
                    "snapshot \(found.id.short) of \(host.name) cannot be recalled any more: its grace was over, and "
                        + "`prune` let it go"
                )
            }
            do { try repository.verify(tree: snapshot.tree, repository.loadIndex()) } catch let error
                as RepositoryError
            {
                throw CommandFailure(
                    .damaged,
                    "snapshot \(found.id.short) of \(host.name) is not whole any more and stays where it is, as when a "
                        + "stock restic pruned the repository, which does not know of forgotten snapshots: \(error)"
                )
            }
            try repository.recall(found.id)
            try catalogue.setPresent(found.id.hex, host: host.id)
            let text = "snapshot \(found.id.short) was recalled"
            try catalogue.addEvent(.info, kind: "recalled", host: host.id, text)
            return
                "\(host.name): \(text); the next `forget` judges it anew: `holdfast-coordinator snapshot pin "
                + "\(found.id.short) --why TEXT` keeps it"
        }
    }
}

/// `snapshot pin ID [HOST] --why TEXT`: no retention lets a pinned snapshot go.
func snapshotPin(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    guard let why = try arguments.option("--why") else { throw UsageError.missingArgument("--why TEXT") }
    guard !why.isEmpty, why.utf8.count <= 1000, !why.unicodeScalars.contains(where: { $0.value < 0x20 })
    else {
        throw UsageError.invalid(
            what: "--why",
            value: why,
            reason: "a line of at most 1000 bytes, for whoever reads it in some years"
        )
    }
    return try withSnapshot(&arguments, settings) { found, fleet in
        try fleet.reading(found.host.name) { catalogue, host, repository in
            guard try repository.list(.snapshots).contains(found.id) else {
                throw CommandFailure(
                    .failed,
                    "snapshot \(found.id.short) of \(host.name) is forgotten: `holdfast-coordinator snapshot recall "
                        + "\(found.id.short)` brings it back, then pin it"
                )
            }
            let pin = PinRecord(snapshot: found.id, why: why, by: person(), time: Time.now())
            try repository.writePin(pin)
            try catalogue.put(
                PinRow(snapshot: found.id.hex, why: why, by: pin.by, time: pin.time),
                host: host.id
            )
            return "\(host.name): snapshot \(found.id.short) is pinned: \(why)"
        }
    }
}

/// `snapshot unpin ID [HOST]`.
func snapshotUnpin(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try withSnapshot(&arguments, settings) { found, fleet in
        try fleet.reading(found.host.name) { catalogue, host, repository in
            let record = try repository.readSide("pins/\(found.id)") != nil
            let row = try catalogue.pins(of: host).contains { $0.snapshot == found.id.hex }
            guard record || row else {
                throw CommandFailure(.failed, "snapshot \(found.id.short) of \(host.name) is not pinned")
            }
            // The other way round than pinning: what is in one place only is in the repository.
            try catalogue.removePin(found.id.hex, host: host.id)
            try repository.removeSide("pins/\(found.id)")
            return "\(host.name): snapshot \(found.id.short) is not pinned any more"
        }
    }
}

/// A snapshot that somebody named.
private struct FoundSnapshot {
    let host: HostRow
    let row: SnapshotRow
    let id: BlobID
}

/// Finds the snapshot that the arguments name, does something with it, and tells what.
private func withSnapshot(
    _ arguments: inout ArgumentReader,
    _ settings: Settings,
    _ body: (FoundSnapshot, FleetConfiguration) throws -> String
) throws -> ExitCode {
    let text = try arguments.required("ID")
    let name = arguments.argument()
    try arguments.finish()
    let fleet = try settings.fleet()
    let found = try fleet.withCatalogue { try $0.find(text, host: name) }
    let said = try body(found, fleet)
    guard settings.json else {
        put(said + "\n")
        return .done
    }
    return try fleet.withCatalogue { catalogue in
        let row = try catalogue.snapshots(of: found.host, asideToo: true).first { $0.id == found.row.id }
        let pin = try catalogue.pins(of: found.host).first { $0.snapshot == found.row.id }
        let grace = fleet.policy(of: found.host.name).grace
        printJSON(Listed(host: found.host.name, row: row ?? found.row, pin: pin, grace: grace).json)
        return .done
    }
}

extension Catalogue {
    /// The one snapshot of the fleet, or of the host `name`, whose id `text` begins; forgotten ones too.
    fileprivate func find(_ text: String, host name: String?) throws -> FoundSnapshot {
        let hosts = try name.map { [try host(named: $0)] } ?? hosts()
        let place = name ?? "the fleet"
        let found = try hosts.flatMap { host in
            try snapshots(of: host, asideToo: true).filter { row in
                row.state != .aside && !text.isEmpty && row.id.hasPrefix(text.lowercased())
            }.map { (host, $0) }
        }
        guard let (host, row) = found.first, let id = BlobID(hex: row.id) else {
            throw CommandFailure(
                .failed,
                "\(place) has no snapshot \(text), also not among those that can be recalled: `holdfast-coordinator "
                    + "snapshots` and `snapshots --forgotten` list them"
            )
        }
        guard found.count == 1 else {
            throw CommandFailure(
                .failed,
                "\(text) begins the ids of \(found.count) snapshots: give more digits"
                    + (name == nil ? ", or the host" : "")
            )
        }
        return FoundSnapshot(host: host, row: row, id: id)
    }
}

/// Who runs this, as far as the system knows.
func person() -> String {
    let environment = environmentVariables()
    if let name = environment["SUDO_USER"] ?? environment["LOGNAME"] ?? environment["USER"], !name.isEmpty {
        return name
    }
    return "user \(getuid())"
}
