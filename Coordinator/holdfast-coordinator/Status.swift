import Arguments
import Catalogue
import Fleet
import JSON
import Posix

/// `status`: every host with its newest run and snapshot, those that need somebody first.
func status(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        try catalogue.endAbandonedRuns()
        let runs = Dictionary(try catalogue.newestRuns().map { ($0.host, $0) }) { first, _ in first }
        let snapshots = try catalogue.latestSnapshots()
        let lines = try catalogue.hosts().map { host in
            HostStatus(host: host, run: runs[host.id], snapshot: snapshots[host.id])
        }.sorted { ($0.state.rank, $0.host.name) < ($1.state.rank, $1.host.name) }
        if settings.json {
            printJSON([
                "serving": JSON(try catalogue.isServed()), "hosts": .array(lines.map(\.json)),
            ])
            return .done
        }
        guard !lines.isEmpty else {
            put("no hosts yet: holdfast-coordinator host add NAME\n")
            return .done
        }
        var table = Table([
            ("HOST", .left), ("STATE", .left), ("DATA OF", .left), ("DUMP", .right), ("FILES", .right),
            ("SIZE", .right), ("LAST CONTACT", .left),
        ])
        for line in lines { table.row(line.cells) }
        put(table.text)
        for line in lines { if let trouble = line.trouble { put("\(line.host.name): \(trouble)\n") } }
        if try !catalogue.isServed() {
            put(
                "the service is not running: systemctl start holdfast-coordinator, or holdfast-coordinator serve\n"
            )
        }
        let good = lines.count { $0.state == .ok || $0.state == .running }
        put(
            good == lines.count
                ? "all \(good) hosts are backed up\n"
                : "\(good) of \(lines.count) hosts are backed up and well\n"
        )
        return .done
    }
}

/// How one host stands.
private struct HostStatus {
    enum State: String {
        /// The last run failed, was interrupted or cancelled.
        case failed
        /// No snapshot yet.
        case never
        /// The newest snapshot lacks entries that could not be read.
        case incomplete
        case queued, running, ok

        var rank: Int {
            switch self {
            case .failed: 0
            case .never: 1
            case .incomplete: 2
            case .queued: 3
            case .running: 4
            case .ok: 5
            }
        }
    }

    let host: HostRow
    let run: RunRow?
    let snapshot: SnapshotRow?

    var state: State {
        switch run?.state {
        case .running: .running
        case .queued: .queued
        case .failed, .interrupted, .cancelled: .failed
        case .done, .incomplete, nil:
            snapshot.map { $0.incomplete ? .incomplete : .ok } ?? .never
        }
    }

    /// What is wrong, for people; nil when nothing is.
    var trouble: String? {
        switch state {
        case .failed:
            "the last run \(run?.state.rawValue ?? "failed") \(run?.ended.map(ago) ?? ""): \(run?.error ?? "no reason known")"
        case .never: "no backup yet"
        case .incomplete:
            "\(run?.figures.problems ?? 0) entries could not be read or kept changing: backup --json names them"
        default: nil
        }
    }

    var cells: [String] {
        var shown = state.rawValue
        if state == .running, let fraction = run?.figures.fraction { shown += " \(Int(fraction * 100)) %" }
        return [
            host.name, shown, snapshot.map { ago($0.time) } ?? "never",
            snapshot?.dumpBytes.map { Human.bytes($0) } ?? "–", snapshot.map { Human.count($0.files) } ?? "–",
            snapshot.map { Human.bytes($0.bytes) } ?? "–", host.lastContact.map(ago) ?? "never",
        ]
    }

    var json: JSON {
        JSON([
            ("host", JSON(host.name)), ("state", JSON(state.rawValue)), ("trouble", JSON(trouble)),
            ("last_contact", instant(host.lastContact)), ("run", run.map { runJSON($0) } ?? .null),
            ("snapshot", snapshot.map { snapshotJSON($0, host: host.name) } ?? .null),
        ])
    }
}
