import Glibc
import JSON
import Posix
import TestSupport
import Testing

@Suite("The inventory in use", .serialized)
struct InventoryTests {
    // MARK: - Check

    @Test func `a good file is told to be right, with when its hosts are due`() throws {
        let installation = try Installation(
            extra: """
                defaults:
                  schedule: { full: never, database: "30 4 1 1 *", time_zone: UTC }
                hosts: { lisbon: , porto: { schedule: { prune: "0 0 29 2 *" } } }
                """
        )
        let said = try installation.coordinator("config", "check")
        #expect(said.status == 0)
        #expect(
            said.error.contains(
                "lisbon, porto: no full capture is ever due, and the age of the last one counts all"
            ),
            "\(said)"
        )
        #expect(said.output.hasPrefix("\(installation.configuration) is right: 2 hosts named\n"), "\(said)")
        #expect(said.output.contains("lisbon") && said.output.contains("never"))
        let json = try #require(installation.coordinator("config", "check", "--json").json)
        #expect(json["valid"] == true)
        let hosts = try #require(json["hosts"]?.array)
        #expect(hosts.map { $0["host"]?.string } == ["lisbon", "porto"])
        #expect(hosts[0]["next_full"]?.isNull == true)
        #expect(hosts[0]["next_database"]?.string?.hasSuffix("-01-01T04:30:00Z") == true)
        #expect(hosts[1]["next_prune"]?.string?.contains("-02-29T00:00:00Z") == true)
    }

    @Test func `a bad file is refused with line and remedy, whichever is named`() throws {
        let installation = try Installation()
        let other = installation.folder + "/other.yaml"
        let text = "# a comment\ndefaults:\n  retention:\n    full: { daily: 0 }\n"
        try Files.writeAtomically(Array(text.utf8), to: other)
        let said = try installation.coordinator("config", "check", other)
        #expect(said.status == 78 && said.output.isEmpty)
        #expect(
            said.error
                == "holdfast-coordinator: \(other):4: `defaults.retention.full` keeps nothing: write how much is kept, like "
                + "{ daily: 14, monthly: 12 }, or all\n"
        )
        #expect(try installation.coordinator("config", "check").status == 0)
        let missing = try installation.coordinator("config", "check", "/nonexistent.yaml")
        #expect(
            missing.status == 78 && missing.error.contains("/nonexistent.yaml: cannot be read: "),
            "\(missing)"
        )
    }

    @Test func `the samples that come with it are right`() throws {
        let installation = try Installation()
        func check(_ text: String, _ name: String) throws {
            let file = installation.folder + "/" + name
            try Files.writeAtomically(Array(text.utf8), to: file)
            let said = try installation.coordinator("config", "check", file)
            #expect(said.status == 0, "\(name): \(said)")
        }
        /// The lines behind the first that contains `start`, up to the first that is `end`.
        func part(of path: String, from start: String, to end: String) throws -> String {
            let lines = String(decoding: try Files.read(Programs.package + path), as: UTF8.self)
                .split(separator: "\n", omittingEmptySubsequences: false)
            let first = try #require(lines.firstIndex { $0.contains(start) }, "\(path): \(start)")
            let found = lines[(first + 1)...].prefix { $0 != end }
            #expect(found.count > 3)
            return found.joined(separator: "\n") + "\n"
        }
        let installed = try part(of: "/deploy/install", from: "tee /etc/holdfast/fleet.yaml", to: "END")
        try check(installed.split(separator: "$(hostname)").joined(separator: "nas"), "install.yaml")
        try check(part(of: "/README.md", from: "```yaml", to: "```"), "readme.yaml")
        let described = try part(
            of: "/Coordinator/Fleet/FleetConfiguration.swift",
            from: "/// ```yaml",
            to: "/// ```"
        )
        let lines = described.split(separator: "\n").map { $0.dropFirst("/// ".count) }
        // A ping's path in it is left to the reader.
        try check(
            lines.joined(separator: "\n").split(separator: "…").joined(separator: "x") + "\n",
            "doc.yaml"
        )
    }

    // MARK: - Show

    @Test func `each value of a host is shown with where it comes from`() throws {
        let installation = try Installation(
            extra: """
                defaults:
                  schedule: { full: "30 2 * * *", time_zone: Europe/Lisbon }
                  size_limit: 2 TB
                hosts:
                  lisbon:
                    scope: everything
                    rate_limit: 20 MB/s
                """
        )
        let said = try installation.coordinator("config", "show", "lisbon")
        #expect(said.status == 0 && said.error.isEmpty, "\(said)")
        let rows = said.output.split(separator: "\n").map {
            $0.split(separator: " ", omittingEmptySubsequences: true).map(String.init)
        }
        func row(_ name: String) -> [String]? { rows.first { $0.first == name } }
        #expect(row("scope") == ["scope", "everything", "fleet.yaml:10"])
        #expect(row("size_limit") == ["size_limit", "2", "TB", "fleet.yaml:7"])
        #expect(row("rate_limit") == ["rate_limit", "20", "MB/s", "fleet.yaml:11"])
        #expect(row("schedule.full") == ["schedule.full", "30", "2", "*", "*", "*", "fleet.yaml:6"])
        #expect(row("schedule.window") == ["schedule.window", "6h", "default"])
        #expect(row("thresholds.database.critical") == ["thresholds.database.critical", "32h", "default"])
        #expect(said.output.contains("\nnext full  "), "\(said)")

        let json = try #require(installation.coordinator("config", "show", "lisbon", "--json").json)
        let settings = try #require(json["settings"]?.array)
        func setting(_ key: String) -> JSON? { settings.first { $0["key"]?.string == key } }
        for setting in settings {
            let from = setting["from"]?.string
            #expect(
                from == "file" ? setting["line"]?.int != nil : from == "default",
                "\(setting.text(pretty: false))"
            )
        }
        #expect(setting("size_limit")?["value"]?.int64 == 2_000_000_000_000)
        #expect(setting("schedule.window")?["value"]?.int64 == 21_600)
        #expect(setting("watch.dump_shrink")?["value"]?.double == 0.2)
        #expect(setting("ping")?["value"]?.isNull == true)
        #expect(json["next"]?["full"]?.string != nil)

        let zone = try Installation().coordinator(
            "config",
            "show",
            "a",
            "--json",
            environment: ["TZ": "Asia/Tokyo"]
        )
        let shown = zone.json?["settings"]?.array?.first { $0["key"]?.string == "schedule.time_zone" }
        #expect(shown?["value"]?.string == "Asia/Tokyo" && shown?["from"]?.string == "default", "\(zone)")

        let unnamed = try installation.coordinator("config", "show", "porto")
        #expect(unnamed.status == 0 && unnamed.error.contains("does not name porto"))
        #expect(try installation.coordinator("config", "show", "../x").status == 64)
    }

    // MARK: - Taking up

    /// The open findings on the inventory, and the newest event's kind.
    private func record(_ installation: Installation) throws -> (findings: String, event: String) {
        (
            try installation.sql(
                "SELECT message FROM holdfast.findings WHERE kind = 'inventory' AND host_id IS NULL AND closed IS NULL"
            ).split(separator: "\n").joined(),
            try installation.sql("SELECT kind FROM holdfast.events ORDER BY id DESC LIMIT 1")
                .split(separator: "\n").joined()
        )
    }

    private func accepted(_ installation: Installation) throws -> String {
        // It is written a moment after the service listens.
        let bytes = try eventually("an accepted inventory") {
            try? Files.read(installation.folder + "/state/fleet.accepted.yaml")
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func `a changed file is taken up, and a bad one leaves the old in force and is told of everywhere`()
        throws
    {
        let installation = try Installation()
        try installation.initialise()
        let down = try installation.coordinator("reload")
        #expect(down.status == 20 && down.error.contains("is right and counts when it is started"), "\(down)")
        try installation.serve()
        let first = try accepted(installation)
        #expect(first == String(decoding: try Files.read(installation.configuration), as: UTF8.self))
        let same = try #require(installation.coordinator("reload", "--json").json)
        #expect(same["accepted"] == true && same["changed"] == false)

        // A host that nobody added is no mistake, but worth a word.
        try installation.configure("hosts: { lisbon: { size_limit: 1 TB } }")
        let good = try installation.coordinator("reload")
        #expect(good.status == 0)
        #expect(
            good.error.contains("there is no host lisbon: `holdfast-coordinator host add lisbon` adds it"),
            "\(good)"
        )
        let second = try accepted(installation)
        #expect(second.contains("size_limit: 1 TB"))
        let checked = try installation.coordinator("config", "check")
        #expect(checked.status == 0 && checked.error.contains("there is no host lisbon"), "\(checked)")
        #expect(try record(installation) == ("", "inventory-accepted"))

        #expect(throws: Unexpected.self) {
            try installation.configure { $0 + "captures_at_once: many\n" }
        }
        let line = second.split(separator: "\n", omittingEmptySubsequences: false).count
        let sentence =
            "\(installation.configuration):\(line): `captures_at_once` must be a whole number from 1 to 1000, not `many`"
        let bad = try installation.coordinator("reload")
        #expect(bad.status == 78)
        #expect(bad.error.contains(sentence + "; what was in force stays so"), "\(bad)")
        #expect(installation.serveLog.contains(sentence), "\(installation.serveLog)")
        var found = try record(installation)
        #expect(found.findings.contains(sentence) && found.event == "inventory-refused")
        #expect(try accepted(installation) == second)
        #expect(try installation.coordinator("config", "check").status == 78)
        // One still sees and works by what is in force, and hears why.
        let status = try installation.coordinator("status")
        #expect(status.status == 0 && status.error.contains(sentence), "\(status)")
        #expect(try installation.coordinator("host", "add", "lisbon").status == 0)

        try installation.configure { $0.replacing("many", with: "3") }
        found = try record(installation)
        #expect(found == ("", "inventory-accepted"))
        #expect(try accepted(installation).contains("captures_at_once: 3"))
        #expect(try !installation.coordinator("reload").error.contains("there is no host"))
    }

    @Test func `SIGHUP does the same, and a restart closes what was open`() throws {
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        let good = try Files.read(installation.configuration)
        try Files.writeAtomically(good + Array("oops: 1\n".utf8), to: installation.configuration, mode: 0o644)
        kill(installation.servePID, SIGHUP)
        _ = try eventually("the refusal is recorded") {
            try record(installation).findings.contains("unknown key `oops`") ? true : nil
        }
        let restarted = try Outcome.of([
            Programs.coordinator, "--config", installation.configuration, "serve",
        ])
        #expect(restarted.status == 78 && restarted.error.contains("unknown key `oops`"), "\(restarted)")
        try Files.writeAtomically(
            good + Array("captures_at_once: 7\n".utf8),
            to: installation.configuration,
            mode: 0o644
        )
        kill(installation.servePID, SIGHUP)
        _ = try eventually("the new file is in force") {
            try record(installation).findings.isEmpty
                && accepted(installation).contains("captures_at_once: 7")
                ? true : nil
        }
        // Refused, and then put right while the service is down.
        try Files.writeAtomically(good + Array("oops: 1\n".utf8), to: installation.configuration, mode: 0o644)
        #expect(try installation.coordinator("reload").status == 78)
        installation.stop()
        try Files.writeAtomically(good, to: installation.configuration, mode: 0o644)
        try installation.serve()
        _ = try eventually("the finding is closed") { try record(installation).findings.isEmpty ? true : nil }
    }

    @Test func `what only a restart can change is not taken up half`() throws {
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        let before = try accepted(installation)
        #expect(throws: Unexpected.self) {
            try installation.configure {
                $0.replacing("\(installation.folder)/repositories", with: "\(installation.folder)/elsewhere")
                    + "captures_at_once: 9\n"
            }
        }
        let moved = try installation.coordinator("reload")
        #expect(
            moved.status == 78 && moved.error.contains("`repositories` was changed, which only a restart"),
            "\(moved)"
        )
        #expect(try accepted(installation) == before)
        try installation.configure {
            $0.replacing("\(installation.folder)/elsewhere", with: "\(installation.folder)/repositories")
                .replacing("listen: 127.0.0.1", with: "listen: 127.0.0.2")
        }
        #expect(try accepted(installation).contains("captures_at_once: 9"))
        #expect(
            installation.serveLog.contains("`listen` counts from the next restart"),
            "\(installation.serveLog)"
        )
    }

    @Test func `what a session goes by is what the service has accepted`() throws {
        let joined = try MainJobTests.Joined()
        _ = try joined.backup()
        // Written and not taken up: the next backup knows nothing of it.
        let good = try Files.read(joined.installation.configuration)
        let limit = Array("hosts: { lisbon: { size_limit: 10 kB } }\n".utf8)
        try Files.writeAtomically(good + limit, to: joined.installation.configuration, mode: 0o644)
        _ = try joined.backup()
        #expect(try joined.installation.coordinator("reload").status == 0)
        let refused = try joined.installation.coordinator("backup", "lisbon", "--json")
        #expect(refused.status == 26, "\(refused)")
        // Nor does a file that cannot be taken.
        try Files.writeAtomically(
            good + Array("oops: 1\n".utf8),
            to: joined.installation.configuration,
            mode: 0o644
        )
        #expect(try joined.installation.coordinator("reload").status == 78)
        #expect(try joined.installation.coordinator("backup", "lisbon").status == 26)
        try Files.writeAtomically(good, to: joined.installation.configuration, mode: 0o644)
        #expect(try joined.installation.coordinator("reload").status == 0)
        _ = try joined.backup()
    }

    @Test
    func `an agent sends no faster than its host may, and a changed limit counts from the next backup on`()
        throws
    {
        let sample = try SampleHost(photos: 3, photoSize: 20_000, places: 100)
        let joined = try MainJobTests.Joined(sample, extra: "hosts: { lisbon: { rate_limit: 500 kB/s } }")
        _ = try joined.backup()
        let folder = sample.uploadLocation + "/upload/limited-\(randomHex(4))"
        try Files.makeDirectories(folder, mode: 0o755)
        /// Seconds that a backup with so many new bytes took, and what came over the wire.
        func timed(_ bytes: Int) throws -> (seconds: Double, sent: Double) {
            try Files.writeAtomically(randomBytes(bytes), to: "\(folder)/\(randomHex(8)).jpg", mode: 0o644)
            let run = try joined.backup()
            let started = try #require(run["started"]?.string.flatMap(Time.parseRFC3339))
            let ended = try #require(run["ended"]?.string.flatMap(Time.parseRFC3339))
            let sent = try #require(run["bytes_sent"]?.double)
            #expect(sent >= Double(bytes))
            return (Double(ended - started) / 1e9, sent)
        }
        let slow = try timed(3_000_000)
        // All of it was received within the run, but for a quarter of a second's worth.
        #expect(slow.seconds > slow.sent / 500_000 * 0.9 - 0.25, "\(slow)")
        try joined.installation.configure { $0.replacing("500 kB/s", with: "none") }
        // A busy machine may need more than one try to be faster.
        _ = try eventually("a backup without the limit is faster", seconds: 120) {
            try timed(3_000_000).seconds < slow.seconds * 0.8 ? true : nil
        }
    }
}
