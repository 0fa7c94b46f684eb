import Catalogue
import Fleet
import Health

let minute: Int64 = 60_000_000_000
let hour: Int64 = 60 * minute
let day: Int64 = 24 * hour
/// Some day in 2026.
let now: Int64 = 1_780_000_000_000_000_000

/// A host that was added a hundred days ago and with which nothing is wrong.
func healthyHost() -> HostFacts {
    var facts = HostFacts(id: 7, name: "lisbon", added: now - 100 * day)
    facts.lastContact = now - minute
    facts.newestDump = now - 5 * hour
    facts.newestFull = now - 5 * hour
    facts.dumps = (0..<8).map { .init(time: now - 5 * hour - Int64($0) * day, bytes: 3_000_000_000) }
    facts.libraries = (0..<8).map {
        .init(
            time: now - 5 * hour - Int64($0) * day,
            scope: "originals",
            bytes: 1_800_000_000_000,
            files: 400_000
        )
    }
    facts.version = "v3.1.0"
    facts.fullVersion = "v3.1.0"
    return facts
}

func health(_ facts: HostFacts, _ policy: HostPolicy = HostPolicy(), at moment: Int64 = now) -> HostHealth {
    HostHealth(facts, policy, now: moment)
}

/// `kind/subject severity`, with `!` where it freezes.
func words(_ health: HostHealth) -> [String] {
    health.conditions.map {
        "\($0.kind.rawValue)\($0.subject.isEmpty ? "" : "/" + $0.subject) \($0.severity.rawValue)\($0.freezes ? "!" : "")"
    }
}
