import Catalogue
import Fleet
import Health
import Posix
import Schedule
import TestSupport
import Testing

@Suite("The clocks of a host")
struct ClockTests {
    @Test func `a healthy host is ok`() { #expect(health(healthyHost()).level == .ok) }

    struct Case: Sendable, CustomTestStringConvertible {
        var clock: Clock
        var age: Int64
        var level: Level
        var testDescription: String { "\(clock) \(age / minute) min" }
    }

    @Test(arguments: [
        Case(clock: .dump, age: 26 * hour - 1, level: .ok),
        Case(clock: .dump, age: 26 * hour, level: .warning),
        Case(clock: .dump, age: 32 * hour - 1, level: .warning),
        Case(clock: .dump, age: 32 * hour, level: .critical),
        Case(clock: .full, age: 26 * hour - 1, level: .ok),
        Case(clock: .full, age: 26 * hour, level: .warning),
        Case(clock: .full, age: 50 * hour - 1, level: .warning),
        Case(clock: .full, age: 50 * hour, level: .critical),
        Case(clock: .contact, age: 6 * hour - 1, level: .ok),
        Case(clock: .contact, age: 6 * hour, level: .warning),
        Case(clock: .contact, age: 26 * hour - 1, level: .warning),
        Case(clock: .contact, age: 26 * hour, level: .critical),
    ])
    func `each turns at its own limits to the nanosecond`(item: Case) {
        var facts = healthyHost()
        switch item.clock {
        case .contact: facts.lastContact = now - item.age
        case .dump: facts.newestDump = now - item.age
        default: facts.newestFull = now - item.age
        }
        let found = health(facts)
        #expect(found.level == item.level)
        #expect(found.conditions.map(\.kind.rawValue) == (item.level == .ok ? [] : [item.clock.rawValue]))
    }

    @Test func `the sentence names age, limits and the next step`() throws {
        var facts = healthyHost()
        facts.newestDump = now - 29 * hour - 40 * minute
        let dump = try #require(health(facts).conditions.first)
        #expect(dump.fact == "newest dump is 29 h old (should be < 26 h; critical at 32 h)")
        #expect(dump.message.hasSuffix("`holdfast-coordinator backup lisbon` takes one now"))
        facts.lastContact = now - 5 * day
        #expect(
            health(facts).conditions.first?.fact
                == "last contact was 5 d ago (should be < 6 h; critical at 26 h)"
        )
    }

    @Test func `never is new until the enrolment ends, and critical from then on`() {
        let facts = HostFacts(name: "porto", added: now - 24 * hour + 1)
        #expect(health(facts).level == .new && health(facts).conditions.isEmpty)
        let late = health(facts, at: now + 1)
        #expect(
            late.level == .critical && words(late) == ["contact critical", "dump critical", "full critical"]
        )
        #expect(late.conditions[1].fact == "no dump yet, 24 h after it was added (should be within 24 h)")
        var unjoined = facts
        unjoined.hasKey = false
        #expect(health(unjoined, at: now + day).conditions[0].message.contains("host token porto"))
        // A dump of the database alone is none of the library.
        var half = facts
        half.lastContact = now
        half.newestDump = now
        #expect(words(health(half, at: now + 1)) == ["full critical"])
        // What goes wrong meanwhile is told all the same.
        var failed = facts
        failed.failures = [.init(kind: .full, ended: now - hour, error: "no room")]
        #expect(health(failed).level == .warning)
    }

    @Test func `clocks of what does not exist yet count for nothing`() {
        #expect(Clock.counted == [.contact, .dump, .full])
        #expect(health(healthyHost()).readings.map(\.clock) == Clock.counted)
    }

    @Test func `a daily schedule in local time raises no warning on the day with 25 hours`() throws {
        let zone = try TimeZone(named: "Europe/Lisbon")
        let nightly = try CronExpression("0 3 * * *")
        // Two weeks around 25 October 2026, and with it the day with 23 hours in March.
        for start in ["2026-10-15T00:00:00Z", "2026-03-20T00:00:00Z"] {
            let begin = try #require(Time.parseRFC3339(start))
            var facts = healthyHost()
            facts.added = begin - 100 * day
            func next(_ moment: Int64) throws -> Int64 {
                let second: Int64 = 1_000_000_000
                return try #require(nightly.next(after: moment / second, in: zone)) * second
            }
            var due = try next(begin - day)
            facts.newestDump = due
            facts.newestFull = due
            due = try next(due)
            var longest: Int64 = 0
            for moment in stride(from: begin, to: begin + 14 * day, by: Int(minute)).map({ Int64($0) }) {
                // What is taken at three is there at a quarter to four.
                if moment >= due + 45 * minute {
                    facts.newestDump = due
                    facts.newestFull = due
                    due = try next(due)
                }
                facts.lastContact = moment
                facts.dumps = []
                facts.libraries = []
                let found = health(facts, at: moment)
                longest = max(longest, moment - (facts.newestDump ?? 0))
                #expect(found.level == .ok, "\(Time.rfc3339(moment)): \(words(found))")
            }
            #expect(longest >= 24 * hour + 44 * minute)
            if start.contains("-10-") { #expect(longest >= 25 * hour + 44 * minute) }
        }
    }

    @Test func `in no state is a host ok that is late, or that lacks something`() {
        var random = SplitMix(4)
        func moment() -> Int64? {
            let choice = random.next() % 10
            if choice == 0 { return nil }
            // From far in the past to somewhat in the future.
            return now - Int64(random.next() % UInt64(40 * hour)) + (choice == 1 ? 3 * hour : 0)
        }
        var counts: [Level: Int] = [:]
        for round in 0..<20_000 {
            var facts = healthyHost()
            facts.added = now - Int64(random.next() % UInt64(72 * hour))
            if round % 2 == 0 { facts.lastContact = moment() }
            facts.newestDump = moment()
            facts.newestFull = moment()
            if random.next() % 8 == 0 { facts.future = now + 400 * hour }
            if random.next() % 8 == 0 { facts.missing = 3 }
            if random.next() % 4 == 0 {
                facts.running = [.init(kind: .full, started: now - hour, usual: hour)]
            }
            var policy = HostPolicy()
            // Also the wrong way round.
            policy.thresholds.dump = Threshold(hours: Int64(random.next() % 100), Int64(random.next() % 100))
            let level = health(facts, policy).level
            counts[level, default: 0] += 1
            for clock in Clock.counted {
                let threshold = clock.threshold(policy.thresholds)
                guard let last = facts.moment(clock), last <= now + HostHealth.future else {
                    if clock == .contact, facts.lastContact != nil {
                        #expect(level == .critical)
                        continue
                    }
                    #expect(level != .ok)
                    if now - facts.added >= policy.thresholds.enrolment { #expect(level == .critical) }
                    continue
                }
                if now - last >= threshold.critical { #expect(level == .critical) }
                if now - last >= threshold.warning { #expect(level >= .warning) }
            }
        }
        #expect(Level.allCases.allSatisfy { counts[$0, default: 0] > 100 }, "\(counts)")
    }
}
