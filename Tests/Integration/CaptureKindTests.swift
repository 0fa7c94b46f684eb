import Glibc
import JSON
import Posix
import SSH
import TestSupport
import Testing
import Wire

@Suite("Captures of the database alone", .serialized)
struct CaptureKindTests {
    @Test
    func `both kinds are taken, told apart everywhere, read by restic, and only full ones restored unasked`()
        throws
    {
        let joined = try MainJobTests.Joined(extra: "defaults: {scope: everything}")
        let installation = joined.installation
        func backup(_ arguments: String...) throws -> JSON {
            let outcome = try Outcome.of(
                [Programs.coordinator, "--config", installation.configuration, "backup", "lisbon", "--json"]
                    + arguments
            )
            guard outcome.status == 0, let run = outcome.json else { throw Unexpected(outcome) }
            return run
        }
        func short(_ run: JSON) throws -> String { String(try #require(run["snapshot"]?.string).prefix(8)) }

        // Before there is a full one, nothing offers the other in its place.
        let first = try backup("--database-only")
        #expect(first["state"]?.string == "done" && first["kind"]?.string == "database")
        let target = installation.folder + "/restored"
        let none = try installation.coordinator("restore", "lisbon", "--to", target)
        #expect(none.status == 1 && none.error.contains("no snapshot with its library"), "\(none)")
        #expect(try installation.coordinator("restore", "lisbon", "--remote").status == 1)
        #expect(try installation.coordinator("ls", "lisbon").status == 1)

        let full = try backup()
        #expect(full["kind"]?.string == "full" && (full["files_sent"]?.int ?? 0) > 20)
        // The dump is cut in the same way, so that little of it is new.
        let third = try backup("--database-only")
        let sent = try #require(third["bytes_sent"]?.int)
        #expect((third["bytes_stored"]?.int ?? .max) < sent / 4, "\(third.text())")
        #expect(third["files_read"]?.int == 0)
        // The next full one compares with the full one before.
        let fourth = try backup()
        #expect(fourth["files_read"]?.int == 0, "\(fourth.text())")
        // The agent may ask for it itself.
        let last = try joined.agent.command("backup", "--database-only")
        #expect(last.status == 0, "\(last)")

        let listed = try #require(installation.coordinator("snapshots", "lisbon", "--json").json)
        let rows = listed["snapshots"]?.array ?? []
        #expect(rows.map { $0["kind"]?.string } == ["database", "full", "database", "full", "database"])
        #expect(rows.map { $0["scope"]?.string } == [nil, "everything", nil, "everything", nil])
        let table = try installation.coordinator("snapshots", "lisbon").output
        #expect(table.contains("KIND") && table.contains("database"), "\(table)")
        let status = try #require(installation.coordinator("status", "--json").json)
        #expect(status["hosts"]?.array?.first?["snapshot"]?["id"]?.string == fourth["snapshot"]?.string)

        // Stock restic: the tags, one path, everything readable.
        let check = try joined.restic("check", "--read-data")
        #expect(check.status == 0, "\(check)")
        for (kind, count) in [("full", 2), ("database", 3)] {
            let found = try JSON(
                parsing: Array(joined.restic("snapshots", "--json", "--tag", "kind:\(kind)").output.utf8)
            )
            #expect(found.array?.count == count)
            #expect(found.array?.allSatisfy { $0["paths"]?.strings == ["/"] } == true)
        }
        let names = try joined.restic("ls", short(third)).output.split(separator: "\n").map(String.init)
        #expect(names.contains { $0.hasPrefix("/immich/backups/immich-db-backup-") && $0.hasSuffix(".sql") })
        #expect(
            !names.contains { $0.hasPrefix("/immich/upload") } && names.contains("/deployment/facts.json")
        )
        #expect(try installation.coordinator("check", "lisbon", "--read-data").status == 0)

        // The newest full one is what is restored; one of the database alone on demand, and it is said.
        let restored = try installation.coordinator("restore", "lisbon", "--to", target, "--json")
        #expect(restored.status == 0 && restored.json?["snapshot"]?.string == fourth["snapshot"]?.string)
        let differences = try TreeListing(joined.sample.uploadLocation).differences(
            to: TreeListing(target + "/immich")
        ).filter { !$0.hasPrefix("extra: backups/immich-db-backup-") }
        #expect(differences == [])
        let alone = try installation.coordinator(
            "restore",
            "lisbon",
            "--snapshot",
            short(third),
            "--to",
            target + "-alone"
        )
        #expect(alone.status == 0 && alone.error.contains("holds the database alone"), "\(alone)")
        #expect(try Directory.names(target + "-alone/immich") == [Array("backups".utf8)])
        #expect(try Directory.names(target + "-alone/immich/backups").count == 1)
        let look = try installation.coordinator("ls", "lisbon", "immich", "--snapshot", short(third))
        #expect(look.status == 0 && look.error.contains("holds the database alone"), "\(look)")

        // What happened is written down.
        let log = try installation.sql(
            "SELECT line FROM holdfast.run_log WHERE run_id = '\(try #require(fourth["run"]?.string))' ORDER BY id"
        )
        for part in ["a full capture starts", "the dump begins", "the dump is whole", "is published", "done"]
        {
            #expect(log.contains(part), "\(log)")
        }
        #expect(log.split(separator: "\n").count < 40)

        // A catalogue that is made again knows the kinds too.
        installation.stop()
        joined.agent.stop()
        try Files.removeTree(installation.folder + "/state/catalogue")
        let rebuilt = try installation.coordinator("catalogue", "rebuild")
        #expect(rebuilt.status == 0, "\(rebuilt)")
        let again = try #require(installation.coordinator("snapshots", "lisbon", "--json").json)
        #expect(
            again["snapshots"]?.array?.map { $0["kind"]?.string } == rows.map { $0["kind"]?.string }
        )
    }

    private struct Place {
        let installation: Installation
        let agent: ScriptedAgent

        init() throws {
            installation = try Installation()
            try installation.initialise()
            try installation.serve()
            agent = try ScriptedAgent(installation, host: "lisbon")
        }

        func untilRun(is state: String) throws -> JSON {
            try eventually("the run is \(state)") {
                let run = try installation.run(of: "lisbon")
                return run?["state"]?.string == state ? run : nil
            }
        }
    }

    @Test func `an interrupted full capture goes on after one of the database alone`() throws {
        let place = try Place()
        let agent = place.agent
        let file = ScriptedAgent.file("film.mov", 48 << 20)
        let bytes = randomBytes(48 << 20)
        try agent.begin()
        #expect(try agent.listWithMarker([file]).map(\.offset) == [0])
        try agent.data(Array(bytes.prefix(40 << 20)))
        try agent.stream.flush()
        _ = try eventually("it has come") {
            try place.installation.run(of: "lisbon")?["bytes_sent"]?.int.flatMap { $0 > 40 << 20 ? $0 : nil }
        }
        agent.channel.breaker.breakOff()
        _ = try place.untilRun(is: "interrupted")

        _ = try agent.backUpDatabase()
        // One of the database alone that is cut leaves nothing in its place either.
        try agent.connect()
        try agent.request(.database)
        try agent.dump()
        try agent.list([ScriptedAgent.folder("deployment"), ScriptedAgent.folder("immich")])
        let facts = ScriptedAgent.file("facts.json", 5)
        #expect(try agent.list([facts]).count == 1)
        agent.channel.breaker.breakOff()
        _ = try eventually("its session is over") { place.installation.sessions().isEmpty ? true : nil }

        try agent.begin()
        let wanted = try agent.listWithMarker([file])
        let offset = try #require(wanted.first?.offset)
        #expect(offset > 16 << 20, "\(offset)")
        try agent.data(Array(bytes.dropFirst(Int(offset))))
        var end = FileEnd(status: .stable)
        (end.size, end.inode) = (file.size, file.inode)
        try agent.stream.send(AgentMessage.fileEnd(end))
        _ = try agent.commit()
        agent.channel.close(seconds: 1)
        let check = try place.installation.coordinator("check", "lisbon", "--read-data", "--json")
        #expect(check.json?["verdict"]?.string == "passed", "\(check)")
        #expect(!Files.exists(place.installation.repository("lisbon") + "/holdfast/interrupted"))
    }

    @Test(arguments: ["a library", "a folder", "a file in backups", "nothing", "a folder in backups"])
    func `a capture of the database alone that brings more, or less, is refused`(what: String) throws {
        let place = try Place()
        let agent = place.agent
        try agent.connect()
        try agent.request(.database)
        try agent.dump()
        #expect(throws: (any Error).self) {
            try agent.list([ScriptedAgent.folder("immich")])
            switch what {
            case "a library":
                try agent.list(["backups", "library", "upload"].map(ScriptedAgent.folder))
            case "a folder": try agent.list([ScriptedAgent.folder("upload")])
            case "nothing": try agent.list([])
            case "a file in backups":
                try agent.list([ScriptedAgent.folder("backups")])
                try agent.list([ScriptedAgent.file("other.sql", 0)])
            default:
                try agent.list([ScriptedAgent.folder("backups")])
                try agent.list([ScriptedAgent.folder("more")])
            }
            _ = try agent.commit()
        }
        agent.channel.close(seconds: 1)
        let state = try eventually("the run is over") {
            let run = try place.installation.sql("SELECT state FROM holdfast.runs WHERE ended IS NOT NULL")
            return run.isEmpty ? nil : run
        }
        #expect(state == "failed\n")
        // And a full one is not content with the dump.
        try agent.connect()
        try agent.request()
        try agent.dump()
        try agent.list([ScriptedAgent.folder("immich")])
        #expect(throws: (any Error).self) { try agent.list([ScriptedAgent.folder("backups")]) }
        agent.channel.close(seconds: 1)
    }

    @Test func `a running capture is cancelled though its agent is silent, and the next goes on from there`()
        throws
    {
        let place = try Place()
        let agent = place.agent
        let file = ScriptedAgent.file("film.mov", 48 << 20)
        let bytes = randomBytes(48 << 20)
        try agent.begin()
        _ = try agent.listWithMarker([file])
        try agent.data(Array(bytes.prefix(40 << 20)))
        try agent.stream.flush()
        _ = try place.untilRun(is: "running")
        try place.installation.sql("UPDATE holdfast.runs SET cancel_requested = 1 WHERE state = 'running'")
        guard case .abort(let reason) = try agent.hear() else { throw Late(what: "abort") }
        #expect(reason.contains("cancelled"))
        try agent.stream.send(AgentMessage.failed(message: ""))
        let run = try place.untilRun(is: "cancelled")
        #expect(run["failure"]?.string == "cancelled" && run["snapshot"]?.string == nil, "\(run.text())")
        let log = try place.installation.sql("SELECT line FROM holdfast.run_log ORDER BY id")
        #expect(log.contains("cancelled: it was cancelled") && log.contains("checkpoint"), "\(log)")

        // The same connection serves the next.
        try agent.request()
        try agent.dump()
        try agent.listUpToUpload()
        let offset = try #require(try agent.listWithMarker([file]).first?.offset)
        #expect(offset > 16 << 20, "\(offset)")
        agent.channel.close(seconds: 1)
    }

    @Test func `a session takes what waits of both kinds, the full one first`() throws {
        let place = try Place()
        let agent = place.agent
        try place.installation.sql(
            """
            INSERT INTO holdfast.runs (id, host_id, kind, state, requested)
            SELECT gen_random_uuid(), id, kind, 'queued', 1
            FROM holdfast.hosts, unnest(ARRAY['database', 'full', 'prune']) kind
            """
        )
        try agent.connect()
        for expected in [CaptureKind.full, .database] {
            try agent.stream.send(AgentMessage.wait)
            guard case .capture(_, let kind, _, _) = try agent.hear() else { throw Late(what: "a capture") }
            #expect(kind == expected)
            try agent.stream.send(AgentMessage.clock(0))
            try agent.stream.send(AgentMessage.failed(message: "not today"))
        }
        try agent.stream.send(AgentMessage.wait)
        try agent.stream.flush()
        let states = try eventually("both are over") {
            let found = try place.installation.sql("SELECT kind, state FROM holdfast.runs ORDER BY kind")
            return found.contains("running") ? nil : found
        }
        #expect(states == "database|failed\nfull|failed\nprune|queued\n")
        agent.channel.close(seconds: 1)
    }

    @Test func `an agent's clock is looked at, and it is told where the coordinators are`() throws {
        let place = try Place()
        let agent = place.agent
        func skew() throws -> Int64? {
            Int64(
                try place.installation.sql("SELECT clock_skew FROM holdfast.hosts").filter {
                    !$0.isWhitespace
                }
            )
        }
        let hour: Int64 = 3600 * 1_000_000_000
        try agent.connect()
        agent.channel.close(seconds: 1)
        #expect(try eventually("it is written down") { try skew() } == 0)
        // An hour behind: the connection's time can only make it seem less.
        agent.clockSkew = -hour
        try agent.connect()
        let behind = try eventually("it is written down") { try skew().flatMap { $0 == 0 ? nil : $0 } }
        #expect(behind >= -hour && behind < -hour / 2, "\(behind)")
        // It is looked at with each capture too.
        agent.clockSkew = hour
        try agent.request()
        let ahead = try eventually("it is written down") { try skew().flatMap { $0 < 0 ? nil : $0 } }
        #expect(ahead <= hour && ahead > hour / 2, "\(ahead)")
        #expect(agent.coordinators.map(\.address) == ["127.0.0.1:\(place.installation.port)"])
        let key = try KeyPair.load(place.installation.folder + "/state/host_key").publicKey.fingerprint
        #expect(agent.coordinators.map(\.hostKey) == [key.text])
        try agent.dump()
        agent.channel.close(seconds: 1)
        // The furthest that can be said harms nobody.
        for extreme in [Int64.min, .max] {
            agent.clockSkew = extreme
            _ = try agent.backUpDatabase()
        }
    }

    @Test func `programs of another protocol version are told so`() throws {
        let place = try Place()
        let channel = try SSHClient.connect(
            host: "127.0.0.1",
            port: place.installation.port,
            expectedHostKey: KeyPair.load(place.installation.folder + "/state/host_key").publicKey
                .fingerprint,
            key: place.agent.key
        )
        defer { channel.close(seconds: 1) }
        let stream = FrameStream(channel)
        try stream.send(AgentMessage.hello(version: 2, program: "holdfast-agent 0.1.0"))
        guard case .refused(let reason) = try stream.receiveFromCoordinator() else {
            throw Late(what: "refused")
        }
        #expect(reason.contains("version 2") && reason.contains("the same Holdfast release"), "\(reason)")
    }

    @Test(.enabled(if: isLong)) func `a host whose agent only waits is in contact`() throws {
        let place = try Place()
        try place.agent.connect()
        try place.agent.stream.send(AgentMessage.wait)
        try place.agent.stream.flush()
        _ = try eventually("the greeting is written down") {
            try place.installation.sql("SELECT 1 FROM holdfast.hosts WHERE last_contact > 0").isEmpty
                ? nil : true
        }
        try place.installation.sql("UPDATE holdfast.hosts SET last_contact = 0")
        _ = try eventually("a minute later it is known to be there", seconds: 90) {
            try place.installation.sql("SELECT 1 FROM holdfast.hosts WHERE last_contact > 0").isEmpty
                ? nil : true
        }
        place.agent.channel.close(seconds: 1)
    }
}
