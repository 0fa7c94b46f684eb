import JSON
import Posix
import SSH
import TestSupport
import Testing
import Wire

/// The states of hosts, from real captures and the real programs.
@Suite("How the fleet stands", .serialized)
struct HealthTests {
    private func nagios(_ installation: Installation) throws -> (status: Int32, line: String) {
        let outcome = try installation.coordinator("status", "--nagios")
        #expect(
            outcome.output.hasSuffix("\n") && outcome.output.split(separator: "\n").count == 1,
            "\(outcome)"
        )
        return (outcome.status, outcome.output)
    }

    private func host(_ installation: Installation, _ name: String = "lisbon") throws -> JSON {
        let status = try installation.coordinator("status", "--json")
        let host = status.json?["hosts"]?.array?.first { $0["host"]?.string == name }
        return try #require(host, "\(status)")
    }

    private func kinds(_ host: JSON) -> [String] {
        host["conditions"]?.array?.compactMap { $0["kind"]?.string }.sorted() ?? []
    }

    /// Makes all that the catalogue knows so many hours older.
    private func age(_ installation: Installation, hours: Int64) throws {
        let span = hours * 3_600_000_000_000
        try installation.sql(
            """
            SET search_path = holdfast; UPDATE hosts SET added = added - \(span), last_contact = last_contact - \(span);
            UPDATE snapshots SET time = time - \(span)
            """
        )
    }

    @Test func `nagios is told 0, 1, 2 and 3, and what cannot be told is never 0`() throws {
        let installation = try Installation()
        let unset = try nagios(installation)
        #expect(
            unset.status == 3 && unset.line.hasPrefix("HOLDFAST UNKNOWN - ") && unset.line.contains("init")
        )
        try installation.initialise()
        let empty = try nagios(installation)
        #expect(empty.status == 3 && empty.line.contains("no hosts yet"), "\(empty)")

        try installation.serve()
        let agent = try ScriptedAgent(installation, host: "lisbon")
        let new = try nagios(installation)
        #expect(
            new.status == 0 && new.line.hasPrefix("HOLDFAST OK - 1 host is new and not backed up yet | "),
            "\(new)"
        )
        _ = try agent.backUp(3, of: 1000)
        let good = try nagios(installation)
        #expect(
            good.status == 0 && good.line.contains("OK - the only host is backed up in time | hosts=1 ok=1"),
            "\(good)"
        )
        #expect(good.line.contains("oldest_dump=") && good.line.contains("s;93600;115200;0"), "\(good)")

        // Whatever a host says of itself ends neither the text nor the line.
        try age(installation, hours: 27)
        let late = try nagios(installation)
        #expect(late.status == 2 && late.line.contains("lisbon last contact was 27 h ago"), "\(late)")
        try installation.sql(
            "UPDATE holdfast.hosts SET last_contact = (extract(epoch FROM now()) * 1000000)::bigint * 1000"
        )
        let warned = try nagios(installation)
        #expect(
            warned.status == 1
                && warned.line.contains(
                    "WARNING - 1 of 1 host needs attention: lisbon newest dump is 27 h old (should be < 26 h; "
                        + "critical at 32 h) | "
                ),
            "\(warned)"
        )
        try installation.sql(
            """
            INSERT INTO holdfast.findings (host_id, kind, severity, message, opened, seen)
            SELECT id, 'damage', 'critical', E'a | b\\nc', 1, 1 FROM holdfast.hosts
            """
        )
        let worse = try nagios(installation)
        #expect(worse.status == 2 && worse.line.contains("a / b c | hosts=1"), "\(worse)")

        // Without the service nothing is backed up; without the catalogue or the inventory nothing is known.
        try installation.sql("DELETE FROM holdfast.findings")
        installation.stop()
        let down = try nagios(installation)
        #expect(down.status == 2 && down.line.contains("CRITICAL - the service is not running"), "\(down)")
        try Files.rename(installation.folder + "/state/catalogue", to: installation.folder + "/state/away")
        try Files.writeAtomically([], to: installation.folder + "/state/catalogue")
        #expect(try nagios(installation).status == 3)
        let other = installation.folder + "/other.yaml"
        try Files.writeAtomically(Array("nonsense: here\n".utf8), to: other)
        let broken = try Outcome.of([Programs.coordinator, "--config", other, "status", "--nagios"])
        #expect(broken.status == 3 && broken.output.contains("nonsense"), "\(broken)")
        try Files.remove(installation.folder + "/state/catalogue")
        try Files.rename(installation.folder + "/state/away", to: installation.folder + "/state/catalogue")
    }

    @Test func `a host that never was backed up is critical when its enrolment is over`() throws {
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        _ = try installation.addHost("lisbon")
        #expect(try host(installation)["health"]?.string == "new")
        try age(installation, hours: 25)
        installation.stop()
        let late = try host(installation)
        #expect(
            late["health"]?.string == "critical" && kinds(late) == ["contact", "dump", "full"],
            "\(late.text())"
        )
        let text = try installation.coordinator("status")
        #expect(
            text.status == 0 && text.output.contains("it has not joined yet, 25 h after it was added"),
            "\(text)"
        )
        let sentence = text.output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        #expect(
            sentence.contains("CRITICAL: the service is not running; 1 of 1 host is not safe: lisbon"),
            "\(text)"
        )
    }

    @Test func `a library that shrank is found before anybody hears of the run's end, and freezes`() throws {
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        let agent = try ScriptedAgent(installation, host: "lisbon")
        _ = try agent.backUp(100, of: 1000)
        #expect(try host(installation)["health"]?.string == "ok")
        _ = try agent.backUp(60, of: 1000)
        // No round of the watch is waited for.
        let open = try installation.coordinator("findings", "lisbon", "--json")
        let finding = try #require(open.json?["open"]?.array?.first, "\(open)")
        #expect(finding["kind"]?.string == "library-shrank" && finding["freezes"]?.bool == true, "\(open)")
        #expect(finding["message"]?.string?.contains("(allowed: 10 %)") == true, "\(open)")
        let shown = try host(installation)
        #expect(shown["health"]?.string == "critical" && shown["state"]?.string == "ok", "\(shown.text())")

        let id = String(finding["id"]?.int ?? 0)
        let wordless = try installation.coordinator("finding", "close", id)
        #expect(wordless.status == 64 && wordless.error.contains("--why"), "\(wordless)")
        let wrong = try installation.coordinator("finding", "close", "999", "--why", "no")
        #expect(wrong.status == 1 && wrong.error.contains("there is no finding 999"), "\(wrong)")
        let closed = try installation.coordinator("finding", "close", id, "--why", "moved to porto", "--json")
        #expect(closed.status == 0 && closed.json?["by"]?.string?.isEmpty == false, "\(closed)")
        #expect(try host(installation)["health"]?.string == "ok")
        #expect(try installation.coordinator("finding", "close", id, "--why", "again").status == 1)
        let page = try installation.coordinator("status", "lisbon")
        #expect(
            page.status == 0 && page.output.contains("nothing is wrong")
                && page.output.contains("moved to porto"),
            "\(page)"
        )
        _ = try agent.backUp(59, of: 1000)
        #expect(try host(installation)["health"]?.string == "ok")
    }

    @Test func `a snapshot from the future keeps nobody fresh, and a round of the watch freezes the fleet`()
        throws
    {
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        let agent = try ScriptedAgent(installation, host: "lisbon")
        _ = try agent.backUp(3, of: 1000)
        try age(installation, hours: -48)
        let ahead = try host(installation)
        #expect(ahead["health"]?.string == "critical" && kinds(ahead).contains("clock"), "\(ahead.text())")
        #expect(ahead["clocks"]?["dump"]?["time"]?.string == nil)
        // A service that starts goes its round at once.
        installation.stop()
        try installation.serve()
        _ = try eventually("the fleet is frozen") {
            let found = try installation.coordinator("findings", "--json").json?["open"]?.array ?? []
            return found.first {
                $0["host"]?.string == nil && $0["kind"]?.string == "clock" && $0["freezes"]?.bool == true
            }
        }
    }

    @Test func `a failed capture is a warning with its reason until the next is whole`() throws {
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        let agent = try ScriptedAgent(installation, host: "lisbon")
        _ = try agent.backUp(3, of: 1000)
        try agent.connect()
        try agent.request()
        try agent.stream.send(AgentMessage.failed(message: "the server's disk has vanished"))
        try agent.stream.flush()
        _ = try eventually("the failure is known") {
            let open = try installation.coordinator("findings", "--json").json?["open"]?.array ?? []
            return open.first {
                $0["kind"]?.string == "run-failed" && $0["message"]?.string?.contains("vanished") == true
            }
        }
        agent.channel.close(seconds: 1)
        #expect(try host(installation)["health"]?.string == "warning")
        _ = try agent.backUp(3, of: 1000)
        _ = try eventually("the finding is closed") {
            try installation.coordinator("findings", "--json").json?["open"]?.array?.isEmpty == true
                ? true : nil
        }
    }

    @Test func `the table is never wider than 100 columns, and its colours are for terminals`() throws {
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        for name in ["lisbon", "a" + String(repeating: "-very-long-name", count: 4)] {
            _ = try installation.addHost(name)
        }
        try age(installation, hours: 1000)
        try installation.sql(
            """
            INSERT INTO holdfast.snapshots SELECT id, 'a', NULL, 1760000000000000000, 't', 1, 'everything', 'd',
                312345678901, 'v3.1.0', '15.18', 123456789, 123456789012345, 1, false, 'present', 'full', NULL
                FROM holdfast.hosts;
            INSERT INTO holdfast.findings (host_id, kind, severity, message, opened, seen)
                SELECT id, 'damage', 'critical', repeat('very long ', 50), 1, 1 FROM holdfast.hosts
            """
        )
        let plain = try installation.coordinator("status")
        for line in plain.output.split(separator: "\n") { #expect(line.count <= 100, "\(line)") }
        #expect(
            !plain.output.contains("\u{1B}") && plain.output.contains("2 of 2 hosts are not safe"),
            "\(plain)"
        )
        func onTerminal(_ environment: [String: String?]) throws -> String {
            try Outcome.of(
                [
                    "script", "-qec", "\(Programs.coordinator) --config \(installation.configuration) status",
                    "/dev/null",
                ],
                environment: environment
            ).output
        }
        #expect(try onTerminal(["NO_COLOR": nil]).contains("\u{1B}[1;31mcritical\u{1B}[0m"))
        #expect(try !onTerminal(["NO_COLOR": "1"]).contains("\u{1B}["))
        let watched = try installation.coordinator("status", "--watch")
        #expect(watched.status == 64 && watched.error.contains("terminal"), "\(watched)")
        let both = try installation.coordinator("status", "--watch", "--json")
        #expect(both.status == 64, "\(both)")
        let nobody = try installation.coordinator("status", "porto")
        #expect(nobody.status == 1 && nobody.error.contains("there is no host porto"), "\(nobody)")
        let page = try installation.coordinator("status", "lisbon", "--json")
        #expect(page.json?["snapshot_counts"]?["full"]?["present"]?.int == 1, "\(page)")
        #expect(page.json?["versions"]?.array?.first?["immich"]?.string == "v3.1.0", "\(page)")
        for line in try installation.coordinator("status", "lisbon").output.split(separator: "\n") {
            #expect(line.count <= 100, "\(line)")
        }
    }
}
