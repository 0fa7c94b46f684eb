import Arguments
import Fleet
import Health
import Posix

/// `status --nagios`: one line in the manner of the monitoring plugins, with figures behind `|`. What cannot be told is
/// unknown and never ok.
func statusForNagios(_ settings: Settings) -> ExitCode {
    let status: FleetStatus
    do {
        let fleet = try settings.fleet()
        status = try fleet.withCatalogue { try FleetStatus($0, fleet) }
    } catch {
        put("HOLDFAST UNKNOWN - \(oneLine("\(error)"))\n")
        return .incomplete
    }
    guard !status.hosts.isEmpty else {
        put("HOLDFAST UNKNOWN - no hosts yet: holdfast-coordinator host add NAME\n")
        return .incomplete
    }
    put(
        "HOLDFAST \(oneLine(status.sentence.replacing(": ", with: " - ", maxReplacements: 1))) | \(status.figures)\n"
    )
    return switch status.level {
    case .ok, .new: .done
    case .warning: .failed
    case .critical: .critical
    }
}

/// Without what ends the text or the line of a plugin.
private func oneLine(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).joined(separator: " ").replacing("|", with: "/")
}

extension FleetStatus {
    /// `label=value;warning;critical;min;max`, ages in seconds.
    fileprivate var figures: String {
        let all = hosts.count
        var figures = [
            "hosts=\(all)", "ok=\(count(.ok));;;0;\(all)", "new=\(count(.new));;;0;\(all)",
            "warning=\(count(.warning));0;;0;\(all)", "critical=\(count(.critical));;0;0;\(all)",
        ]
        // The oldest of all, with the limits of its own host.
        for clock in Clock.counted {
            let readings = hosts.compactMap {
                $0.health.readings.first { $0.clock == clock && $0.moment != nil }
            }
            guard let oldest = readings.min(by: { $0.moment ?? 0 < $1.moment ?? 0 }),
                let moment = oldest.moment
            else { continue }
            let age = max(0, health.now - moment) / 1_000_000_000
            let limits =
                "\(oldest.threshold.warning / 1_000_000_000);\(oldest.threshold.critical / 1_000_000_000)"
            figures.append("oldest_\(clock.rawValue)=\(age)s;\(limits);0")
        }
        if health.store.problem == nil {
            let store = health.store
            figures.append("store_free=\(store.free)B;;\(store.reserve):;0;\(store.total)")
        }
        return figures.joined(separator: " ")
    }
}
