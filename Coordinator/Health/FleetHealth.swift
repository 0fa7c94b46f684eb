package import Catalogue
package import Fleet
import Arguments
import Postgres

/// How the whole fleet stands at one moment, or one host of it: from the rows of the catalogue alone, so that it is right
/// also when nothing runs.
package struct FleetHealth: Sendable {
    package struct Host: Sendable {
        package let facts: HostFacts
        package let policy: HostPolicy
        package let health: HostHealth
        /// Open findings of other parts.
        package let others: [FindingRow]

        /// With what other parts found.
        package var level: Level { max(health.level, others.map { Level($0.severity) }.max() ?? .ok) }

        /// What is worst about it; nil when nothing is wrong.
        package var worst: String? {
            let found = health.conditions.first
            let other = others.max { Level($0.severity) < Level($1.severity) }
            guard let found else { return other?.message }
            if let other, Level(other.severity) > Level(found.severity) { return other.message }
            return found.fact
        }

        /// How many things are wrong.
        package var count: Int { health.conditions.count + others.count }
    }

    package let now: Int64
    /// The worst first, then by name.
    package let hosts: [Host]
    /// What is wrong with the coordinator, from what was looked at just now.
    package let conditions: [Condition]
    /// Open findings of the coordinator that are other parts', or that only the watch can make.
    package let findings: [FindingRow]
    package let store: Store
    package let clock: CoordinatorClock?

    /// - Parameters:
    ///   - host: The one that is wanted; nil for all.
    ///   - outside: What `OutsideFiles.find` found before; nil looks now.
    ///   - store: What was looked at before; nil looks now.
    package init(
        _ catalogue: Catalogue,
        _ fleet: FleetConfiguration,
        host: Int32? = nil,
        outside: [String: [OutsideFile]]? = nil,
        store: Store? = nil,
        now: Int64
    ) throws {
        self.now = now
        var store = store ?? Store(fleet)
        store.samples = try catalogue.spaceSamples(since: now - Store.memory)
        self.store = store
        clock = try catalogue.coordinatorClock()
        var others: [Int32: [FindingRow]] = [:]
        var own: [FindingRow] = []
        for finding in try catalogue.openFindings() {
            if let host = finding.host {
                if Condition.Kind(rawValue: finding.kind) == nil { others[host, default: []].append(finding) }
            } else if finding.kind != Condition.Kind.store.rawValue, finding.subject != Self.ahead {
                own.append(finding)
            }
        }
        findings = own
        let known = try catalogue.hostFacts(host: host, now: now).map { ($0, fleet.policy(of: $0.name)) }
        let files = outside ?? OutsideFiles.find(known.map { ($0.name, $1.outside) })
        let hosts = known.map { known, policy in
            var facts = known
            facts.outside = files[facts.name] ?? []
            return Host(
                facts: facts,
                policy: policy,
                health: HostHealth(facts, policy, now: now),
                others: others[facts.id] ?? []
            )
        }
        // By name they are already.
        self.hosts = Level.allCases.reversed().flatMap { level in hosts.filter { $0.level == level } }
        conditions = [
            hosts.isEmpty ? nil : store.condition(now: now),
            host == nil ? Self.dated(hosts) : nil,
        ].compactMap { $0 }
    }

    static let ahead = "future"

    /// What the catalogue holds from the future says that the coordinator's clock is wrong, or was: no host's ages are to
    /// be trusted.
    private static func dated(_ hosts: [Host]) -> Condition? {
        let names = hosts.filter { host in
            host.health.conditions.contains { $0.kind == .clock && $0.subject != "agent" }
        }.map(\.facts.name).sorted()
        guard let first = names.first else { return nil }
        return Condition(
            .clock,
            subject: ahead,
            .critical,
            "the coordinator's clock is wrong or was: what it stamped for \(first)"
                + (names.count > 1 ? " and \(names.count - 1) more" : "") + " lies in the future",
            advice: "nothing is forgotten of any host until the findings of "
                + (names.count > 1 ? "those" : "\(first)") + " are closed",
            freezes: true
        )
    }

    /// What the findings are to match.
    var found: [HostCondition] {
        hosts.flatMap { host in
            host.health.conditions.map { HostCondition(host: host.facts.id, $0) }
        } + conditions.map { HostCondition(host: nil, $0) }
    }
}
