import Catalogue
import Fleet
import Health
import Posix
import Postgres
import TestSupport
import Testing

/// A catalogue with one host, and time that a test moves.
private struct Rig {
    let catalogue: Catalogue
    let address: String
    var fleet = FleetConfiguration()
    let host: HostRow
    var now: Int64

    init() throws {
        address = try PostgresServer.shared.get().newDatabase()
        catalogue = try Catalogue(address: address)
        host = try catalogue.addHost("lisbon")
        try catalogue.connection.execute("INSERT INTO agent_keys VALUES ('k', $1, '\\x00', 0)", [host.id])
        fleet.repositories = "/tmp"
        fleet.keepFree = 0
        now = Time.now()
    }

    /// Adds a snapshot; gives its id.
    @discardableResult
    func snapshot(
        _ time: Int64,
        kind: String = "full",
        files: Int64 = 1000,
        bytes: Int64 = 5_000_000_000,
        dump: Int64 = 1_000_000_000,
        incomplete: Bool = false,
        version: String = "v3.1.0"
    ) throws -> String {
        let id = newUUID()
        try catalogue.connection.execute(
            """
            INSERT INTO snapshots (host_id, id, time, tree, epoch, scope, dump_name, dump_bytes, immich_version,
                postgres_version, files, bytes, stored_bytes, incomplete, state, kind)
            VALUES ($1, $2, $3, 't', 1, 'originals', 'dump.sql', $4, $5, '15.18', $6, $7, 1, $8, 'present', $9)
            """,
            [host.id, id, time, dump, version, files, bytes, incomplete, kind]
        )
        return id
    }

    func contact(_ time: Int64) throws {
        try catalogue.connection.execute("UPDATE hosts SET last_contact = $1", [time])
    }

    func added(_ time: Int64) throws {
        try catalogue.connection.execute("UPDATE hosts SET added = $1", [time])
    }

    func goRound(boot: String = "a") throws {
        try Watch.goRound(
            catalogue,
            fleet,
            reading: .init(machine: "nas", boot: boot, wall: now, sinceBoot: now - 1_000_000)
        )
    }

    /// Kinds of the open findings.
    func open() throws -> [String] { try catalogue.openFindings().map(\.kind).sorted() }
}

@Suite("Findings follow what is the case")
struct FindingsTests {
    @Test
    func `whoever compares findings and stands still holds the others up for a while, and not for ever`()
        throws
    {
        let rig = try Rig()
        let other = try Catalogue(address: rig.address)
        try other.connection.execute("SELECT pg_advisory_lock($1, 0)", [LockClass.findings])
        do {
            try Watch.look(at: rig.host, rig.catalogue, HostPolicy())
            Issue.record("it looked at what another compares")
        } catch let error as PostgresError { #expect(error.sqlstate == "55P03") }
        try other.connection.execute("SELECT pg_advisory_unlock($1, 0)", [LockClass.findings])
        try Watch.look(at: rig.host, rig.catalogue, HostPolicy())
    }

    @Test func `facts come from the rows that count`() throws {
        let rig = try Rig()
        let t = rig.now - 10 * hour
        try rig.added(t - 100 * day)
        try rig.snapshot(t - 3 * day, version: "v3.0.0")
        try rig.snapshot(t - 2 * day, dump: 2)
        try rig.snapshot(t, incomplete: true)
        try rig.snapshot(t + hour, kind: "database", files: 1, bytes: 1, dump: 3, version: "v3.2.0")
        try rig.snapshot(rig.now + 10 * day)
        let forgotten = try rig.snapshot(t + 2 * hour)
        try rig.catalogue.connection.execute(
            "UPDATE snapshots SET state = 'forgotten' WHERE id = $1",
            [forgotten]
        )
        let facts = try #require(try rig.catalogue.hostFacts(now: rig.now).first)
        #expect(facts.name == "lisbon" && facts.hasKey && facts.lastContact == nil)
        #expect(facts.newestDump == t + hour && facts.newestFull == t - 2 * day)
        #expect(facts.future == rig.now + 10 * day && facts.missing == 1)
        #expect(facts.version == "v3.2.0" && facts.fullVersion == "v3.1.0")
        #expect(facts.dumps.map(\.bytes) == [3, 1_000_000_000, 2, 1_000_000_000])
        #expect(facts.libraries.map(\.time) == [t, t - 2 * day, t - 3 * day])
        #expect(
            facts.libraries[1]
                == .init(time: t - 2 * day, scope: "originals", bytes: 4_999_999_998, files: 1000)
        )
    }

    @Test func `runs give failures, what is under way, and what is usual`() throws {
        let rig = try Rig()
        for number in 0..<5 {
            try rig.catalogue.connection.execute(
                """
                INSERT INTO runs (id, host_id, kind, state, requested, started, ended, error)
                VALUES (gen_random_uuid(), $1, 'full', $2, $3, $3, $4, $5)
                """,
                [
                    rig.host.id, number == 4 ? "failed" : "done", Int64(number) * 100,
                    Int64(number) * 100 + 10,
                    number == 4 ? "no room" : nil,
                ]
            )
        }
        try rig.catalogue.connection.execute(
            """
            INSERT INTO runs (id, host_id, kind, state, requested, started, bytes_seen, bytes_expected)
            VALUES (gen_random_uuid(), $1, 'full', 'running', 900, 950, 30, 40)
            """,
            [rig.host.id]
        )
        let facts = try #require(try rig.catalogue.hostFacts(host: rig.host.id, now: rig.now).first)
        #expect(facts.failures == [.init(kind: .full, ended: 410, error: "no room")])
        #expect(facts.running == [.init(kind: .full, started: 950, usual: 10, fraction: 0.75)])
        // Two are no habit.
        try rig.catalogue.connection.execute("DELETE FROM runs WHERE requested < 200")
        #expect(try rig.catalogue.hostFacts(now: rig.now).first?.running.first?.usual == nil)
    }

    @Test func `a finding is opened, made worse and closed, and listeners hear of each`() throws {
        var rig = try Rig()
        let listener = try PostgresConnection(rig.address, applicationName: "test")
        try listener.listen(Catalogue.Channel.findings)
        func heard() throws -> Int { try listener.notifications(timeout: 0.2).count }
        try rig.added(rig.now - 100 * day)
        try rig.contact(rig.now)
        try rig.snapshot(rig.now - 27 * hour)
        try rig.goRound()
        #expect(try rig.open() == ["dump", "full"] && heard() == 1)
        let first = try #require(try rig.catalogue.openFindings().first { $0.kind == "dump" })
        #expect(first.severity == .warning && first.message.contains("27 h old") && !first.freezes)
        rig.now += minute
        try rig.contact(rig.now)
        try rig.goRound()
        #expect(try heard() == 0)
        rig.now += 5 * hour
        try rig.contact(rig.now)
        try rig.goRound()
        let worse = try #require(try rig.catalogue.openFindings().first { $0.kind == "dump" })
        #expect(worse.id == first.id && worse.severity == .critical && worse.opened == first.opened)
        #expect(worse.seen == rig.now && worse.message.contains("32 h old"))
        #expect(try heard() == 1)
        try rig.snapshot(rig.now - minute)
        try rig.goRound()
        #expect(try rig.open().isEmpty && heard() == 1)
        let closed = try rig.catalogue.closedFindings()
        #expect(closed.count == 2 && closed.allSatisfy { $0.closed == rig.now && $0.closedBy == nil })
    }

    @Test func `findings of other parts, and of other hosts, stay as they are`() throws {
        let rig = try Rig()
        let other = try rig.catalogue.addHost("porto")
        try rig.catalogue.connection.execute(
            """
            INSERT INTO findings (host_id, kind, severity, message, opened, seen) VALUES
                ($1, 'damage', 'critical', 'a pack is damaged', 1, 1), (NULL, 'alarm-channel', 'warning', 'no mail', 1, 1),
                ($2, 'dump', 'critical', 'old', 1, 1)
            """,
            [rig.host.id, other.id]
        )
        try Watch.look(at: rig.host, rig.catalogue, HostPolicy(), now: rig.now)
        #expect(try rig.open() == ["alarm-channel", "damage", "dump"])
        try rig.goRound()
        #expect(try rig.open() == ["alarm-channel", "damage"])
        let health = try FleetHealth(rig.catalogue, rig.fleet, now: rig.now)
        #expect(health.hosts.map(\.facts.name) == ["lisbon", "porto"])
        #expect(health.hosts[0].level == .critical && health.hosts[0].worst == "a pack is damaged")
        #expect(health.hosts[1].level == .new && health.findings.map(\.kind) == ["alarm-channel"])
        // A host that is taken out of the fleet leaves none of the watch's behind.
        try rig.catalogue.connection.execute(
            "INSERT INTO findings (host_id, kind, severity, message, opened, seen) VALUES ($1, 'dump', 'critical', 'old', 1, 1)",
            [other.id]
        )
        try rig.catalogue.removeHost("porto")
        try rig.goRound()
        #expect(try rig.open() == ["alarm-channel", "damage"])
    }

    @Test func `a library that shrank freezes until a person closes it, and then counts from there`() throws {
        var rig = try Rig()
        for age in 1...3 { try rig.snapshot(rig.now - Int64(age) * day) }
        try rig.snapshot(rig.now - hour, files: 400)
        try Watch.look(at: rig.host, rig.catalogue, HostPolicy(), now: rig.now)
        let found = try #require(try rig.catalogue.freezingFindings(of: rig.host).first)
        #expect(found.kind == "library-shrank" && found.referenceFiles == 1000 && found.severity == .critical)
        // Ten more of that size, and it is still measured against what was.
        for _ in 0..<10 {
            rig.now += day
            try rig.snapshot(rig.now, files: 400)
            try rig.goRound()
        }
        let still = try #require(try rig.catalogue.freezingFindings(of: rig.host).first)
        #expect(still.id == found.id && still.referenceFiles == 1000 && still.dataOf == rig.now)
        #expect(
            try rig.catalogue.closeFinding(still.id, by: "ana", why: "moved to porto", now: rig.now)?.id
                == still.id
        )
        #expect(try rig.catalogue.closeFinding(still.id, by: "ana", why: "again", now: rig.now) == nil)
        try rig.goRound()
        #expect(try rig.catalogue.freezingFindings(of: rig.host).isEmpty)
        #expect(
            try rig.catalogue.events().contains {
                $0.kind == "finding-closed" && $0.message.contains("moved to porto")
            }
        )
        rig.now += day
        try rig.snapshot(rig.now, files: 300)
        try rig.goRound()
        #expect(try rig.catalogue.freezingFindings(of: rig.host).first?.referenceFiles == 400)
        // Back at size it closes itself.
        rig.now += day
        try rig.snapshot(rig.now, files: 390)
        try rig.goRound()
        #expect(try rig.catalogue.freezingFindings(of: rig.host).isEmpty)
    }

    @Test func `a jump of the coordinator's clock freezes every host, until it is right or a person says so`()
        throws
    {
        var rig = try Rig()
        func goRound(_ jump: Int64) throws -> [String] {
            try Watch.goRound(
                rig.catalogue,
                rig.fleet,
                reading: .init(
                    machine: "nas",
                    boot: "a",
                    wall: rig.now + jump,
                    sinceBoot: rig.now - 1_000_000
                )
            )
            return try rig.catalogue.freezingFindings(of: rig.host).map { "\($0.kind)/\($0.subject)" }
        }
        #expect(try goRound(0) == [])
        rig.now += minute
        #expect(try goRound(400 * day) == ["clock/coordinator"])
        rig.now += minute
        #expect(try goRound(0) == [])
        rig.now += minute
        #expect(try goRound(-hour) == ["clock/coordinator"])
        let finding = try #require(try rig.catalogue.openFindings().first { $0.subject == "coordinator" })
        #expect(finding.host == nil)
        _ = try rig.catalogue.closeFinding(finding.id, by: "ana", why: "it was an hour ahead", now: rig.now)
        rig.now += minute
        #expect(try goRound(-hour) == [])
    }

    @Test func `a snapshot from the future keeps no host fresh, and freezes all until it is settled`() throws
    {
        var rig = try Rig()
        try rig.added(rig.now - 100 * day)
        try rig.contact(rig.now)
        try rig.snapshot(rig.now + 30 * day)
        let other = try rig.catalogue.addHost("porto")
        try rig.goRound()
        let own = try rig.catalogue.openFindings(host: rig.host.id)
        #expect(own.map(\.kind).sorted() == ["clock", "dump", "full"])
        #expect(try rig.catalogue.freezingFindings(of: other).map(\.subject) == ["future"])
        let clock = try #require(own.first { $0.kind == "clock" })
        _ = try rig.catalogue.closeFinding(clock.id, by: "ana", why: "the battery was flat", now: rig.now)
        try rig.goRound()
        #expect(try rig.catalogue.openFindings(host: rig.host.id).map(\.kind).sorted() == ["dump", "full"])
        #expect(try rig.catalogue.freezingFindings(of: other).isEmpty)
        // A later one is another.
        rig.now += minute
        try rig.contact(rig.now)
        try rig.snapshot(rig.now + 60 * day)
        try rig.goRound()
        #expect(try rig.catalogue.openFindings(host: rig.host.id).contains { $0.kind == "clock" })
    }

    @Test func `agents that agree with the coordinator end what its clock is blamed for`() throws {
        var rig = try Rig()
        for name in ["porto", "braga"] { _ = try rig.catalogue.addHost(name) }
        try rig.goRound()
        let start = rig.now
        func goRound() throws -> Bool {
            try Watch.goRound(
                rig.catalogue,
                rig.fleet,
                reading: .init(machine: "nas", boot: "a", wall: rig.now + day, sinceBoot: rig.now - 1_000_000)
            )
            return try rig.catalogue.openFindings().contains { $0.subject == "coordinator" }
        }
        rig.now += minute
        #expect(try goRound())
        try rig.catalogue.connection.execute(
            "UPDATE hosts SET last_contact = $1, clock_seen = $1, clock_skew = CASE name WHEN 'lisbon' THEN $2::bigint ELSE 1 END",
            [start + day, -day]
        )
        rig.now += minute
        #expect(try !goRound())
        #expect(try rig.catalogue.openFindings().contains { $0.subject == "agent" && $0.host == rig.host.id })
    }

    @Test func `free space is sampled once an hour`() throws {
        var rig = try Rig()
        for _ in 0..<5 {
            try rig.goRound()
            rig.now += 25 * minute
        }
        let row = try rig.catalogue.connection.query(
            "SELECT count(*) AS n, min(free) AS free FROM space_samples"
        ).single()
        #expect(try row.int("n") == 2 && row.int64("free") > 0)
    }

    @Test func `the newest file with something in it counts as outside backup`() throws {
        let scratch = try Scratch()
        func file(_ name: String, _ text: String, _ seconds: Int) throws {
            try Files.writeAtomically(Array(text.utf8), to: scratch.at(name))
            _ = try ChildProcess.run(["touch", "-d", "@\(seconds)", scratch.at(name)])
        }
        let backup = OutsideBackup(
            name: "vm",
            pattern: scratch.at("vzdump-203-*.zst"),
            threshold: Threshold(hours: 1, 2)
        )
        #expect(OutsideFile(newestOf: backup) == OutsideFile())
        try file("vzdump-203-1.zst", "old", 1000)
        try file("vzdump-203-2.zst", "newer", 2000)
        try file("vzdump-203-3.zst", "", 3000)
        try file("vzdump-204-4.zst", "another", 4000)
        try Files.makeDirectories(scratch.at("vzdump-203-5.zst"))
        let found = OutsideFile(newestOf: backup)
        #expect(found == OutsideFile(path: scratch.at("vzdump-203-2.zst"), time: 2_000_000_000_000, bytes: 5))
    }
}
