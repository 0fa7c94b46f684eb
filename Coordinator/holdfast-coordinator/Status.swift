import Arguments
import Catalogue
import Fleet
import Glibc
import Health
import JSON
import Posix
import Postgres
import Wire

/// `status [HOST]`: how the fleet stands, or everything of one host.
func status(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let nagios = arguments.flag("--nagios")
    let watching = arguments.flag("--watch")
    let name = arguments.argument()
    try arguments.finish()
    let modes = [nagios ? "--nagios" : nil, watching ? "--watch" : nil, settings.json ? "--json" : nil]
    let given = modes.compactMap { $0 } + (name.map { [$0] } ?? [])
    if (nagios || watching) && given.count > 1 {
        throw UsageError.invalid(what: given[0], value: given[1], reason: "the two do not go together")
    }
    if nagios { return statusForNagios(settings) }
    if let name { return try statusOfHost(name, settings) }
    let fleet = try settings.fleet()
    if watching { return try watchStatus(fleet) }
    return try fleet.withCatalogue { catalogue in
        let status = try FleetStatus(catalogue, fleet)
        if settings.json {
            printJSON(status.json)
        } else {
            put(status.text(StatusStyle(colour: StatusStyle.wantsColour)))
        }
        return .done
    }
}

/// Everything that `status` tells of the fleet, as it is now.
struct FleetStatus {
    let health: FleetHealth
    /// The newest full captures and full snapshots by the host's id.
    let runs: [Int32: RunRow]
    let snapshots: [Int32: SnapshotRow]
    let serving: Bool
    /// What is wrong with the coordinator itself.
    let troubles: [(severity: FindingRow.Severity, kind: String, fact: String, message: String)]

    /// - Parameter host: The only one that is wanted; nil for all.
    init(_ catalogue: Catalogue, _ fleet: FleetConfiguration, host: Int32? = nil) throws {
        try catalogue.endAbandonedRuns()
        let now = Time.now()
        health = try FleetHealth(catalogue, fleet, host: host, now: now)
        runs = Dictionary(try catalogue.newestRuns(host: host).map { ($0.host, $0) }) { first, _ in first }
        snapshots = try catalogue.latestSnapshots(host: host)
        let service = try catalogue.service()
        serving = service.since != nil
        let conditions = Self.service(service, health.clock, now) + health.conditions
        troubles =
            conditions.map { ($0.severity, $0.kind.rawValue, $0.fact, $0.message) }
            + health.findings.map { ($0.severity, $0.kind, $0.message, $0.message) }
    }

    var hosts: [FleetHealth.Host] { health.hosts }

    func count(_ level: Level) -> Int { hosts.count { $0.level == level } }

    /// That of the worst host, or of the coordinator.
    var level: Level {
        max(hosts.map(\.level).max() ?? .ok, troubles.map { Level($0.severity) }.max() ?? .ok)
    }

    private static func service(
        _ service: (since: Int64?, duties: Set<Int32>),
        _ clock: CoordinatorClock?,
        _ now: Int64
    ) -> [Condition] {
        guard let since = service.since else {
            return [
                Condition(
                    .service,
                    .critical,
                    "the service is not running",
                    advice: "`systemctl start holdfast-coordinator`, or `holdfast-coordinator serve`"
                )
            ]
        }
        // One that has just started takes its duties up within seconds.
        guard now - since > 60_000_000_000 else { return [] }
        let missing = Duty.Kind.allCases.filter { !service.duties.contains($0.rawValue) }
        var found = missing.map { duty in
            Condition(
                .service,
                subject: "\(duty)",
                .critical,
                "nobody does the duty `\(duty)` of the service",
                advice: "its log tells why: `journalctl -u holdfast-coordinator`"
            )
        }
        let late: Int64 = 300_000_000_000
        if missing.isEmpty, now - since > late, let clock, now - clock.last.wall > late {
            found.append(
                Condition(
                    .service,
                    subject: "round",
                    .critical,
                    "the watch has not gone its round for \(Age.text(now - clock.last.wall))",
                    advice: "the service's log tells why: `journalctl -u holdfast-coordinator`"
                )
            )
        }
        return found
    }

    /// What the last full capture of a host came to, with the snapshot that there is.
    func lastRun(_ host: FleetHealth.Host) -> LastRun {
        LastRun(run: runs[host.facts.id], snapshot: snapshots[host.facts.id])
    }
}

/// How the newest full capture of a host went, whatever the clocks say.
struct LastRun {
    enum State: String {
        /// The last run failed, was interrupted or cancelled.
        case failed
        /// No snapshot yet.
        case never
        /// The newest snapshot lacks entries that could not be read.
        case incomplete
        case queued, running, ok
    }

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
}
