import Alarms
import Catalogue
import Configuration
import Fleet
import JSON
import Outward
import Testing

private let second: Int64 = 1_000_000_000
private let hour: Int64 = 3600 * second
/// A moment for the tests to happen at.
private let now: Int64 = 1_800_000_000 * second

private func settings(_ more: String = "") throws -> AlarmSettings {
    let text = "alarms:\n  mail:\n    ntfy: { url: 'https://ntfy.sh/x' }\n" + more
    let fleet = try FleetConfiguration(
        YAMLNode.parse(Array(text.utf8), file: "fleet.yaml"),
        file: "fleet.yaml"
    )
    return try #require(fleet.alarms["mail"])
}

private func finding(
    _ id: Int64 = 1,
    host: String? = "lisbon",
    kind: String = "dump-old",
    severity: Severity = .warning,
    ago: Int64 = 60,
    closedAgo: Int64? = nil,
    state: ToldFinding.State? = nil
) -> ToldFinding {
    ToldFinding(
        id: id,
        host: host,
        kind: kind,
        severity: severity,
        message: "the newest dump is too old",
        opened: now - ago * second,
        closed: closedAgo.map { now - $0 * second },
        state: state
    )
}

private func told(_ severity: Severity = .warning, ago: Int64 = 3600, over: Int64? = nil) -> ToldFinding.State
{
    ToldFinding.State(severity: severity, told: now - ago * second, over: over.map { now - $0 * second })
}

private func news(
    _ findings: [ToldFinding],
    _ more: String = "",
    recent: [Int64] = [],
    waiting: Bool = false
) throws -> News {
    News(
        for: "mail",
        try settings(more),
        findings,
        recent: recent.map { now - $0 * second },
        isWaiting: waiting,
        now: now
    )
}

@Suite struct NewsTests {
    @Test func `a start is told once it has lasted, together with everything that began meanwhile`() throws {
        #expect(try news([finding(ago: 29)]).isEmpty)
        let both = try news([finding(1, ago: 30), finding(2, ago: 1)])
        #expect(both.started.map(\.id) == [1, 2])
        #expect(try news([finding(state: told())]).started.isEmpty)
    }

    @Test func `what came and went untold stays untold, what was told ends`() throws {
        #expect(try news([finding(ago: 100, closedAgo: 29, state: told())]).isEmpty)
        #expect(try news([finding(ago: 100, closedAgo: 30, state: told())]).over.map(\.id) == [1])
        #expect(try news([finding(ago: 100, closedAgo: 30, state: told(over: 10))]).isEmpty)
    }

    @Test func `a warning that becomes critical is told at once, whatever was told a moment ago`() throws {
        let found = try news([finding(severity: .critical, state: told(ago: 2))], recent: [2, 1, 0, 0, 0, 0])
        #expect(found.worse.map(\.id) == [1])
        #expect(try news([finding(severity: .critical, state: told(.critical, ago: 2))]).isEmpty)
        #expect(try news([finding(severity: .warning, state: told(.critical, ago: 2))]).isEmpty)
    }

    @Test func `a reminder comes after its interval and tells everything that lasts`() throws {
        let day: Int64 = 86_400
        #expect(try news([finding(state: told(ago: day - 1))]).isEmpty)
        let found = try news([finding(1, state: told(ago: day)), finding(2, state: told(ago: 60))])
        #expect(found.still.map(\.id) == [1, 2] && found.started.isEmpty)
        #expect(try news([finding(state: told(ago: 3600))], "    repeat: 1h\n").still.count == 1)
        // News alone says how many others are open.
        let more = try news([finding(1, state: told(ago: 60)), finding(2)])
        #expect(more.started.map(\.id) == [2] && more.still.isEmpty && more.untold == 1)
    }

    @Test func `messages keep a distance that grows, unless the last one still waits`() throws {
        #expect(try news([finding()], recent: [29]).isEmpty)
        #expect(try news([finding()], recent: [30]).started.count == 1)
        #expect(try news([finding()], recent: [100, 80, 70, 60]).isEmpty)
        #expect(try news([finding()], recent: [300, 280, 270, 120]).started.count == 1)
        #expect(try news([finding()], recent: Array(repeating: 899, count: 40)).isEmpty)
        #expect(try news([finding()], recent: Array(repeating: 900, count: 40)).started.count == 1)
        #expect(try news([finding()], recent: [1, 1, 1, 1, 1], waiting: true).started.count == 1)
    }

    @Test func `a fault that comes and goes for an hour makes few messages`() throws {
        // A minute there, a minute away: each time it is another finding.
        var states: [Int64: ToldFinding.State] = [:]
        var messages: [Int64] = []
        let alarm = try settings()
        for moment in stride(from: Int64(0), to: 7200, by: 15) {
            let time = now + moment * second
            let findings = (0...(moment / 120)).compactMap { round -> ToldFinding? in
                let opened = now + round * 120 * second
                let closed = opened + 60 * second
                if closed <= time && states[round] == nil || states[round]?.over != nil { return nil }
                return ToldFinding(
                    id: round,
                    host: "lisbon",
                    kind: "away",
                    severity: .warning,
                    message: "",
                    opened: opened,
                    closed: closed <= time ? closed : nil,
                    state: states[round]
                )
            }
            let found = News(
                for: "mail",
                alarm,
                findings,
                recent: messages.filter { $0 > time - hour },
                isWaiting: false,
                now: time
            )
            for finding in found.started { states[finding.id] = .init(severity: .warning, told: time) }
            for finding in found.over {
                states[finding.id] = .init(severity: .warning, told: time, over: time)
            }
            if !(found.started + found.over).isEmpty { messages.append(time) }
        }
        #expect(messages.count >= 2 && messages.count <= 18, "\(messages.count)")
    }

    @Test func `an alarm hears of its hosts and severities alone`() throws {
        let all = [
            finding(1), finding(2, host: "porto", severity: .critical),
            finding(3, host: nil, severity: .critical),
        ]
        #expect(try news(all, "    hosts: lisbon\n").started.map(\.id) == [1])
        #expect(try news(all, "    severities: [critical]\n").started.map(\.id) == [2, 3])
        #expect(
            try news(all, "    severities: critical\n    hosts: [porto, faro]\n").started.map(\.id) == [2]
        )
        #expect(try news(all, "    hosts: ['*']\n").started.map(\.id) == [1, 2, 3])
        // What was told and is a warning again is over for one who hears of critical ones only.
        let eased = try news([finding(state: told(.critical))], "    severities: [critical]\n")
        #expect(eased.over.map(\.id) == [1])
        let again = finding(severity: .critical, state: told(.critical, over: 40))
        #expect(try news([again], "    severities: [critical]\n").started.map(\.id) == [1])
        // One whose host is no longer his is forgotten without a word.
        let left = try news([finding(state: told())], "    hosts: porto\n")
        #expect(left.forgotten.map(\.id) == [1] && left.over.isEmpty)
    }

    @Test func `a channel does not tell about itself`() throws {
        let own = ToldFinding(
            id: 1,
            host: nil,
            kind: Catalogue.channelFinding,
            subject: "mail",
            severity: .warning,
            message: "",
            opened: now - hour
        )
        #expect(try news([own]).isEmpty)
    }
}

@Suite struct WordingTests {
    private func wording(_ news: News) -> Wording {
        Wording(news, alarm: "mail", coordinator: "nas", repeatInterval: 24 * hour, now: now)
    }

    @Test func `one finding is one line with host, trouble, age and what to do`() throws {
        let words = wording(try news([finding(severity: .critical, ago: 3 * 3600)]))
        #expect(words.subject == "Holdfast: critical: lisbon: dump old" && words.severity == .critical)
        let lines = words.text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines[0].hasPrefix("CRITICAL lisbon: the newest dump is too old (for 3 h, since 2027-01-"))
        #expect(lines[2] == "Next: holdfast-coordinator status lisbon")
        #expect(lines[3].contains("on nas, alarm 'mail'; a reminder comes every 1 d"))
        #expect(words.findings[0]?["state"]?.string == "started")
    }

    @Test func `many are one message, the worst and oldest first`() throws {
        let many = (1...50).map { number in
            finding(
                Int64(number),
                host: "host-\(number)",
                severity: number % 10 == 0 ? .critical : .warning,
                ago: 60 + Int64(number)
            )
        }
        let words = wording(try news(many))
        #expect(words.subject == "Holdfast: 5 critical, 45 warnings on 50 hosts")
        let lines = words.text.split(separator: "\n").filter { $0.contains("host-") }
        #expect(lines.count == 50)
        #expect(
            lines.prefix(6).map { $0.split(separator: " ")[1] } == [
                "host-50:", "host-40:", "host-30:", "host-20:", "host-10:", "host-49:",
            ]
        )
        #expect(words.text.contains("Next: holdfast-coordinator status\n"))
        #expect(words.findings.array?.count == 50)
    }

    @Test func `an end says so, and a reminder that it is one`() throws {
        let over = wording(try news([finding(ago: 7260, closedAgo: 60, state: told())]))
        #expect(over.subject == "Holdfast: over: lisbon: dump old" && over.severity == nil)
        #expect(over.text.hasPrefix("lisbon: over after 2 h: "))
        let still = wording(try news([finding(state: told(ago: 90_000))]))
        #expect(still.subject == "Holdfast: still warning: lisbon: dump old")
        let mixed = wording(try news([finding(1), finding(2, ago: 100, closedAgo: 40, state: told())]))
        #expect(mixed.subject == "Holdfast: warning: lisbon: dump old; 1 over")
        #expect(mixed.text.contains("New:\n") && mixed.text.contains("\nOver:\n"))
    }

    @Test func `what a host says stays on its line`() throws {
        let evil = ToldFinding(
            id: 1,
            host: "lisbon",
            kind: "run-failed",
            severity: .warning,
            message: "bad\nCRITICAL porto: all lost\u{1B}[2J",
            opened: now - hour
        )
        let lines = wording(try news([evil])).text.split(separator: "\n")
        #expect(lines[0].hasPrefix("WARNING lisbon: bad CRITICAL porto: all lost?[2J ("))
    }

    @Test func `pauses grow to an hour, and to what a server asks for`() {
        let minute = 60 * second
        #expect((1...9).map { Retry.pause(after: $0) / minute } == [1, 2, 4, 8, 16, 32, 60, 60, 60])
        #expect(Retry.pause(after: 1, asked: 300) == 5 * minute)
        #expect(Retry.pause(after: 1, asked: .max) == 24 * hour)
    }
}
