import Catalogue
import Fleet
import Health
import JSON
import Posix

extension FleetStatus {
    /// Fields may be added, and keep their meaning.
    var json: JSON {
        var counts: [(String, JSON)] = [("hosts", JSON(hosts.count))]
        for level in Level.allCases { counts.append((level.rawValue, JSON(count(level)))) }
        return JSON([
            ("time", instant(health.now)), ("serving", JSON(serving)), ("health", JSON(level.rawValue)),
            ("summary", JSON(hosts.isEmpty ? "no hosts yet" : sentence)), ("counts", JSON(counts)),
            (
                "coordinator",
                .array(
                    troubles.map {
                        JSON([
                            ("kind", JSON($0.kind)), ("severity", JSON($0.severity.rawValue)),
                            ("message", JSON($0.message)),
                        ])
                    }
                )
            ),
            ("store", storeJSON), ("hosts", .array(hosts.map(json))),
        ])
    }

    private var storeJSON: JSON {
        let store = health.store
        guard store.problem == nil else {
            return JSON([("folder", JSON(store.folder)), ("problem", JSON(store.problem))])
        }
        return JSON([
            ("folder", JSON(store.folder)), ("bytes_free", JSON(store.free)),
            ("bytes_total", JSON(store.total)),
            ("bytes_reserved", JSON(store.reserve)), ("full_at", instant(store.fullAt(now: health.now))),
        ])
    }

    /// One host: how it stands, and how its newest full capture went.
    func json(_ host: FleetHealth.Host) -> JSON {
        let facts = host.facts
        let last = lastRun(host)
        return JSON([
            ("host", JSON(facts.name)), ("health", JSON(host.level.rawValue)),
            ("state", JSON(last.state.rawValue)), ("trouble", JSON(last.trouble)),
            ("last_contact", instant(facts.lastContact)),
            ("clocks", JSON(host.health.readings.map { ($0.clock.rawValue, json($0)) })),
            ("conditions", .array(host.health.conditions.map(json))),
            ("findings", .array(host.others.map { findingJSON($0, host: facts.name) })),
            ("outside", .array(zip(host.policy.outside, facts.outside).map { json($0, $1) })),
            ("running", .array(facts.running.map(json))),
            ("immich_version", JSON(facts.version)),
            ("clock_skew_seconds", facts.clockSkew.map { JSON(Double($0) / 1e9) } ?? .null),
            ("run", last.run.map { runJSON($0) } ?? .null),
            ("snapshot", last.snapshot.map { snapshotJSON($0, host: facts.name) } ?? .null),
        ])
    }

    private func json(_ reading: HostHealth.Reading) -> JSON {
        JSON([
            ("time", instant(reading.moment)),
            ("age_seconds", reading.moment.map { JSON(max(0, health.now - $0) / 1_000_000_000) } ?? .null),
            ("warning_seconds", JSON(reading.threshold.warning / 1_000_000_000)),
            ("critical_seconds", JSON(reading.threshold.critical / 1_000_000_000)),
            ("warning_at", instant(reading.warningAt)), ("critical_at", instant(reading.criticalAt)),
        ])
    }

    private func json(_ condition: Condition) -> JSON {
        JSON([
            ("kind", JSON(condition.kind.rawValue)), ("subject", JSON(condition.subject)),
            ("severity", JSON(condition.severity.rawValue)), ("message", JSON(condition.message)),
            ("freezes", JSON(condition.freezes)),
        ])
    }

    private func json(_ backup: OutsideBackup, _ file: OutsideFile) -> JSON {
        JSON([
            ("name", JSON(backup.name)), ("pattern", JSON(backup.pattern)), ("file", JSON(file.path)),
            ("problem", JSON(file.problem)),
            ("time", instant(file.time)), ("bytes", JSON(file.bytes)),
            ("warning_seconds", JSON(backup.threshold.warning / 1_000_000_000)),
            ("critical_seconds", JSON(backup.threshold.critical / 1_000_000_000)),
        ])
    }

    private func json(_ run: HostFacts.Running) -> JSON {
        JSON([
            ("kind", JSON(run.kind.rawValue)), ("started", instant(run.started)),
            ("fraction", run.fraction.map { JSON($0) } ?? .null),
            ("usual_seconds", run.usual.map { JSON($0 / 1_000_000_000) } ?? .null),
        ])
    }
}
