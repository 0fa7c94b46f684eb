package import Catalogue
package import Fleet
import Posix
import Postgres

/// Brings the findings up to date: of all hosts and of the coordinator, again and again, by the one coordinator that has
/// the duty; and of one host, right where something changed that decides.
package enum Watch {
    /// Between two samples of free space.
    private static let sampling: Int64 = 3_600_000_000_000

    /// One round.
    package static func goRound(
        _ catalogue: Catalogue,
        _ fleet: FleetConfiguration,
        reading: CoordinatorClock.Reading = .now()
    ) throws {
        // Before the lock is taken, for which others wait.
        let backups = try catalogue.hosts().map { ($0.name, fleet.policy(of: $0.name).outside) }
        let outside = OutsideFiles.find(backups)
        let store = Store(fleet)
        let now = reading.wall
        try catalogue.endAbandonedRuns()
        try catalogue.comparingFindings {
            let off = try judgeClock(catalogue, reading)
            if store.problem == nil { try catalogue.sampleSpace(store, now: now, every: sampling) }
            let health = try FleetHealth(catalogue, fleet, outside: outside, store: store, now: now)
            let found = health.found + [off].compactMap { $0 }.map { HostCondition(host: nil, $0) }
            try catalogue.reconcile(found, now: now)
        }
    }

    /// Looks at one host alone, and brings its findings up to date: after a capture, and before something is deleted. Backups
    /// that others make are left to the rounds: their disk may hang, and nothing that is done here hangs with it.
    package static func look(
        at host: HostRow,
        _ catalogue: Catalogue,
        _ policy: HostPolicy,
        now: Int64 = Time.now()
    ) throws {
        try catalogue.comparingFindings {
            let found = try catalogue.hostFacts(host: host.id, now: now).flatMap { facts in
                HostHealth(facts, policy, now: now).conditions.map { HostCondition(host: facts.id, $0) }
            }
            try catalogue.reconcile(found, host: host.id, leaving: [.outside], now: now)
        }
    }

    /// Writes an event when the snapshot that was just published is of another Immich or PostgreSQL than the one before.
    package static func noteVersions(of host: HostRow, snapshot: String, _ catalogue: Catalogue) throws {
        let rows = try catalogue.connection.query(
            """
            SELECT n.immich_version AS immich, n.postgres_version AS postgres, o.immich_version AS old_immich,
                o.postgres_version AS old_postgres
            FROM snapshots n CROSS JOIN LATERAL (
                SELECT * FROM snapshots WHERE host_id = n.host_id AND state = 'present' AND time < n.time
                ORDER BY time DESC LIMIT 1) o
            WHERE n.host_id = $1 AND n.id = $2
            """,
            [host.id, snapshot]
        )
        guard let row = rows.first else { return }
        for (program, now, before) in [
            ("Immich", try row.text("immich"), try row.text("old_immich")),
            ("PostgreSQL", try row.text("postgres"), try row.text("old_postgres")),
        ] {
            guard let now, let before, now != before else { continue }
            try catalogue.addEvent(
                .info,
                kind: "version",
                host: host.id,
                "\(program) of \(host.name) is \(now) now, and was \(before)"
            )
        }
    }

    private static func judgeClock(_ catalogue: Catalogue, _ reading: CoordinatorClock.Reading) throws
        -> Condition?
    {
        var clock: CoordinatorClock
        var condition: Condition?
        if let before = try catalogue.coordinatorClock() {
            clock = before
            let confirmed = try catalogue.agentsAgree(since: before.goodWall, now: reading.wall)
            condition = clock.advance(reading, allowed: HostHealth.future, confirmed: confirmed)
        } else {
            clock = CoordinatorClock(reading)
        }
        try catalogue.put(clock)
        return condition
    }
}

extension Catalogue {
    /// Of the last round of the watch; nil before the first.
    func coordinatorClock() throws -> CoordinatorClock? {
        try connection.query("SELECT * FROM watch_rounds").first.map { row in
            CoordinatorClock(
                last: CoordinatorClock.Reading(
                    machine: try row.string("machine"),
                    boot: try row.string("boot"),
                    wall: try row.int64("wall"),
                    sinceBoot: try row.int64("since_boot")
                ),
                goodWall: try row.int64("good_wall"),
                goodOffset: try row.int64("good_offset")
            )
        }
    }

    func put(_ clock: CoordinatorClock) throws {
        try connection.execute(
            """
            INSERT INTO watch_rounds (machine, boot, wall, since_boot, good_wall, good_offset)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (one) DO UPDATE SET machine = excluded.machine, boot = excluded.boot, wall = excluded.wall,
                since_boot = excluded.since_boot, good_wall = excluded.good_wall, good_offset = excluded.good_offset
            """,
            [
                clock.last.machine, clock.last.boot, clock.last.wall, clock.last.sinceBoot, clock.goodWall,
                clock.goodOffset,
            ]
        )
    }

    func spaceSamples(since: Int64) throws -> [Store.Sample] {
        try connection.query("SELECT time, free FROM space_samples WHERE time > $1 ORDER BY time", [since])
            .map {
                Store.Sample(time: try $0.int64("time"), free: try $0.int64("free"))
            }
    }

    func sampleSpace(_ store: Store, now: Int64, every interval: Int64) throws {
        let newest = try connection.query(
            "SELECT max(time) AS time FROM space_samples WHERE time <= $1",
            [now]
        )
        .single().optionalInt64("time")
        if let newest, now - newest < interval { return }
        try connection.execute(
            "INSERT INTO space_samples (time, free, total) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            [now, store.free, store.total]
        )
        try connection.execute("DELETE FROM space_samples WHERE time < $1", [now - 2 * Store.memory])
    }

    /// Whether most agents that were here after the clock was last believed have the time that the coordinator has, and at
    /// least two have: a clock that was wrong for long and was set right is right.
    func agentsAgree(since: Int64, now: Int64) throws -> Bool {
        let row = try connection.query(
            """
            SELECT count(*) AS all_of_them, count(*) FILTER (WHERE abs(skew) <= $3::bigint) AS agreeing FROM (
                SELECT clock_skew AS skew FROM hosts
                WHERE removed IS NULL AND clock_seen > $1::bigint AND clock_seen <= $2::bigint + $3::bigint) s
            WHERE skew IS NOT NULL
            """,
            [since, now, HostHealth.future]
        ).single()
        let agreeing = try row.int64("agreeing")
        let all = try row.int64("all_of_them")
        return agreeing >= 2 && agreeing * 2 > all
    }
}
