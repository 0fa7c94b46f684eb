import Glibc
import JSON
import Posix
import TestSupport
import Testing

/// What begins by itself, with the real programs. Everything is due once a year, at a moment that the tests bring forward.
@Suite("Scheduled runs", .serialized)
struct ScheduledRunTests {
    private static let yearly = """
        defaults: { schedule: { full: "0 0 1 1 *", database: "0 0 1 1 *", prune: "0 0 1 1 *", spread: 0s },
          retention: { full: all, database: all } }
        """

    private func trigger(_ installation: Installation, _ kinds: String...) throws {
        let list = kinds.map { "'\($0)'" }.joined(separator: ", ")
        _ = try eventually("there are jobs") {
            try installation.sql("SELECT count(*) FROM holdfast.jobs").hasPrefix("3") ? true : nil
        }
        try installation.sql(
            "UPDATE holdfast.jobs SET next = \(Time.now()) WHERE kind IN (\(list)); NOTIFY holdfast_schedule"
        )
    }

    private func job(_ installation: Installation, _ kind: String) throws -> JSON? {
        let jobs = try installation.coordinator("jobs", "lisbon", "--json")
        return jobs.json?["jobs"]?.array?.first { $0["kind"]?.string == kind }
    }

    private func runs(_ installation: Installation) throws -> [JSON] {
        try installation.coordinator("runs", "--json").json?["runs"]?.array ?? []
    }

    @Test func `what is due runs by itself, a full capture for one of the database too, and is shown`() throws
    {
        let joined = try MainJobTests.Joined(extra: Self.yearly)
        let installation = joined.installation
        try trigger(installation, "full", "database")
        _ = try eventually("it is done: \(installation.serveLog)", seconds: 60) {
            try job(installation, "full")?["last_state"]?.string == "done" ? true : nil
        }
        _ = try eventually("the database's occurrence is over with it") {
            try job(installation, "database")?["due"] == .null ? true : nil
        }
        let done = try runs(installation)
        #expect(done.map { $0["kind"]?.string } == ["full"])
        #expect(done.first?["scheduled"] == .bool(true))
        let id = try #require(done.first?["run"]?.string)
        let shown = try installation.coordinator("run", "show", String(id.prefix(8)))
        #expect(
            shown.status == 0 && shown.output.contains(id) && shown.output.contains("the schedule"),
            "\(shown)"
        )
        #expect(shown.output.contains("looked at") && shown.output.contains("\nlog\n"), "\(shown)")
        let table = try installation.coordinator("jobs")
        #expect(table.output.contains("0 0 1 1 *") && table.output.contains("done"), "\(table)")
        #expect(
            try installation.coordinator("runs", "lisbon", "--limit", "1").output.contains(
                String(id.prefix(8))
            )
        )
        #expect(try installation.coordinator("run", "show", "zz").status == 1)
        #expect(try installation.coordinator("runs", "--limit", "0").status == 64)

        // The agent is away: nothing is queued, the job says why, and it catches up when the agent is back.
        joined.agent.stop()
        _ = try eventually("the agent is gone") {
            try installation.sql("SELECT count(*) FROM holdfast.waiting_agents").hasPrefix("0") ? true : nil
        }
        try trigger(installation, "database")
        let waits = try eventually("it says why") { try job(installation, "database")?["waits"]?.string }
        #expect(waits.contains("agent"), "\(waits)")
        #expect(try runs(installation).count == 1)
        try joined.agent.run()
        _ = try eventually("it caught up", seconds: 60) {
            try job(installation, "database")?["last_state"]?.string == "done" ? true : nil
        }
        #expect(try runs(installation).map { $0["kind"]?.string } == ["database", "full"])
    }

    @Test func `what the coordinator does alone is a command of its own, whose end is taken up`() throws {
        let joined = try MainJobTests.Joined(extra: Self.yearly)
        let installation = joined.installation
        try trigger(installation, "prune")
        let ended = try eventually("the prune is over: \(installation.serveLog)", seconds: 60) {
            () -> JSON? in
            let run = try runs(installation).first
            return run?["ended"]?.string == nil ? nil : run
        }
        #expect(ended["kind"]?.string == "prune" && ended["scheduled"] == .bool(true))
        #expect(ended["state"]?.string == "done", "\(ended.text())")
        _ = try eventually("the job knows") {
            try job(installation, "prune")?["last_run"]?.string == ended["run"]?.string ? true : nil
        }
    }

    @Test func `forget follows a capture by itself`() throws {
        let joined = try MainJobTests.Joined(
            extra: """
                defaults: { schedule: { full: "0 0 1 1 *", database: never, prune: never },
                  retention: { full: { last: 1 }, database: all } }
                """
        )
        let installation = joined.installation
        for _ in 0..<2 { _ = try joined.backup() }
        _ = try eventually("there are jobs") { try job(installation, "forget") }
        // A capture that ended some minutes ago.
        try installation.sql("UPDATE holdfast.runs SET ended = ended - 600 * 1000000000::bigint")
        let run = try eventually("it is over: \(installation.serveLog)", seconds: 60) { () -> JSON? in
            try runs(installation).first { $0["kind"]?.string == "forget" && $0["ended"]?.string != nil }
        }
        #expect(run["state"]?.string == "done" && run["scheduled"] == .bool(true), "\(run.text())")
        let left = try installation.coordinator("snapshots", "lisbon", "--json").json?["snapshots"]?.array
        #expect(left?.count { $0["forgotten"]?.string == nil } == 1, "\(String(describing: left))")
        // Once.
        Time.sleep(seconds: 5)
        #expect(try runs(installation).count { $0["kind"]?.string == "forget" } == 1)
    }

    @Test func `what waits is cancelled by its host or its run, and who waits for it is told`() throws {
        let joined = try MainJobTests.Joined(extra: Self.yearly)
        let installation = joined.installation
        joined.agent.stop()
        let nothing = try installation.coordinator("cancel", "lisbon")
        #expect(nothing.status == 1 && nothing.error.contains("nothing"), "\(nothing)")
        #expect(try installation.coordinator("cancel", "0000").status == 1)
        for byRun in [false, true] {
            let waiting = try ChildProcess(
                [Programs.coordinator, "--config", installation.configuration, "backup", "lisbon"],
                output: .nothing,
                error: .nothing
            )
            let id = try eventually("it waits") {
                try runs(installation).first { $0["state"]?.string == "queued" }?["run"]?.string
            }
            let cancelled = try installation.coordinator("cancel", byRun ? String(id.prefix(13)) : "lisbon")
            #expect(cancelled.status == 0 && cancelled.output.contains("is cancelled"), "\(cancelled)")
            #expect(try waiting.wait() != .exit(0))
            let again = try installation.coordinator("cancel", id)
            #expect(again.status == 1 && again.error.contains("over already"), "\(again)")
        }
    }
}
