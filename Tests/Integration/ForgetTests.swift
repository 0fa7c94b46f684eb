import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

@Suite("Retention of a host", .serialized)
struct ForgetTests {
    private func snapshot(_ outcome: Outcome, _ id: BlobID) -> JSON? {
        outcome.json?["snapshots"]?.array?.first { $0["id"]?.string == id.hex }
    }

    private func reasons(_ outcome: Outcome, _ id: BlobID) -> [String] {
        snapshot(outcome, id)?["reasons"]?.strings ?? []
    }

    @Test func `what the policy does not keep goes, can be looked at before, and comes back`() throws {
        let rig = try RetentionRig()
        let full = try (0..<4).map { try rig.add(Double($0) + 1) }
        let databases = try (0..<3).map { try rig.add(Double($0) / 4 + 0.1, kind: "database") }
        let foreign = try rig.add(100, isOurs: false)
        try rig.rebuild()
        let all = try rig.files(.snapshots)

        let dry = try rig.forget("--dry-run")
        #expect(dry.status == 0 && dry.json?["dry_run"]?.bool == true, "\(dry)")
        #expect(dry.json?["snapshots"]?.array?.count == 7 && dry.json?["foreign_snapshots"]?.int == 1)
        #expect(reasons(dry, full[0]) == ["last", "newest captured"] && reasons(dry, full[1]) == ["last"])
        #expect(reasons(dry, databases[0]) == ["last", "newest captured"])
        #expect(snapshot(dry, full[2])?["stays"]?.bool == false)
        #expect(dry.json?["policy"]?["full"]?.string == "last 2", "\(dry)")
        #expect(try rig.files(.snapshots) == all)
        let text = try rig.installation.coordinator("forget", "lisbon", "--dry-run")
        for word in ["keeps last 2", "keeps last 1", "newest captured", "goes", "4 of 7", "left alone"] {
            #expect(text.output.contains(word), "\(word): \(text)")
        }

        let done = try rig.forget()
        let gone = Set(full[2...] + databases[1...])
        #expect(done.status == 0, "\(done)")
        #expect(try rig.files(.forgotten) == gone)
        #expect(try rig.files(.snapshots) == all.subtracting(gone) && all.contains(foreign))
        let states = try rig.states()
        for id in full + databases {
            #expect(states[id.hex] == (gone.contains(id) ? "forgotten" : "present"))
        }
        #expect(states[foreign.hex] == nil)
        #expect(
            try rig.installation.sql("SELECT kind || ' ' || state FROM runs") == "forget done\n"
        )
        try rig.checkStock("forgotten")
        #expect(try rig.installation.coordinator("check", "lisbon").status == 0)

        // Where it can be seen, and where it can't.
        let listed = try rig.installation.coordinator("snapshots", "--json")
        #expect(listed.json?["snapshots"]?.array?.count == 3, "\(listed)")
        let forgotten = try rig.installation.coordinator("snapshots", "lisbon", "--forgotten", "--json")
        #expect(forgotten.json?["snapshots"]?.array?.count == 4, "\(forgotten)")
        let row = snapshot(forgotten, full[3])
        let since = try #require(row?["forgotten"]?.string.flatMap(Time.parseRFC3339))
        let until = try #require(row?["recall_until"]?.string.flatMap(Time.parseRFC3339))
        #expect(since >= rig.now && until == since + 7 * RetentionRig.day)
        let table = try rig.installation.coordinator("snapshots", "--forgotten")
        #expect(table.output.contains("CAN BE RECALLED") && table.output.contains("until 20"), "\(table)")
        let refused = try rig.installation.coordinator(
            "restore",
            "lisbon",
            "--snapshot",
            full[3].hex,
            "--to",
            rig.installation.folder + "/restored"
        )
        #expect(refused.status == 1 && refused.error.contains("snapshot recall"), "\(refused)")

        // Nothing more goes, and the catalogue that is lost comes back with it.
        #expect(try rig.forget().status == 0)
        #expect(try rig.files(.forgotten) == gone)
        let before = try rig.installation.sql("SELECT id, state, forgotten FROM snapshots ORDER BY id")
        try rig.installation.sql("DELETE FROM snapshots")
        try rig.rebuild()
        #expect(
            try rig.installation.sql("SELECT id, state, forgotten FROM snapshots ORDER BY id") == before
        )

        let recalled = try rig.installation.coordinator("snapshot", "recall", full[3].hex)
        #expect(recalled.status == 0 && recalled.output.contains("snapshot pin"), "\(recalled)")
        #expect(try rig.files(.snapshots).contains(full[3]))
        #expect(try rig.states()[full[3].hex] == "present")
        #expect(try rig.repository.sideFiles(in: "forgotten").count == 6)
        let twice = try rig.installation.coordinator("snapshot", "recall", full[3].hex)
        #expect(twice.status == 0 && twice.output.contains("not forgotten"), "\(twice)")
        try rig.checkStock("recalled")
    }

    @Test func `a pin keeps a snapshot, with why, until it is taken away`() throws {
        let rig = try RetentionRig(retention: "{ full: { last: 1 } }")
        let ids = try (0..<3).map { try rig.add(Double($0) + 1) }
        try rig.rebuild()
        let pin = try rig.installation.coordinator(
            "snapshot",
            "pin",
            String(ids[2].hex.prefix(12)),
            "--why",
            "the wedding, all of it",
            environment: ["SUDO_USER": "anna"]
        )
        #expect(pin.status == 0 && pin.output.contains("the wedding"), "\(pin)")
        #expect(try rig.repository.pins().map(\.why) == ["the wedding, all of it"])
        let listed = try rig.installation.coordinator("snapshots", "lisbon", "--json")
        let shown = snapshot(listed, ids[2])?["pin"]
        #expect(shown?["why"]?.string == "the wedding, all of it" && shown?["by"]?.string == "anna")
        #expect(
            try rig.installation.coordinator("snapshots").output.contains("pinned: the wedding, all of it")
        )
        let done = try rig.forget()
        #expect(done.status == 0 && reasons(done, ids[2]) == ["pinned: the wedding, all of it"], "\(done)")
        #expect(try rig.files(.forgotten) == [ids[1]])

        // Without its row it counts all the same, and the row comes back.
        try rig.installation.sql("DELETE FROM pins")
        #expect(try rig.forget().status == 0)
        #expect(try rig.files(.forgotten) == [ids[1]])
        #expect(try rig.installation.sql("SELECT why FROM pins") == "the wedding, all of it\n")

        let unpin = try rig.installation.coordinator("snapshot", "unpin", ids[2].hex, "lisbon")
        #expect(unpin.status == 0, "\(unpin)")
        #expect(try rig.repository.pins().isEmpty)
        #expect(try rig.installation.sql("SELECT count(*) FROM pins") == "0\n")
        let again = try rig.installation.coordinator("snapshot", "unpin", ids[2].hex)
        #expect(again.status == 1 && again.error.contains("not pinned"), "\(again)")
        #expect(try rig.forget().status == 0)
        #expect(try rig.files(.forgotten) == [ids[1], ids[2]])
        // What is forgotten is recalled before it is pinned.
        let late = try rig.installation.coordinator("snapshot", "pin", ids[2].hex, "--why", "late")
        #expect(late.status == 1 && late.error.contains("snapshot recall"), "\(late)")
        for wrong in [["snapshot", "pin", ids[0].hex], ["snapshot", "pin", ids[0].hex, "--why", "a\nb"]] {
            #expect(
                try Outcome.of(
                    [Programs.coordinator, "--config", rig.installation.configuration] + wrong
                ).status == 64
            )
        }
        let nobody = try rig.installation.coordinator("snapshot", "pin", "zz", "--why", "x")
        #expect(nobody.status == 1 && nobody.error.contains("zz"), "\(nobody)")
    }

    @Test
    func `an open finding, a grant, the highest level and a clock ahead keep what the policy would not`()
        throws
    {
        let rig = try RetentionRig(retention: "{ full: { last: 1 } }")
        let ids = try (0..<5).map { try rig.add(Double($0) + 1) }
        let ahead = try rig.add(-40)
        try rig.rebuild()
        try rig.installation.sql(
            "INSERT INTO findings (host_id, kind, severity, message, freezes, opened, seen) SELECT id, 'library-shrank', "
                + "'critical', 'the library lost a third of its originals', true, 1, 1 FROM hosts"
        )
        let frozen = try rig.forget()
        #expect(frozen.status == 3, "\(frozen)")
        // And what lies ahead of the clock is found where it matters.
        let found = frozen.json?["findings"]?.strings ?? []
        #expect(found.count == 2 && found.first == "the library lost a third of its originals", "\(found)")
        #expect(found.last?.contains("in the future") == true, "\(found)")
        #expect(try rig.files(.forgotten).isEmpty)
        #expect(reasons(frozen, ids[2]) == ["a finding is open"])
        #expect(
            try rig.installation.sql("SELECT state || ' ' || error FROM runs").contains(
                "incomplete 4 snapshots"
            )
        )
        let dry = try rig.installation.coordinator("forget", "lisbon", "--dry-run")
        #expect(dry.status == 0 && dry.output.contains("lost a third"), "\(dry)")
        // So does one that concerns the coordinator itself, and none that is closed.
        try rig.installation.sql("UPDATE findings SET host_id = NULL")
        #expect(try rig.forget().status == 3)
        try rig.installation.sql("UPDATE findings SET closed = 2, closed_by = 'ana'")

        try rig.repository.writeProof(
            ProofRecord(snapshot: ids[3], level: .drilled, time: rig.now, figures: [:])
        )
        let secret = "decode(repeat('ab', 32), 'hex')"
        try rig.installation.sql(
            "INSERT INTO restore_grants (sha256, host_id, snapshot, includes, expires) "
                + "SELECT \(secret), id, '\(ids[2])', '', \(rig.now + RetentionRig.day) FROM hosts"
        )
        let done = try rig.forget()
        #expect(done.status == 0, "\(done)")
        #expect(reasons(done, ids[0]) == ["last", "newest captured"])
        #expect(reasons(done, ids[3]) == ["newest whole", "newest proved", "newest drilled"])
        #expect(reasons(done, ids[2]) == ["granted to another machine"])
        #expect(reasons(done, ahead) == ["its time lies ahead of the clock"])
        #expect(try rig.files(.forgotten) == [ids[1], ids[4]])
        // A grant that is over keeps nothing.
        try rig.installation.sql("UPDATE restore_grants SET expires = \(rig.now - 1)")
        #expect(try rig.forget().status == 0)
        #expect(try rig.files(.forgotten) == [ids[1], ids[2], ids[4]])
    }

    @Test func `others' locks are honoured, and a look needs none`() throws {
        let rig = try RetentionRig(retention: "{ full: { last: 1 } }")
        for days in 1...3 { try rig.add(Double(days)) }
        try rig.rebuild()
        // A stock client that lives.
        let lock = JSON([
            ("time", JSON(Time.rfc3339(Time.now()))), ("exclusive", JSON(false)),
            ("hostname", JSON(Host.name)), ("username", "anna"), ("pid", JSON(Int(getpid()))),
        ])
        let file = try rig.repository.write(lock.encoded(), to: .locks)
        let locked = try rig.forget()
        #expect(locked.status == 11 && locked.error.contains("anna"), "\(locked)")
        #expect(try rig.files(.forgotten).isEmpty)
        #expect(try rig.installation.sql("SELECT state, failure FROM runs") == "cancelled|locked\n")
        #expect(try rig.forget("--dry-run").status == 0)
        try rig.repository.remove(.locks, file)

        // Another of ours: whoever reads holds the repository shared.
        let host = Int(try rig.installation.sql("SELECT id FROM hosts").dropLast()) ?? 0
        let holder = try ChildProcess(
            [
                "psql", "-X", "-q", "-h", rig.installation.folder + "/state/catalogue/socket", "-U",
                "holdfast", "-d", "holdfast", "-c",
                "SELECT pg_advisory_lock_shared(\(0x484F_0002), \(host)), pg_sleep(600)",
            ],
            output: .nothing,
            error: .nothing
        )
        _ = try eventually("it holds the lock") {
            try rig.installation.sql(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
            )
                != "0\n" ? true : nil
        }
        let busy = try rig.forget()
        #expect(busy.status == 11 && busy.error.contains("busy"), "\(busy)")
        #expect(try rig.forget("--dry-run").status == 0)
        holder.signal(SIGKILL)
        _ = try holder.wait()
        try rig.installation.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' "
                + "AND pid <> pg_backend_pid()"
        )
        _ = try eventually("the lock is free") { try rig.forget().status == 0 ? true : nil }
        #expect(try rig.files(.forgotten).count == 2)
        // A run that waits is taken.
        try rig.installation.sql("DELETE FROM runs")
        try rig.installation.sql(
            "INSERT INTO runs (id, host_id, kind, state, requested) SELECT "
                + "'00000000-0000-4000-8000-000000000001', id, 'forget', 'queued', 1 FROM hosts"
        )
        #expect(try rig.forget().status == 0)
        #expect(
            try rig.installation.sql("SELECT id, state FROM runs")
                == "00000000-0000-4000-8000-000000000001|done\n"
        )
    }

    @Test func `what is not whole is not recalled, and what prune let go is told`() throws {
        let rig = try RetentionRig(retention: "{ full: { last: 1 } }")
        let ids = try (0..<3).map { try rig.add(Double($0) + 1) }
        try rig.rebuild()
        #expect(try rig.forget().status == 0)
        try rig.repository.dropForgotten(ids[1])
        let gone = try rig.installation.coordinator("snapshot", "recall", ids[1].hex)
        #expect(gone.status == 1 && gone.error.contains("grace"), "\(gone)")
        // A stock client knows nothing of forgotten snapshots.
        let prune = try Restic(rig.repository.path, password: rig.password).attempt(["prune"])
        #expect(prune.exit == .exit(0), "\(prune.text)")
        let broken = try rig.installation.coordinator("snapshot", "recall", ids[2].hex)
        #expect(broken.status == 25 && broken.error.contains("stock restic"), "\(broken)")
        #expect(try rig.files(.forgotten) == [ids[2]])
        #expect(try rig.installation.coordinator("check", "lisbon").status == 25)
        // The next who comes takes the row of what is gone away.
        #expect(try rig.forget().status == 0)
        #expect(try rig.states() == [ids[0].hex: "present", ids[2].hex: "forgotten"])
        try rig.checkStock("pruned by a stock client")
    }
}
