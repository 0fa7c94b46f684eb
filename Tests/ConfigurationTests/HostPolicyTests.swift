import Configuration
import Fleet
import Outward
import Retention
import Schedule
import Testing
import Wire

private let hour: Int64 = 3_600_000_000_000

private func fleet(_ text: String) throws(ConfigurationError) -> FleetConfiguration {
    try FleetConfiguration(Array(text.utf8), file: "fleet.yaml")
}

/// A file that says everything that can be said, of all hosts and of one.
private let everything = """
    captures_at_once: 5
    hosts:
      lisbon:
        scope: originals
        size_limit: none
        schedule: { full: never, prune: "0 12 * * sun", time_zone: UTC }
        retention:
          full: { last: 5, hourly: 0, within: 1y6m7d12h }
        thresholds: { full: { critical: 100h } }
        ping: https://hc-ping.com/secret
        outside:
          other: "/backup/a,b-*.zst, 1d, 3d"
    defaults:
      scope: everything
      size_limit: 1 TB
      rate_limit: 20 MB/s
      priority: -3
      ping: none
      schedule:
        full: "30 2 * * *"
        database: "15 */4 * * *"
        prune: never
        time_zone: Europe/Lisbon
        window: 4h
        spread: 0s
      retention:
        full: { daily: 14, weekly: all, yearly: -1 }
        database: all
      grace: 14d
      thresholds:
        contact: { warning: 1h, critical: 2h }
        database: { warning: 3h, critical: 4h }
        full: { warning: 30h, critical: 60h }
        enrolment: 2d
      watch: { dump_shrink: 12.5 %, library_shrink: 3%, slow: 2.5, clock: 90s }
      outside:
        vm-203: "/dump/vzdump-qemu-203-*.vma.zst, 26h"

    """

@Suite struct HostPolicyTests {
    @Test func `what a host says counts before what is said of all, and that before the built-in`() throws {
        let fleet = try fleet(everything)
        #expect(fleet.capturesAtOnce == 5)
        let all = fleet.policy(of: "porto")
        #expect(all.scope == .everything && all.sizeLimit == 1_000_000_000_000)
        #expect(all.rateLimit == 20_000_000 && all.priority == -3 && all.ping == nil)
        #expect(all.schedule.full?.description == "30 2 * * *" && all.schedule.prune == nil)
        #expect(all.schedule.zone.name == "Europe/Lisbon")
        #expect(all.schedule.window == 4 * hour && all.schedule.spread == 0)
        #expect(all.retention == [.full: RetentionPolicy([.daily: 14, .weekly: -1, .yearly: -1])])
        #expect(all.grace == 14 * 24 * hour)
        #expect(all.thresholds.contact == Threshold(hours: 1, 2))
        #expect(all.thresholds.dump == Threshold(hours: 3, 4))
        #expect(all.thresholds.full == Threshold(hours: 30, 60))
        #expect(all.thresholds.enrolment == 48 * hour)
        #expect(all.watch.dumpShrink == 0.125 && all.watch.libraryShrink == 0.03)
        #expect(all.watch.slow == 2.5 && all.watch.clock == 90_000_000_000)
        let vm = OutsideBackup(
            name: "vm-203",
            pattern: "/dump/vzdump-qemu-203-*.vma.zst",
            threshold: Threshold(hours: 26, 52)
        )
        #expect(all.outside == [vm])

        let lisbon = fleet.policy(of: "lisbon")
        var expected = all
        expected.scope = .originals
        expected.sizeLimit = nil
        expected.schedule.full = nil
        expected.schedule.prune = try CronExpression("0 12 * * sun")
        expected.schedule.zone = .utc
        expected.retention[.full] = RetentionPolicy(
            [.last: 5, .hourly: 0],
            within: .init(years: 1, months: 6, days: 7, hours: 12)
        )
        expected.thresholds.full.critical = 100 * hour
        expected.ping = WebAddress("https://hc-ping.com/secret")
        expected.outside.append(
            OutsideBackup(name: "other", pattern: "/backup/a,b-*.zst", threshold: Threshold(hours: 24, 72))
        )
        #expect(lisbon == expected)
    }

    @Test func `a fleet of names alone is backed up and keeps what it has`() throws {
        let policy = try fleet("hosts: { lisbon: }\n").policy(of: "lisbon")
        #expect(policy == .builtIn)
        let schedule = policy.schedule
        #expect(schedule.full != nil && schedule.database != nil && schedule.prune != nil)
        #expect(schedule.zone == .system)
        for kind in CaptureKind.allCases { #expect(policy.retention[kind]?.keepsNothing == false) }
        #expect(policy.thresholds.dump == Threshold(hours: 26, 32))
    }

    @Test func `every value names the line that says it, and no other is left out`() throws {
        let fleet = try fleet(everything)
        let lines = everything.split(separator: "\n", omittingEmptySubsequences: false)
        for host in ["lisbon", "porto"] {
            let settings = fleet.settings(of: host)
            #expect(Set(settings.map(\.name)).count == settings.count)
            for setting in settings {
                let line = try #require(setting.line, "\(setting.name) of \(host) comes from nowhere")
                let text = lines[line - 1]
                #expect(
                    text.contains("\(setting.key.last ?? ""):"),
                    "\(setting.name): line \(line) is \(text)"
                )
                // The hosts stand above the defaults in this file.
                if host == "porto" { #expect(line > 12, "\(setting.name)") }
            }
        }
        // What the file can say is a setting, or holds settings.
        let keys = fleet.settings(of: "lisbon").map(\.key)
        for path in fleet.lines.keys where path.first == "defaults" && path.count > 1 {
            let key = Array(path.dropFirst())
            #expect(
                keys.contains { $0.starts(with: key) || key.starts(with: $0) },
                "\(key.joined(separator: ".")) is shown nowhere"
            )
        }
        func line(_ name: String, _ host: String) -> Int? {
            fleet.settings(of: host).first { $0.name == name }?.line
        }
        #expect(line("size_limit", "lisbon") == 5 && line("size_limit", "porto") == 15)
        #expect(line("retention.full", "lisbon") == 8 && line("retention.database", "lisbon") == 28)
        #expect(line("thresholds.full.critical", "lisbon") == 9)
        #expect(line("thresholds.full.warning", "lisbon") == 33)
        #expect(line("outside.vm-203", "lisbon") == 37)
    }

    @Test func `hosts that are backed up less often than they are warned of are named`() throws {
        let now: Int64 = 1_790_000_000_000_000_000
        #expect(try fleet("hosts: { a: , b: }\n").surprises(now: now) == [])
        let text = """
            defaults: { schedule: { time_zone: UTC } }
            hosts:
              a: { schedule: { full: "0 3 * * 0" } }
              b: { schedule: { full: "0 3 * * 0" } }
              c: { schedule: { full: "0 3 * * 0" }, thresholds: { full: { warning: 8d, critical: 9d } } }
              d: { schedule: { full: never, database: "0 3 * * *" }, thresholds: { full: { warning: 1d } } }
              e: { schedule: { database: never } }
              f: { schedule: { database: "0 1 * * mon-fri" } }

            """
        #expect(
            try fleet(text).surprises(now: now) == [
                "a, b: up to 7d pass between two full captures (0 3 * * 0), and 26h are a warning: raise "
                    + "`thresholds.full`",
                "d: no full capture is ever due, and the age of the last one counts all the same: see "
                    + "`thresholds.full`",
                "f: up to 3d pass between two database captures (0 1 * * mon-fri), and 26h are a warning: raise "
                    + "`thresholds.database`",
            ]
        )
    }

    @Test func `what nothing says is a default`() throws {
        let settings = try fleet("defaults: { grace: 1d }\n").settings(of: "any")
        #expect(settings.filter { $0.line != nil }.map(\.name) == ["grace"])
        #expect(settings.count > 20)
    }

    @Test func `hosts whose names look like keys are told apart`() throws {
        let fleet = try fleet(
            "hosts:\n  a.outside: { scope: everything }\n  a: { outside: { scope: \"/x, 1h\" } }\n"
        )
        #expect(fleet.settings(of: "a").first { $0.name == "scope" }?.line == nil)
        #expect(fleet.settings(of: "a").first { $0.name == "outside.scope" }?.line == 3)
        #expect(fleet.settings(of: "a.outside").first { $0.name == "scope" }?.line == 2)
    }

    @Test func `the path of a ping is not shown`() throws {
        let settings = try fleet("defaults: { ping: \"https://user:word@hc.example/secret\" }\n").settings(
            of: "a"
        )
        #expect(settings.first { $0.name == "ping" }?.value == .text("https://hc.example/…"))
    }

    @Test(arguments: [
        ("7d", RetentionPolicy.Span(days: 7)), ("36h", .init(hours: 36)), ("2w", .init(days: 14)),
        ("1y6m7d12h", .init(years: 1, months: 6, days: 7, hours: 12)), ("1y 6m", .init(years: 1, months: 6)),
        ("1w 1d", .init(days: 8)),
    ])
    func `spans are those of restic, and weeks`(_ text: String, _ span: RetentionPolicy.Span) {
        #expect(RetentionPolicy.Span(text) == span)
    }

    @Test(
        arguments: [
            (500_000_000_000, "500 GB"), (20 << 30, "20 GiB"), (1_500_000_000, "1500 MB"),
            (100_000, "100 kB"),
            (1, "1 B"), (1023, "1023 B"), (1 << 20, "1 MiB"), (1_234_567, "1234567 B"),
            (1000 << 30, "1000 GiB"),
        ] as [(Int64, String)]
    )
    func `sizes are shown as they are written`(_ bytes: Int64, _ text: String) {
        #expect(Units.text(bytes: bytes) == text)
        #expect(Units.bytes(text) == bytes)
    }

    @Test(arguments: ["", "7", "d", "-1d", "1d2d", "7x", "1.5d", "99999999999999999999d", "2000y", "1d,"])
    func `what is no span is none`(_ text: String) { #expect(RetentionPolicy.Span(text) == nil) }

    @Test(
        arguments: [
            (26 * hour, "26h"), (48 * hour, "2d"), (90 * 60_000_000_000, "1h 30m"), (0, "0s"),
            (1_500_000_000, "1s 500ms"),
        ] as [(Int64, String)]
    )
    func `durations are shown as they are written`(_ nanoseconds: Int64, _ text: String) {
        #expect(Units.text(nanoseconds: nanoseconds) == text)
        #expect(Units.nanoseconds(text) == nanoseconds)
    }
}
