package import Catalogue
package import Fleet
import Posix
import Wire

/// The fleet's figures, read from the catalogue: `holdfast_…` in seconds and bytes, labelled by host and kind and
/// never by anything that grows with time, such as a snapshot's id.
package struct FleetMetrics {
    private let catalogue: Catalogue
    private let fleet: FleetConfiguration
    private let now: Int64

    /// - Parameter now: Nanoseconds since 1970-01-01T00:00:00Z.
    package init(_ catalogue: Catalogue, _ fleet: FleetConfiguration, now: Int64 = Time.now()) {
        self.catalogue = catalogue
        self.fleet = fleet
        self.now = now
    }

    /// What is said when the catalogue cannot be asked: nothing but that.
    package static func unreadable(version: String) -> Exposition {
        var page = Exposition()
        up(&page, version, false)
        return page
    }

    private static func up(_ page: inout Exposition, _ version: String, _ isUp: Bool) {
        page.add(
            "holdfast_up",
            "Whether the catalogue could be read; nothing else is known while it is 0",
            .gauge,
            [([], isUp ? 1 : 0)]
        )
        page.add("holdfast_build_info", "The program's version", .gauge, [([("version", version)], 1)])
    }

    /// Everything that is known now.
    ///
    /// - Throws: `PostgresError` when the catalogue cannot be read.
    package func page(version: String) throws -> Exposition {
        var page = Exposition()
        Self.up(&page, version, true)
        let hosts = try catalogue.hosts()
        let names = Dictionary(uniqueKeysWithValues: hosts.map { ($0.id, $0.name) })
        addHosts(&page, hosts)
        try addCaptures(&page, names)
        try addFindings(&page, hosts, names)
        try addStore(&page, names)
        try addAlarms(&page)
        return page
    }

    private typealias Samples = [(labels: [(String, String)], value: Double)]

    private static func seconds(_ nanoseconds: Int64) -> Double { Double(nanoseconds) / 1e9 }

    private func addHosts(_ page: inout Exposition, _ hosts: [HostRow]) {
        page.add(
            "holdfast_host_added_timestamp_seconds",
            "When the host was added to the fleet",
            .gauge,
            hosts.map { ([("host", $0.name)], Self.seconds($0.added)) }
        )
        page.add(
            "holdfast_agent_last_seen_timestamp_seconds",
            "When the host's agent was in contact last",
            .gauge,
            hosts.compactMap { host in host.lastContact.map { ([("host", host.name)], Self.seconds($0)) } }
        )
        page.add(
            "holdfast_clock_skew_seconds",
            "By how much at least the clock of the agent's machine is ahead; negative when it is behind",
            .gauge,
            hosts.compactMap { host in host.clockSkew.map { ([("host", host.name)], Self.seconds($0)) } }
        )
        page.add(
            "holdfast_enrolment_seconds",
            "For so long after it was added a host may be without a backup",
            .gauge,
            hosts.map { ([("host", $0.name)], Self.seconds(fleet.policy(of: $0.name).thresholds.enrolment)) }
        )
        // The limits beside the times, so that a rule needs to know no number of a host.
        var limits: Samples = []
        for host in hosts {
            let thresholds = fleet.policy(of: host.name).thresholds
            let clocks = [
                ("contact", thresholds.contact), ("database", thresholds.dump), ("full", thresholds.full),
            ]
            for (clock, threshold) in clocks {
                limits.append(
                    (
                        [("host", host.name), ("clock", clock), ("level", "warning")],
                        Self.seconds(threshold.warning)
                    )
                )
                limits.append(
                    (
                        [("host", host.name), ("clock", clock), ("level", "critical")],
                        Self.seconds(threshold.critical)
                    )
                )
            }
        }
        page.add(
            "holdfast_age_limit_seconds",
            "The age from which a host's clock is a warning, or critical",
            .gauge,
            limits
        )
    }

    private func addCaptures(_ page: inout Exposition, _ names: [Int32: String]) throws {
        var data: Samples = []
        var files: Samples = []
        var bytes: Samples = []
        var added: Samples = []
        var dumps: Samples = []
        var info: Samples = []
        for row in try catalogue.newestGoodSnapshots() {
            guard let host = names[row.host] else { continue }
            let labels = [("host", host), ("kind", row.snapshot.kind.name)]
            data.append((labels, Self.seconds(row.snapshot.time)))
            added.append((labels, Double(row.snapshot.storedBytes)))
            if let size = row.snapshot.dumpBytes { dumps.append((labels, Double(size))) }
            guard row.snapshot.kind == .full else { continue }
            files.append(([("host", host)], Double(row.snapshot.files)))
            bytes.append(([("host", host)], Double(row.snapshot.bytes)))
            info.append(
                (
                    [
                        ("host", host), ("immich_version", row.snapshot.immichVersion ?? ""),
                        ("postgres_version", row.snapshot.postgresVersion ?? ""),
                    ], 1
                )
            )
        }
        page.add(
            "holdfast_backup_data_timestamp_seconds",
            "The moment that the newest complete snapshot is of: what a restore would give back",
            .gauge,
            data
        )
        page.add(
            "holdfast_backup_added_bytes",
            "What the newest complete snapshot added to the repository",
            .gauge,
            added
        )
        page.add("holdfast_backup_dump_bytes", "Size of its dump", .gauge, dumps)
        page.add("holdfast_backup_files", "Files of the newest complete full snapshot", .gauge, files)
        page.add("holdfast_backup_bytes", "Bytes of its files", .gauge, bytes)
        page.add("holdfast_host_info", "Versions as the newest full snapshot says them", .gauge, info)

        var attempts: Samples = []
        var durations: Samples = []
        var results: Samples = []
        for kind in RunKind.allCases {
            for run in try catalogue.newestRuns(kind: kind) {
                guard let host = names[run.host] else { continue }
                let labels = [("host", host), ("kind", kind.rawValue)]
                if let started = run.started {
                    attempts.append((labels, Self.seconds(started)))
                    durations.append((labels, Self.seconds(max(0, (run.ended ?? now) - started))))
                }
                for state in RunRow.State.allCases {
                    results.append((labels + [("state", state.rawValue)], run.state == state ? 1 : 0))
                }
            }
        }
        page.add("holdfast_run_last_start_timestamp_seconds", "When the newest run began", .gauge, attempts)
        page.add(
            "holdfast_run_duration_seconds",
            "How long the newest run took, or has taken so far",
            .gauge,
            durations
        )
        page.add("holdfast_run_state", "1 for the state of the newest run, 0 for the others", .gauge, results)
    }

    private func addFindings(_ page: inout Exposition, _ hosts: [HostRow], _ names: [Int32: String]) throws {
        let open = try catalogue.openFindings()
        var counts: [[String]: Double] = [:]
        for finding in open {
            let host = finding.host.flatMap { names[$0] } ?? ""
            counts[[host, finding.kind, finding.severity.rawValue], default: 0] += 1
        }
        page.add(
            "holdfast_findings",
            "Open findings; without a host they are the coordinator's own",
            .gauge,
            counts.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { key, count in
                ([("host", key[0]), ("kind", key[1]), ("severity", key[2])], count)
            }
        )
        page.add(
            "holdfast_host_critical",
            "Whether a critical finding is open",
            .gauge,
            hosts.map { host in
                let isCritical = open.contains { $0.host == host.id && $0.severity == .critical }
                return ([("host", host.name)], isCritical ? 1 : 0)
            }
        )
        page.add(
            "holdfast_prune_frozen",
            "Whether a finding keeps everything of the host from being forgotten and pruned",
            .gauge,
            hosts.map { host in
                let isFrozen = open.contains { $0.freezes && ($0.host == host.id || $0.host == nil) }
                return ([("host", host.name)], isFrozen ? 1 : 0)
            }
        )
    }

    private func addStore(_ page: inout Exposition, _ names: [Int32: String]) throws {
        page.add(
            "holdfast_serving",
            "Whether a coordinator runs that agents can reach",
            .gauge,
            [([], try catalogue.isServed() ? 1 : 0)]
        )
        page.add(
            "holdfast_snapshots",
            "Snapshots by kind and state; forgotten ones wait for the end of their grace",
            .gauge,
            try catalogue.snapshotCounts().compactMap { row in
                names[row.host].map {
                    (
                        [("host", $0), ("kind", row.kind.name), ("state", row.state.rawValue)],
                        Double(row.count)
                    )
                }
            }
        )
        page.add(
            "holdfast_lock_held",
            "Locks that are held now",
            .gauge,
            try catalogue.holders().map { holder in
                ([("host", holder.hostName), ("kind", holder.kind ?? "other")], 1)
            }
        )
        if let space = try? Files.space(fleet.repositories) {
            page.add(
                "holdfast_store_free_bytes",
                "Free where the repositories are",
                .gauge,
                [([], Double(space.free))]
            )
            page.add(
                "holdfast_store_size_bytes",
                "Size of that file system",
                .gauge,
                [([], Double(space.total))]
            )
        }
    }

    private func addAlarms(_ page: inout Exposition) throws {
        let channels = try fleet.alarms.keys.sorted().map { ($0, try catalogue.summary(of: $0)) }
        page.add(
            "holdfast_alarm_messages_waiting",
            "Messages that a channel has not taken yet",
            .gauge,
            channels.map { ([("alarm", $0)], Double($1.waiting)) }
        )
        page.add(
            "holdfast_alarm_last_delivery_timestamp_seconds",
            "When a channel took a message last",
            .gauge,
            channels.compactMap { name, summary in
                summary.lastDelivery.map { ([("alarm", name)], Self.seconds($0)) }
            }
        )
    }
}
