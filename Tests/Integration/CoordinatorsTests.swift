import Glibc
import JSON
import Posix
import TestSupport
import Testing

/// Two coordinators with a state folder each, on one catalogue and one folder of repositories.
@Suite("Several coordinators", .serialized)
struct CoordinatorsTests {
    final class Fleet {
        let database: String
        let first: Installation
        let second: Installation
        var agents: [AgentProcess] = []
        let hosts = ["lisbon", "porto"]
        private var triggered = 0

        init() throws {
            let server = try PostgresServer.shared.get()
            let name = "t\(randomHex(6))"
            try server.psql("CREATE DATABASE \(name) TEMPLATE template0")
            database = name
            // Once a year, at a moment that the tests bring forward.
            let extra = """
                catalogue: "postgres://holdfast@/\(name)?host=\(server.folder)&port=5432"
                defaults: { schedule: { full: "0 0 1 1 *", database: never, prune: never, spread: 0s }, retention: { full: all, database: all } }
                """
            first = try Installation(extra: extra)
            second = try Installation(extra: extra, repositories: first.folder + "/repositories")
            try first.initialise()
            try first.serve()
            for host in hosts {
                let agent = try AgentProcess(MainJobTests.Joined.sharedSample.get())
                try agent.join(first, token: first.addHost(host))
                agents.append(agent)
            }
        }

        /// The second coordinator serves too, and the agents know both.
        func serveBoth() throws {
            try Files.makeDirectories(second.folder + "/state")
            let recovery = "/state/recovery.json"
            try Files.writeAtomically(Files.read(first.folder + recovery), to: second.folder + recovery)
            let outcome = try second.coordinator("init", "--further", "--json")
            guard outcome.status == 0 else { throw Unexpected(outcome) }
            try second.serve()
            _ = try eventually("both are known") {
                try sql("SELECT count(*) FROM coordinators") == "2" ? true : nil
            }
            for agent in agents { try agent.run() }
            for agent in agents {
                _ = try eventually("the agent knows both: \(agent.log)") {
                    try agent.settings().contains("\(second.port)") ? true : nil
                }
            }
        }

        @discardableResult
        func sql(_ text: String) throws -> String {
            try PostgresServer.shared.get().psql("SET search_path = holdfast; \(text)", database: database)
        }

        /// Makes a full capture due now on every host.
        func trigger() throws {
            _ = try eventually("there are jobs") {
                try sql("SELECT count(*) FROM jobs") == "\(hosts.count)" ? true : nil
            }
            triggered += 1
            try sql(
                "UPDATE jobs SET next = \(Time.now()) WHERE due IS NULL AND run_id IS NULL; NOTIFY holdfast_schedule"
            )
        }

        /// Waits until every occurrence is over; each came to one good run.
        func settle(_ what: String) throws {
            let expected = "\(triggered * hosts.count)"
            _ = try eventually("\(what): all is done; \(first.serveLog)\n\(second.serveLog)", seconds: 120) {
                try sql("SELECT count(*) FROM runs WHERE state = 'done'") == expected
                    && sql("SELECT count(*) FROM jobs WHERE due IS NOT NULL OR run_id IS NOT NULL") == "0"
                    ? true : nil
            }
            // Time enough for one too many.
            Time.sleep(seconds: 3)
            #expect(try sql("SELECT count(*) FROM runs WHERE state = 'done'") == expected, "\(what)")
            #expect(
                try sql("SELECT count(*) FROM runs WHERE state IN ('queued', 'running')") == "0",
                "\(what)"
            )
            let each = try sql("SELECT count(*) FROM runs WHERE state = 'done' GROUP BY host_id")
            #expect(each.split(separator: "\n").allSatisfy { $0 == "\(triggered)" }, "\(what): \(each)")
            let overlaps = """
                SELECT count(*) FROM runs a JOIN runs b ON a.host_id = b.host_id AND a.id <> b.id
                    AND a.started < b.started AND a.ended > b.started
                """
            #expect(try sql(overlaps) == "0", "\(what)")
        }

        /// Waits until a run is under way and stops what works on it, so that it is cut off for sure.
        func stopUnderWay(_ coordinator: Installation) throws {
            _ = try eventually("a run is under way", seconds: 60) { () -> Bool? in
                guard try sql("SELECT count(*) FROM runs WHERE state = 'running'") != "0" else { return nil }
                for session in coordinator.sessions() { kill(session, SIGSTOP) }
                return try sql("SELECT count(*) FROM runs WHERE state = 'running'") != "0" ? true : nil
            }
        }

        /// Waits until both agents do.
        func awaitAgents() throws {
            _ = try eventually("both agents wait", seconds: 60) {
                try sql("SELECT count(DISTINCT host_id) FROM waiting_agents") == "\(hosts.count)" ? true : nil
            }
        }
    }

    @Test func `one is killed and the other takes over, no job is lost or run twice`() throws {
        let fleet = try Fleet()
        try fleet.serveBoth()
        try fleet.awaitAgents()
        try fleet.trigger()
        try fleet.settle("both are up")

        var cut = 0
        for round in 0..<(isLong ? 6 : 2) {
            // The one that goes is the one that the agents are at, and has the duty in the first round.
            let (gone, stays) = round % 2 == 0 ? (fleet.first, fleet.second) : (fleet.second, fleet.first)
            try fleet.trigger()
            try fleet.stopUnderWay(gone)
            gone.stop(SIGKILL)
            try fleet.settle("round \(round): one was killed during a capture")
            cut = Int(try fleet.sql("SELECT count(*) FROM runs WHERE state = 'interrupted'")) ?? 0
            #expect(cut > round, "round \(round)")
            // What becomes due while there is only one.
            try fleet.trigger()
            try fleet.settle("round \(round): one is up")
            let jobs = try stays.coordinator("jobs", "--json")
            #expect(
                jobs.json?["jobs"]?.array?.allSatisfy { $0["last_state"]?.string == "done" } == true,
                "\(jobs)"
            )
            try gone.serve()
        }
        // Whatever was interrupted, what is there is whole.
        for host in fleet.hosts {
            let restic = try Outcome.of(
                ["restic", "--no-cache", "-r", fleet.first.repository(host), "check", "--read-data"],
                environment: ["RESTIC_PASSWORD": try fleet.first.password(host)]
            )
            #expect(restic.status == 0, "\(restic)")
            let files = try Directory.names(fleet.first.repository(host) + "/snapshots").count
            #expect(try fleet.sql("SELECT count(*) / 2 FROM runs WHERE state = 'done'") == "\(files)")
        }
    }

    @Test func `a further coordinator says what it lacks`() throws {
        let fleet = try Fleet()
        let alone = try fleet.second.coordinator("init", "--further")
        #expect(
            alone.status == 1 && alone.error.contains("recovery.json") && alone.error.contains("copy"),
            "\(alone)"
        )
        let own = try Installation()
        let lone = try own.coordinator("init", "--further")
        #expect(lone.status == 78 && lone.error.contains("catalogue:"), "\(lone)")
        // One of another fleet, with another passphrase.
        try own.initialise()
        try Files.makeDirectories(fleet.second.folder + "/state")
        let foreign = try Files.read(own.folder + "/state/recovery.json")
        try Files.writeAtomically(foreign, to: fleet.second.folder + "/state/recovery.json")
        let wrong = try fleet.second.coordinator("init", "--further")
        #expect(
            wrong.status == 1 && wrong.error.contains("lisbon") && wrong.error.contains("recovery.json"),
            "\(wrong)"
        )
    }
}
