import Glibc
import JSON
import Posix
import TestSupport
import Testing

/// Real servers of mail and HTTP, the real service, and findings that are written into its catalogue.
@Suite("Alarms", .serialized)
struct AlarmTests {
    private let web: OutwardServer
    private let mail: OutwardServer
    private let installation: Installation
    /// One that only its file knows.
    private let secret = "sEcReT\(randomHex(8))"

    init() throws {
        web = try OutwardServer(.http)
        mail = try OutwardServer(.smtp)
        let file = try web.file("secret", secret)
        // Not the coordinator itself, of which this machine may have something to say too.
        let hosts = "[lisbon, \((1...50).map { "host-\($0)" }.joined(separator: ", "))]"
        installation = try Installation(
            extra: """
                alarms:
                  hook: { webhook: { url: 'http://127.0.0.1:\(web.port)/hook', secret_file: \(file) }, hosts: \(hosts) }
                  mail:
                    email: { server: 'smtp://127.0.0.1:\(mail.port)', from: holdfast@nas.example, to: me@example.org }
                    severities: critical
                pings: { url: 'http://127.0.0.1:\(web.port)/own/uuid-of-the-coordinator' }
                hosts:
                  lisbon: { ping: 'http://127.0.0.1:\(web.port)/ping/uuid-of-lisbon' }
                """
        )
        try installation.initialise()
    }

    private static let now = "(extract(epoch FROM now()) * 1e9)::bigint"

    /// Opens a finding that began a minute ago, and says so.
    private func find(_ host: String, severity: String = "critical", kind: String = "test-fault") throws {
        try installation.sql(
            """
            INSERT INTO holdfast.findings (host_id, kind, severity, message, opened, seen)
            SELECT id, '\(kind)', '\(severity)', 'something is wrong with ' || name, \(Self.now) - 60e9::bigint, \(Self.now)
            FROM holdfast.hosts WHERE name LIKE '\(host)';
            NOTIFY holdfast_findings
            """
        )
    }

    private func end(_ kind: String = "test-fault") throws {
        try installation.sql(
            "UPDATE holdfast.findings SET closed = \(Self.now) - 40e9::bigint WHERE kind = '\(kind)' AND closed IS NULL; "
                + "NOTIFY holdfast_findings"
        )
    }

    /// Moves what was told by an hour and more into the past.
    private func pass(hours: Int) throws {
        try installation.sql(
            """
            UPDATE holdfast.alarm_messages SET created = created - \(hours)::bigint * 3600000000000;
            UPDATE holdfast.alarm_states SET told = told - \(hours)::bigint * 3600000000000;
            NOTIFY holdfast_findings
            """
        )
    }

    private func hooks() throws -> [JSON] {
        try web.requests.filter { $0["path"]?.string == "/hook" && $0["status"]?.int == 200 }.map {
            try JSON(parsing: $0["body"]?.string ?? "")
        }
    }

    /// The mails that tell this.
    private func letters(_ text: String = "something is wrong with lisbon") -> [JSON] {
        mail.mails.filter { $0["text"]?.string?.contains(text) == true }
    }

    /// Waits until the duty has come round twice, so that what it would tell is told.
    private func settle() throws {
        for _ in 0..<2 {
            try installation.sql("DELETE FROM holdfast.duties WHERE kind = 3; NOTIFY holdfast_findings")
            _ = try eventually("the duty comes round") {
                try installation.sql("SELECT done FROM holdfast.duties WHERE kind = 3").isEmpty ? nil : true
            }
        }
    }

    /// Holds the run lock of a host under the name of a lease, as whoever works on it does.
    private func hold(host: String, lease: String) throws -> ChildProcess {
        let holder = try ChildProcess(
            [
                "psql", "-X", "-q", "-h", installation.folder + "/state/catalogue/socket", "-U", "holdfast",
                "-d",
                "holdfast", "-c", "SET application_name = 'holdfast \(lease)'", "-c",
                "SELECT pg_advisory_lock(1213136897, id) FROM holdfast.hosts WHERE name = '\(host)'", "-c",
                "SELECT pg_sleep(600)",
            ],
            output: .nothing,
            error: .nothing
        )
        _ = try eventually("the lock is held") {
            try installation.sql("SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'")
                .isEmpty
                ? nil : true
        }
        return holder
    }

    @Test func `a start, a reminder and an end are told once each, whatever happens to the service`() throws {
        _ = try installation.addHost("lisbon")
        try installation.serve()
        try find("lisbon")
        let first = try eventually("a webhook; \(installation.serveLog)") { try hooks().first }
        #expect(first["severity"]?.string == "critical")
        #expect(first["subject"]?.string == "Holdfast: critical: lisbon: test fault")
        #expect(first["findings"]?[0]?["message"]?.string == "something is wrong with lisbon")
        let letter = try eventually("a mail; \(installation.serveLog)") { letters().first }
        #expect(letter["text"]?.string?.contains("Next: holdfast-coordinator status") == true)
        let request = try #require(web.requests.first { $0["path"]?.string == "/hook" })
        let mark = try ChildProcess.run(
            ["openssl", "dgst", "-sha256", "-hmac", secret],
            input: Array((request["body"]?.string ?? "").utf8)
        )
        let digits = String(decoding: mark.output, as: UTF8.self).split(separator: " ").last ?? ""
        #expect(request["headers"]?["x-holdfast-signature"]?.string == "sha256=\(digits.dropLast())")

        // Killed after it, started again: nothing is told again.
        _ = try eventually("it is written down") {
            try installation.sql(
                "SELECT count(DISTINCT alarm) FROM holdfast.alarm_messages WHERE delivered IS NOT NULL"
            )
            .hasPrefix("2") ? true : nil
        }
        installation.stop(SIGKILL)
        try installation.serve()
        try settle()
        #expect(try hooks().count == 1 && letters().count == 1)

        try pass(hours: 25)
        let reminder = try eventually("a reminder") { try hooks().dropFirst().first }
        #expect(reminder["subject"]?.string == "Holdfast: still critical: lisbon: test fault")
        _ = try eventually("a reminder by mail") { letters().count == 2 ? true : nil }

        // Told while the service is away, so that it is new to the next one.
        installation.stop()
        let other = try installation.coordinator("alarm", "list", "--json")
        #expect(other.status == 0, "\(other)")
        try installation.serve()
        try end()
        try pass(hours: 1)
        let over = try eventually("an end") { try hooks().dropFirst(2).first }
        #expect(
            over["severity"]?.isNull == true
                && over["subject"]?.string == "Holdfast: over: lisbon: test fault"
        )
        try settle()
        #expect(try hooks().count == 3)
        let list = try installation.coordinator("alarm", "list")
        #expect(
            list.output.contains("hook") && list.output.contains("webhook") && list.output.contains("ago")
        )
        for text in [installation.serveLog, list.output] { #expect(!text.contains(secret)) }
    }

    @Test func `fifty hosts that fail are one message, and a channel that was down tells everything once`()
        throws
    {
        try installation.serve()
        web.stop()
        try installation.sql(
            "INSERT INTO holdfast.hosts (name, added) SELECT 'host-' || n, \(Self.now) FROM generate_series(1, 50) n"
        )
        try find("host-%")
        let letter = try eventually("a mail; \(installation.serveLog)") { letters("host-").first }
        #expect(letter["subject"]?.string?.hasSuffix("critical on 50 hosts") == true)
        #expect(letter["text"]?.string?.split(separator: "\n").count { $0.hasPrefix("CRITICAL host-") } == 50)
        _ = try eventually("an attempt") { try waiting("attempts") == "1" ? true : nil }

        // News join what waits.
        try find("host-7", severity: "warning", kind: "later-fault")
        _ = try eventually("it joins") {
            try installation.sql("SELECT body FROM holdfast.alarm_messages WHERE alarm = 'hook'").contains(
                "Earlier"
            ) ? true : nil
        }
        try retry()
        // The channel itself is a finding now, which the other one tells.
        try pass(hours: 1)
        _ = try eventually("a finding about the channel") {
            try installation.sql(
                "SELECT subject FROM holdfast.findings WHERE kind = 'alarm-channel' AND closed IS NULL"
            ).hasPrefix("hook") ? true : nil
        }
        try installation.sql(
            "UPDATE holdfast.findings SET opened = opened - 60000000000 WHERE kind = 'alarm-channel'; NOTIFY holdfast_findings"
        )
        _ = try eventually("a mail about the channel; \(installation.serveLog)") {
            letters("alarm hook is not delivered").first {
                $0["text"]?.string?.contains("holdfast-coordinator alarm test hook") == true
            }
        }
        let list = try installation.coordinator("alarm", "list", "--json")
        #expect(
            list.json?["alarms"]?[0]?["waiting"]?.int == 1
                && list.json?["alarms"]?[0]?["error"]?.string != nil
        )

        try web.start()
        try retry()
        let late = try eventually("what waited; \(installation.serveLog)") { try hooks().first }
        let text = late["text"]?.string ?? ""
        #expect(
            text.hasPrefix("WARNING host-7:")
                && text.split(separator: "\n").count { $0.hasPrefix("CRITICAL host-") } == 50
        )
        #expect(late["findings"]?.array?.count == 51)
        _ = try eventually("the finding is closed") {
            try installation.sql(
                "SELECT count(*) FROM holdfast.findings WHERE kind = 'alarm-channel' AND closed IS NULL"
            ).hasPrefix("0") ? true : nil
        }
        try settle()
        #expect(try hooks().count == 1)
    }

    @Test func `what nobody takes for three days is given up and told anew`() throws {
        _ = try installation.addHost("lisbon")
        try web.answer(#"{"status": 500}"#)
        try installation.serve()
        try find("lisbon", severity: "warning")
        _ = try eventually("an attempt") { try waiting("attempts") == "1" ? true : nil }
        try web.answer(nil)
        try pass(hours: 73)
        let anew = try eventually("told anew; \(installation.serveLog)") { try hooks().first }
        #expect(anew["subject"]?.string == "Holdfast: warning: lisbon: test fault")
        let events = try installation.sql("SELECT message FROM holdfast.events WHERE kind = 'alarm-dropped'")
        #expect(events.contains("alarm hook: a message could not be delivered for 3 d 1 h"))
    }

    @Test func `checks elsewhere hear of runs and of the coordinator`() throws {
        _ = try installation.addHost("lisbon")
        try installation.serve()
        func requests(_ prefix: String) -> [JSON] {
            web.requests.filter { $0["path"]?.string?.hasPrefix(prefix) == true }
        }
        let lease = "00000000-0000-4000-8000-0000000000ff"
        let holder = try hold(host: "lisbon", lease: lease)
        defer {
            kill(holder.pid, SIGKILL)
            waitpid(holder.pid, nil, 0)
        }
        let good = "00000000-0000-4000-8000-000000000001"
        let bad = "00000000-0000-4000-8000-000000000002"
        for id in [good, bad] {
            try installation.sql(
                """
                INSERT INTO holdfast.runs (id, host_id, kind, state, holder, requested, started)
                SELECT '\(id)', id, 'full', 'running', '\(lease)', \(Self.now), \(Self.now) FROM holdfast.hosts WHERE name = 'lisbon';
                NOTIFY holdfast_runs
                """
            )
        }
        _ = try eventually("starts; \(installation.serveLog)") {
            requests("/ping/uuid-of-lisbon/start").count == 2 ? true : nil
        }
        #expect(requests("/ping/uuid-of-lisbon/start?rid=\(good)").count == 1)
        try web.answer(#"{"status": 503}"#)
        for (id, state) in [(good, "done"), (bad, "failed")] {
            try installation.sql(
                """
                UPDATE holdfast.runs SET state = '\(state)', ended = \(Self.now), error = 'no space left'
                WHERE id = '\(id)'; NOTIFY holdfast_runs
                """
            )
        }
        _ = try eventually("they were tried") {
            try installation.sql("SELECT count(*) FROM holdfast.run_pings WHERE attempts > 0").hasPrefix("2")
                ? true : nil
        }
        try web.answer(nil)
        try installation.sql("UPDATE holdfast.run_pings SET next_try = 0; NOTIFY holdfast_runs")
        func ended(_ suffix: String) -> JSON? {
            requests("/ping/uuid-of-lisbon\(suffix)").first { $0["status"]?.int == 200 }
        }
        let success = try eventually("success") { ended("?rid=\(good)") }
        #expect(success["method"]?.string == "POST")
        let failure = try eventually("failure") { ended("/fail?rid=\(bad)") }
        #expect(failure["body"]?.string?.contains("no space left") == true)
        try settle()
        #expect(requests("/ping/").count { $0["status"]?.int == 200 } == 4)
        #expect(!installation.serveLog.contains("uuid-of"))

        let own = try eventually("the coordinator's own; \(installation.serveLog)", seconds: 120) {
            requests("/own/").first
        }
        #expect(
            own["path"]?.string == "/own/uuid-of-the-coordinator"
                && own["body"]?.string?.contains("findings are open") == true
        )
    }

    @Test func `a test message goes through every channel, and says which one fails`() throws {
        let good = try installation.coordinator("alarm", "test")
        #expect(
            good.status == 0 && good.output.contains("hook: taken by http://127.0.0.1:\(web.port) in"),
            "\(good)"
        )
        #expect(mail.mails.first?["subject"]?.string == "Holdfast: test of alarm mail")
        try web.answer(#"{"status": 403}"#)
        let bad = try installation.coordinator("alarm", "test", "--json")
        #expect(bad.status == 1, "\(bad)")
        #expect(
            bad.json?["alarms"]?[0]?["delivered"]?.bool == false
                && bad.json?["alarms"]?[1]?["delivered"]?.bool == true
        )
        #expect(try installation.coordinator("alarm", "test", "mail").status == 0)
        #expect(
            try installation.coordinator("alarm", "test", "nobody").error.contains("there are: hook, mail")
        )
        chmod(web.folder + "/secret", 0o644)
        let open = try installation.coordinator("alarm", "test", "hook")
        #expect(open.status == 1 && open.output.contains("chmod o-r"), "\(open)")
    }

    private func waiting(_ column: String) throws -> String {
        try installation.sql(
            "SELECT \(column) FROM holdfast.alarm_messages WHERE alarm = 'hook' AND delivered IS NULL"
        )
        .filter { !$0.isNewline }
    }

    private func retry() throws {
        try installation.sql("UPDATE holdfast.alarm_messages SET next_try = 0; NOTIFY holdfast_findings")
    }
}

/// An agent that reaches no coordinator tells somebody itself.
@Suite("An agent's silence", .serialized)
struct SilenceTests {
    @Test func `it is told once for each interval, through restarts, and when it is over`() throws {
        let web = try OutwardServer(.http)
        let installation = try Installation()
        try installation.initialise()
        let sample = try SampleHost(photos: 1, photoSize: 1000)
        let agent = try AgentProcess(sample)
        try installation.serve()
        try agent.join(installation, token: installation.addHost("lisbon"))
        installation.stop()
        let token = try web.file("token", "tk_SilenceSecret")
        let lines = """
            silence:
              after: 26h
              alarm: { ntfy: { url: 'http://127.0.0.1:\(web.port)/silence', token_file: \(token) } }

            """
        try Files.writeAtomically(
            Array((try agent.settings() + lines).utf8),
            to: agent.folder + "/agent.yaml"
        )
        let test = try agent.command("alarm", "test")
        #expect(test.status == 0 && test.output.contains("taken by http://127.0.0.1:\(web.port)"), "\(test)")

        // The last contact was 27 hours ago.
        let hour: Int64 = 3_600_000_000_000
        let file = agent.folder + "/agent.silence"
        func write(contact: Int64, told: Int64? = nil) throws {
            let since = told == nil ? "null" : "\(contact)"
            let text =
                "{\"contact\": \(contact), \"told\": \(told.map { "\($0)" } ?? "null"), \"since\": \(since)}"
            try Files.writeAtomically(Array(text.utf8), to: file)
        }
        try write(contact: Time.now() - 27 * hour)
        try agent.run()
        let first = try eventually("the silence is told; \(agent.log)", seconds: 120) {
            web.requests.dropFirst().first
        }
        #expect(first["headers"]?["authorization"]?.string == "Bearer tk_SilenceSecret")
        #expect(
            first["headers"]?["title"]?.string == "Holdfast: critical: \(Host.name) reaches no coordinator"
        )
        #expect(
            first["body"]?.string?.contains("was not reached for 27 h (the limit is 26 h)") == true
                || first["body"]?.string?.contains("for 1 d 3 h (the limit is 1 d 2 h)") == true,
            "\(first)"
        )
        #expect(first["body"]?.string?.contains("holdfast-agent doctor") == true)
        _ = try eventually("it is written down") { try JSON(parsing: Files.read(file))["told"]?.int64 }
        // Started again it remembers that, and a day later it reminds.
        agent.stop()
        let kept = try JSON(parsing: Files.read(file))
        let contact = try #require(kept["since"]?.int64)
        #expect(kept["contact"]?.int64 == contact)
        try write(contact: contact, told: (kept["told"]?.int64 ?? 0) - 25 * hour)
        try agent.run()
        let again = try eventually("a reminder; \(agent.log)", seconds: 120) {
            web.requests.dropFirst(2).first
        }
        #expect(again["headers"]?["title"]?.string?.contains("still reaches no coordinator") == true)

        try installation.serve()
        let over = try eventually("the end; \(agent.log)", seconds: 120) { web.requests.dropFirst(3).first }
        #expect(
            over["headers"]?["title"]?.string == "Holdfast: over: \(Host.name) reaches its coordinator again"
        )
        #expect(over["body"]?.string?.hasPrefix("It was away for 1 d 3 h") == true)
        _ = try eventually("it is written down") {
            try JSON(parsing: Files.read(file))["told"]?.isNull == true ? true : nil
        }
        #expect(web.requests.count == 4)
        #expect(!agent.log.contains("SilenceSecret"))
    }
}
