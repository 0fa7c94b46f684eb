import Glibc
import JSON
import Posix
import TestSupport
import Testing

/// A real Prometheus scrapes a real coordinator, and its rules fire on what is wrong.
@Suite("Figures for Prometheus")
struct MetricsTests {
    private static let project = Files.parent(Files.parent(Files.parent(#filePath)))

    private static func page(_ port: UInt16) throws -> String {
        let address = "http://127.0.0.1:\(port)/metrics"
        let run = try ChildProcess.run(["curl", "-sS", "--max-time", "20", address])
        return String(decoding: run.output, as: UTF8.self)
    }

    /// The value of the one sample that begins so.
    private static func value(_ page: String, _ sample: String) -> Double? {
        page.split(separator: "\n").first { $0.hasPrefix(sample + " ") }.flatMap {
            Double($0.dropFirst(sample.count + 1))
        }
    }

    private static func freePort() throws -> UInt16 { try TCPListener(address: "127.0.0.1", port: 0).port }

    /// A Prometheus of its own with the project's rules, evaluated every second.
    private final class Prometheus {
        let folder = "/tmp/holdfast-prometheus-\(randomHex(4))"
        let port: UInt16
        private let child: ChildProcess

        init(target: UInt16) throws {
            try Files.makeDirectories(folder, mode: 0o755)
            port = try MetricsTests.freePort()
            let text = """
                global: { scrape_interval: 1s, evaluation_interval: 1s }
                rule_files: [\(MetricsTests.project)/deploy/prometheus/holdfast.rules.yml]
                scrape_configs:
                  - { job_name: holdfast, static_configs: [ { targets: ["127.0.0.1:\(target)"] } ] }

                """
            try Files.writeAtomically(Array(text.utf8), to: folder + "/prometheus.yml")
            let log = try FileDescriptor(open: folder + "/log", O_WRONLY | O_CREAT)
            child = try ChildProcess(
                [
                    "prometheus", "--config.file=\(folder)/prometheus.yml",
                    "--storage.tsdb.path=\(folder)/data", "--web.listen-address=127.0.0.1:\(port)",
                ],
                output: .descriptor(log.raw),
                error: .descriptor(log.raw)
            )
        }

        deinit {
            kill(child.pid, SIGKILL)
            waitpid(child.pid, nil, 0)
            try? Files.removeTree(folder)
        }

        func ask(_ path: String, _ query: String? = nil) throws -> JSON? {
            var command = [
                "curl", "-sS", "-G", "--max-time", "20", "http://127.0.0.1:\(port)/api/v1/\(path)",
            ]
            if let query { command += ["--data-urlencode", "query=\(query)"] }
            let run = try ChildProcess.run(command)
            return try? JSON(parsing: run.output)["data"]
        }

        /// `name/host/severity` of every alert that fires.
        func firing() throws -> [String] {
            (try ask("alerts")?["alerts"]?.array ?? []).filter { $0["state"]?.string == "firing" }.map {
                let labels = $0["labels"]
                return [
                    labels?["alertname"]?.string ?? "?", labels?["host"]?.string ?? "",
                    labels?["severity"]?.string ?? "?",
                ].joined(separator: "/")
            }
        }
    }

    @Test func `a real Prometheus scrapes them, and its rules fire on a host that went stale`() throws {
        let metrics = try Self.freePort()
        let joined = try MainJobTests.Joined(
            extra: "metrics: { listen: \"127.0.0.1:\(metrics)\" }"
        )
        _ = try joined.installation.addHost("porto")
        let before = Time.now() / 1_000_000_000
        _ = try joined.backup()
        let page = try Self.page(metrics)
        #expect(Self.value(page, "holdfast_up") == 1)
        #expect(Self.value(page, "holdfast_serving") == 1)
        let time = try #require(
            Self.value(page, #"holdfast_backup_data_timestamp_seconds{host="lisbon",kind="full"}"#)
        )
        #expect(time >= Double(before) && time <= Double(Time.now() / 1_000_000_000 + 1))
        #expect(
            Self.value(page, #"holdfast_run_state{host="lisbon",kind="full",state="done"}"#) == 1
        )
        #expect(try #require(Self.value(page, #"holdfast_backup_files{host="lisbon"}"#)) > 10)
        #expect(!page.contains(#"holdfast_backup_data_timestamp_seconds{host="porto""#))
        #expect(try #require(Self.value(page, "holdfast_store_free_bytes")) > 0)
        // Nothing that makes new series with every backup.
        let snapshot = try joined.installation.sql("SELECT id FROM holdfast.snapshots")
        #expect(!page.contains(snapshot.prefix(8)))

        let prometheus = try Prometheus(target: metrics)
        _ = try eventually("Prometheus has scraped", seconds: 120) {
            try prometheus.ask("query", "holdfast_up == 1")?["result"]?.array?.first
        }
        let targets = try #require(try prometheus.ask("targets")?["activeTargets"]?.array?.first)
        #expect(targets["health"]?.string == "up")
        #expect(try prometheus.firing().isEmpty)
        // Thirty hours ago, and a host that was added two days ago.
        let hour: Int64 = 3_600_000_000_000
        try joined.installation.sql(
            "UPDATE holdfast.snapshots SET time = time - \(30 * hour); UPDATE holdfast.hosts SET added = added - \(48 * hour)"
        )
        let firing = try eventually("the rules fire", seconds: 120) { () -> [String]? in
            let firing = try prometheus.firing().sorted()
            return firing.count >= 3 ? firing : nil
        }
        #expect(firing.contains("HoldfastFullStale/lisbon/warning"))
        #expect(firing.contains("HoldfastDatabaseStale/lisbon/warning"))
        #expect(firing.contains("HoldfastNeverBackedUp/porto/critical"))
        #expect(!firing.contains { $0.hasPrefix("HoldfastFullStale/lisbon/critical") })
    }

    @Test func `a catalogue that is away is said, and the page comes back with it; the file is written too`()
        throws
    {
        let metrics = try Self.freePort()
        let installation = try Installation(extra: "metrics: { listen: \"127.0.0.1:\(metrics)\" }")
        let file = installation.folder + "/state/holdfast.prom"
        try installation.initialise()
        try installation.configure("# nothing more")
        try installation.serve()
        #expect(Self.value(try Self.page(metrics), "holdfast_up") == 1)
        let server = installation.postmaster
        // At once, as a crash would.
        kill(server, SIGQUIT)
        _ = try eventually("the page says that the catalogue is away or it is back") {
            Self.value(try Self.page(metrics), "holdfast_up")
        }
        _ = try eventually("the page is back", seconds: 180) {
            Self.value(try Self.page(metrics), "holdfast_up") == 1 ? true : nil
        }
        installation.stop()

        let other = try Installation(extra: "metrics: { textfile: \(file) }")
        try Files.makeDirectories(Files.parent(file))
        try other.initialise()
        _ = try other.addHost("lisbon")
        try other.serve()
        let text = try eventually("the file is written") {
            (try? Files.read(file)).map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(text.contains(#"holdfast_host_added_timestamp_seconds{host="lisbon"}"#))
    }

    @Test func `promtool finds rules and page in order, and every figure that they name is given`() throws {
        let folder = Self.project + "/deploy/prometheus"
        for command in [
            ["promtool", "check", "rules", folder + "/holdfast.rules.yml"],
            ["promtool", "test", "rules", folder + "/holdfast.rules.test.yml"],
            ["promtool", "check", "config", folder + "/prometheus.yml"],
        ] {
            let outcome = try Outcome.of(command)
            #expect(outcome.status == 0, "\(command): \(outcome)")
        }
        let metrics = try Self.freePort()
        let joined = try MainJobTests.Joined(extra: "metrics: { listen: \"127.0.0.1:\(metrics)\" }")
        _ = try joined.backup()
        try joined.installation.sql(
            """
            INSERT INTO holdfast.findings (host_id, kind, severity, message, opened, seen)
            SELECT id, 'test', 'warning', 'a test', 0, 0 FROM holdfast.hosts
            """
        )
        let page = try Self.page(metrics)
        let lint = try ChildProcess.run(["promtool", "check", "metrics"], input: Array(page.utf8))
        #expect(lint.end == .exit(0), "\(String(decoding: lint.output + lint.error, as: UTF8.self))")
        let given = Set(
            page.split(separator: "\n").filter { $0.hasPrefix("# TYPE ") }.map {
                String($0.split(separator: " ")[2])
            }
        )
        for file in ["holdfast.rules.yml", "dashboard.json"] {
            let text = String(decoding: try Files.read("\(folder)/\(file)"), as: UTF8.self)
            let named = text.split { !($0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_")) }
                .map(String.init).filter { $0.hasPrefix("holdfast_") }
            #expect(named.count > 5)
            #expect(Set(named).subtracting(given) == [], "\(file) names what is not given")
        }
        _ = try JSON(parsing: Files.read(folder + "/dashboard.json"))
    }
}
