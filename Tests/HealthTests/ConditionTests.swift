import Catalogue
import Fleet
import Health
import Testing

@Suite("What is watched beside the clocks")
struct ConditionTests {
    // MARK: - Shrinking

    @Test(
        arguments: [
            (2_400_000_000, []), (2_399_999_999, ["dump-shrank critical!"]), (0, ["dump-shrank critical!"]),
            (9_000_000_000, []),
        ] as [(Int64, [String])]
    )
    func `a dump may lose a fifth`(bytes: Int64, expected: [String]) {
        var facts = healthyHost()
        facts.dumps[0].bytes = bytes
        #expect(words(health(facts)) == expected)
    }

    @Test(
        arguments: [
            (1_620_000_000_000, 400_000, []), (1_619_999_999_999, 400_000, ["library-shrank critical!"]),
            (1_800_000_000_000, 360_000, []), (1_800_000_000_000, 359_999, ["library-shrank critical!"]),
        ] as [(Int64, Int64, [String])]
    )
    func `a library may lose a tenth, of its bytes and of its files`(
        bytes: Int64,
        files: Int64,
        expected: [String]
    ) {
        var facts = healthyHost()
        (facts.libraries[0].bytes, facts.libraries[0].files) = (bytes, files)
        #expect(words(health(facts)) == expected)
    }

    @Test func `the sentence says how much is gone, and what it is measured against is kept`() throws {
        var facts = healthyHost()
        facts.libraries[0].files = 299_000
        let found = try #require(health(facts).conditions.first)
        #expect(
            found.fact == "the library has 299,000 files, 25.3 % less than the 400,000 before (allowed: 10 %)"
        )
        #expect(found.referenceFiles == 400_000 && found.referenceBytes == 1_800_000_000_000)
        #expect(found.dataOf == facts.libraries[0].time)
    }

    @Test func `small things and another scope are no loss`() {
        var facts = healthyHost()
        facts.dumps = [.init(time: 2, bytes: 1000), .init(time: 1, bytes: 60_000)]
        facts.libraries = [
            .init(time: 2, scope: "originals", bytes: 1_000, files: 3),
            .init(time: 1, scope: "originals", bytes: 9_000_000, files: 20),
        ]
        #expect(words(health(facts)).isEmpty)
        facts.libraries = [
            .init(time: 2, scope: "originals", bytes: 1_000, files: 3),
            .init(time: 1, scope: "everything", bytes: 9_000_000_000, files: 20_000),
        ]
        #expect(words(health(facts)).isEmpty)
        facts.libraries.removeAll()
        facts.dumps.removeAll()
        #expect(words(health(facts)).isEmpty)
    }

    @Test func `it stays until it is back at size, however long the small ones become history`() {
        var facts = healthyHost()
        facts.libraries = facts.libraries.map {
            .init(time: $0.time, scope: $0.scope, bytes: 900_000_000_000, files: 200_000)
        }
        #expect(words(health(facts)).isEmpty)
        facts.standing[.libraryShrank] = .init(
            message: "shrank",
            referenceBytes: 1_800_000_000_000,
            referenceFiles: 400_000,
            dataOf: now - 30 * day
        )
        #expect(words(health(facts)) == ["library-shrank critical!"])
        #expect(health(facts).conditions[0].referenceFiles == 400_000)
        // Not even when the snapshots that told of it are gone.
        var gone = facts
        gone.libraries = []
        #expect(words(health(gone)) == ["library-shrank critical!"])
        #expect(health(gone).conditions[0].message == "shrank")
        // Nor without what they are measured against.
        gone = facts
        gone.standing[.libraryShrank]?.referenceBytes = nil
        #expect(words(health(gone)) == ["library-shrank critical!"])
        (facts.libraries[0].bytes, facts.libraries[0].files) = (1_700_000_000_000, 380_000)
        #expect(words(health(facts)).isEmpty)
    }

    @Test func `closed by a person, history begins with what was closed`() {
        var facts = healthyHost()
        facts.dumps[0].bytes = 1_000_000_000
        facts.settled[.dumpShrank] = facts.dumps[0].time
        #expect(words(health(facts)).isEmpty)
        // The next is measured against that one alone.
        facts.dumps.insert(.init(time: now - hour, bytes: 900_000_000), at: 0)
        #expect(words(health(facts)).isEmpty)
        facts.dumps[0].bytes = 700_000_000
        #expect(words(health(facts)) == ["dump-shrank critical!"])
        #expect(health(facts).conditions[0].referenceBytes == 1_000_000_000)
    }

    // MARK: - Runs

    @Test(arguments: [
        (hour, Optional(hour), false), (4 * hour, hour, false), (4 * hour + 1, hour, true),
        (10 * minute, minute, false), (11 * minute, minute, false), (11 * minute + 1, minute, true),
        (90 * hour, nil, false),
    ])
    func `a run is slow at four times the usual and ten minutes more`(took: Int64, usual: Int64?, slow: Bool)
    {
        var facts = healthyHost()
        facts.running = [.init(kind: .full, started: now - took, usual: usual, fraction: 0.5)]
        #expect(words(health(facts)) == (slow ? ["run-slow/full warning"] : []))
    }

    @Test func `a failure is told with its reason, until something newer makes up for it`() {
        var facts = healthyHost()
        facts.failures = [
            .init(kind: .database, ended: now - 6 * hour, error: "old"),
            .init(kind: .full, ended: now - hour, error: "no room is left"),
        ]
        #expect(words(health(facts)) == ["run-failed/full warning"])
        #expect(health(facts).conditions[0].message == "the last full backup failed 1 h ago: no room is left")
        facts.failures[0].ended = now - hour
        #expect(words(health(facts)) == ["run-failed/database warning", "run-failed/full warning"])
    }

    @Test func `what is missing, and an Immich without a complete backup yet, are warnings`() {
        var facts = healthyHost()
        facts.missing = 12
        facts.version = "v3.2.0"
        #expect(words(health(facts)) == ["incomplete warning", "immich-version warning"])
        facts.fullVersion = "v3.2.0"
        #expect(words(health(facts)) == ["incomplete warning"])
    }

    // MARK: - Clocks

    @Test(arguments: [(300, false), (301, true), (-300, false), (-301, true)])
    func `a machine whose clock is off by more than five minutes freezes`(seconds: Int64, off: Bool) {
        var facts = healthyHost()
        facts.clockSkew = seconds * 1_000_000_000
        #expect(words(health(facts)) == (off ? ["clock/agent warning!"] : []))
        facts.clockSkew = .min
        #expect(words(health(facts)) == ["clock/agent warning!"])
    }

    @Test func `what is dated in the future freezes, and a person can settle a snapshot`() {
        var facts = healthyHost()
        facts.future = now + day
        #expect(words(health(facts)) == ["clock/snapshot critical!"])
        facts.settled[.clock] = now + day
        #expect(words(health(facts)).isEmpty)
        facts.lastContact = now + 5 * minute
        #expect(words(health(facts)).isEmpty)
        facts.lastContact = now + 5 * minute + 1
        #expect(words(health(facts)) == ["clock/contact critical!"])
    }

    // MARK: - Backups by others

    @Test func `an outside backup has limits of its own, and none at all is critical after the enrolment`() {
        var facts = healthyHost()
        var policy = HostPolicy()
        policy.outside = [
            OutsideBackup(name: "vm-203", pattern: "/x/*.zst", threshold: Threshold(hours: 26, 50))
        ]
        func level(_ time: Int64?) -> [String] {
            facts.outside = [OutsideFile(path: "/x/a", time: time, bytes: 1)]
            return words(health(facts, policy))
        }
        #expect(level(now - 26 * hour + 1) == [])
        #expect(level(now - 26 * hour) == ["outside/vm-203 warning"])
        #expect(level(now - 50 * hour) == ["outside/vm-203 critical"])
        #expect(level(nil) == ["outside/vm-203 critical"])
        #expect(level(now + hour) == ["outside/vm-203 warning"])
        facts.added = now - hour
        #expect(level(nil) == [])
        // Nobody looked.
        facts.outside = []
        #expect(words(health(facts, policy)).isEmpty)
    }
}

@Suite("The coordinator itself")
struct CoordinatorTests {
    private typealias Reading = CoordinatorClock.Reading

    private func reading(_ wall: Int64, boot: String = "a", since: Int64) -> CoordinatorClock.Reading {
        Reading(machine: "nas", boot: boot, wall: now + wall, sinceBoot: since)
    }

    @Test func `a clock that jumps is off until it is where it belongs`() {
        var clock = CoordinatorClock(reading(0, since: hour))
        func step(_ wall: Int64, since: Int64, confirmed: Bool = false) -> String? {
            let found = clock.advance(reading(wall, since: since), allowed: 5 * minute, confirmed: confirmed)
            return found.map {
                "\($0.subject) \($0.severity.rawValue) \($0.freezes) \($0.fact.split(separator: "jumped ")[1].prefix(9))"
            }
        }
        #expect(step(minute, since: hour + minute) == nil)
        #expect(step(7 * minute, since: hour + 2 * minute) == nil)
        #expect(step(8 * minute + day, since: hour + 3 * minute) == "coordinator critical true 1 d forwa")
        #expect(step(18 * minute + day, since: hour + 13 * minute) == "coordinator critical true 1 d forwa")
        #expect(step(19 * minute, since: hour + 14 * minute) == nil)
        #expect(
            step(20 * minute - 400 * day, since: hour + 15 * minute) == "coordinator critical true 400 d bac"
        )
        // Agents that agree end it, though it does not go back.
        #expect(step(21 * minute - 400 * day, since: hour + 16 * minute, confirmed: true) == nil)
        #expect(step(22 * minute - 400 * day, since: hour + 17 * minute) == nil)
    }

    @Test func `small steps of the clock add up to nothing`() {
        var clock = CoordinatorClock(reading(0, since: 0))
        for step in 1...200 {
            let found = clock.advance(
                reading(Int64(step) * 4 * minute, since: Int64(step) * minute),
                allowed: 5 * minute
            )
            #expect(found == nil)
        }
    }

    @Test func `after a start of the machine time may have passed, but not gone back`() {
        var clock = CoordinatorClock(reading(0, since: hour))
        #expect(clock.advance(reading(30 * day, boot: "b", since: minute), allowed: 5 * minute) == nil)
        let back = clock.advance(reading(0, boot: "c", since: minute), allowed: 5 * minute)
        #expect(back?.subject == "coordinator")
        #expect(clock.advance(reading(minute, boot: "c", since: 2 * minute), allowed: 5 * minute) != nil)
        // Set right, it is believed again.
        #expect(
            clock.advance(reading(30 * day + 2 * minute, boot: "c", since: 3 * minute), allowed: 5 * minute)
                == nil
        )
    }

    private func store(free: Int64, falling: Int64 = 0, days: Int = 14) -> Store {
        Store(
            folder: "/srv",
            free: free,
            total: 4_000_000_000_000,
            reserve: 20_000_000_000,
            samples: (0..<days * 24).map {
                let age = Int64(days * 24 - $0) * hour
                return .init(time: now - age, free: free + falling / 24 * (age / hour))
            }
        )
    }

    @Test func `the day on which it is full comes from what was free in the last weeks`() throws {
        let falling = store(free: 1_020_000_000_000, falling: 50_000_000_000)
        let full = try #require(falling.fullAt(now: now))
        #expect(abs(full - now - 20 * day) < hour)
        #expect(falling.condition(now: now)?.severity == .warning)
        #expect(falling.condition(now: now)?.fact.contains("will be full in") == true)
        #expect(
            store(free: 220_000_000_000, falling: 50_000_000_000).condition(now: now)?.severity == .critical
        )
        #expect(store(free: 1_120_000_000_000, falling: 50_000_000_000).condition(now: now) == nil)
        #expect(store(free: 1_020_000_000_000, falling: -1).fullAt(now: now) == nil)
        // A day of filling tells nothing.
        #expect(store(free: 1_020_000_000_000, falling: 500_000_000_000, days: 1).fullAt(now: now) == nil)
    }

    @Test func `little space is a warning, and critical where no backup goes on`() {
        #expect(store(free: 40_000_000_000).condition(now: now) == nil)
        #expect(store(free: 39_999_999_999).condition(now: now)?.severity == .warning)
        #expect(store(free: 20_000_000_000).condition(now: now)?.severity == .warning)
        #expect(store(free: 19_999_999_999).condition(now: now)?.severity == .critical)
        var away = store(free: 0)
        away.problem = "open: no such file"
        #expect(away.condition(now: now)?.severity == .critical)
    }
}
