import Catalogue
import Fleet
import Posix
import Retention
import Schedule
import Scheduling
import TestSupport
import Testing
import Wire

/// A year of fifty hosts, against a reckoning that knows nothing of the planner: it looks at every minute of the year on the
/// wall clock, and counts the days of retention by their names.
@Suite("A simulated year")
struct SimulatedYearTests {
    private static let zones = [
        "Europe/Lisbon", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC",
    ]
    private static let keep: [RetentionPolicy.Rule: Int] = [.daily: 7, .weekly: 4, .monthly: 12]

    private static func fleet(_ count: Int) throws -> [FleetSimulation.Host] {
        try (0..<count).map { index in
            var policy = try policy(
                // In the hour that clocks pass over or show twice in some of them.
                full: "30 2 * * *",
                database: "15 8,14,20 * * *",
                zone: zones[index % zones.count],
                spread: 30 * minute
            )
            policy.retention = [.full: RetentionPolicy(keep)]
            policy.priority = index % 3
            var host = FleetSimulation.Host(name: "immich-\(index)", policy: policy)
            host.takes = Int64(5 + index % 20) * minute
            return host
        }
    }

    /// Every instant from `start` to `end` at which one of these times comes, once each day: the first minute of the day, as
    /// the wall shows it, that is that time or, where that is passed over, later.
    private static func naive(
        _ times: [(hour: Int64, minute: Int64)],
        _ zone: TimeZone,
        _ start: Int64,
        _ end: Int64
    )
        -> [Int64]
    {
        var found: [Int64] = []
        var seen: Set<Int64> = []
        for now in stride(from: start / second, to: end / second, by: 60) {
            let wall = zone.wall(at: now)
            let today = wall / 86400
            for (number, time) in times.enumerated() where wall % 86400 >= time.hour * 3600 + time.minute * 60
            {
                // The days before the first are not asked for.
                let key = today * 10 + Int64(number)
                if seen.insert(key).inserted && now > start / second { found.append(now * second) }
            }
        }
        return found
    }

    /// What retention leaves, reckoned by the names of days, weeks and months.
    private static func naiveKept(_ all: [Int64], _ zone: TimeZone) -> Set<Int64> {
        var left: [Int64] = []
        for newest in all {
            left.append(newest)
            left.sort(by: >)
            var stay: Set<Int64> = []
            func label(_ instant: Int64, _ rule: RetentionPolicy.Rule) -> String {
                let wall = zone.wall(at: instant / second)
                let civil = Civil(Int(wall))
                switch rule {
                case .monthly: return "\(civil.year)-\(civil.month)"
                // Weeks from Monday; 1 January 1970 was a Thursday.
                case .weekly: return "\((wall / 86400 + 3) / 7)"
                default: return "\(civil.year)-\(civil.month)-\(civil.day)"
                }
            }
            for (rule, count) in keep {
                var labels: [String] = []
                for (number, instant) in left.enumerated() {
                    let name = label(instant, rule)
                    let isNew = labels.last != name
                    // The oldest stays too while the rule has some left.
                    guard labels.count < count, isNew || number == left.count - 1 else { continue }
                    if isNew { labels.append(name) }
                    stay.insert(instant)
                }
            }
            left.removeAll { !stay.contains($0) }
        }
        return Set(left)
    }

    private static func isFree(_ instant: Int64, _ spans: [Range<Int64>]) -> Bool {
        !spans.contains { $0.contains(instant) }
    }

    /// Of the times when it was due those that must come to something: host and coordinator were both there at some hour
    /// before the next one.
    private static func expected(_ due: [Int64], _ offset: Int64, _ away: [Range<Int64>], end: Int64)
        -> [Int64]
    {
        due.indices.compactMap { index in
            let begin = due[index] + offset
            let next = index + 1 < due.count ? due[index + 1] + offset : end
            let isPossible = stride(from: begin, to: next - 45 * minute, by: Int(15 * minute)).contains {
                isFree($0, away) && isFree($0 + 45 * minute, away)
            }
            return isPossible ? due[index] : nil
        }
    }

    @Test
    func `every occurrence that was possible came to one capture, and retention left exactly what it says`()
        throws
    {
        let start = try instant("2026-01-01T00:00:00Z")
        let end = try instant("2027-01-01T12:00:00Z")
        var random = SplitMix(2026)
        var hosts = try Self.fleet(50)
        var dues: [String: (full: [Int64], database: [Int64])] = [:]
        for name in Self.zones {
            let zone = try TimeZone(named: name)
            dues[name] = (
                Self.naive([(2, 30)], zone, start, end),
                Self.naive([(8, 15), (14, 15), (20, 15)], zone, start, end)
            )
        }
        // Each host but the first six is away a dozen times, for an hour to three days, over bright day and over night.
        for index in hosts.indices.dropFirst(6) {
            let zone = hosts[index].policy.schedule.zone
            for _ in 0..<12 {
                let noon =
                    start + Int64(random.below(360)) * day + 12 * hour - zone.offset(at: start / second)
                    * second
                let from = noon + Int64(random.below(5 * 60)) * minute
                let until =
                    noon + Int64(random.below(4)) * day + Int64(6 * 60 + random.below(3 * 60)) * minute
                hosts[index].away.append(from..<until)
            }
            // And a dozen times for some minutes of the night, which cuts what is under way.
            for _ in 0..<12 {
                let night =
                    start + Int64(random.below(360)) * day + 2 * hour - zone.offset(at: start / second)
                    * second
                let from = night + Int64(random.below(120)) * minute
                hosts[index].away.append(from..<from + Int64(1 + random.below(20)) * minute)
            }
            // Attempts fail now and then; some days all of them.
            for due in try #require(dues[zone.name]).full where random.below(20) == 0 {
                hosts[index].failures[due] = random.below(4) == 0 ? 1000 : 1 + random.below(3)
            }
        }
        let fleet = FleetSimulation(hosts, start: start)
        // The coordinator is off for some hours or days, and started again in the middle of some nights.
        for _ in 0..<6 {
            let noon = start + Int64(random.below(360)) * day + 11 * hour
            fleet.off.append(
                noon..<noon + Int64(random.below(3)) * day + Int64(60 + random.below(60)) * minute
            )
        }
        for _ in 0..<12 {
            let night = start + Int64(random.below(360)) * day + Int64(random.below(120)) * minute
            fleet.off.append(night..<night + 2 * minute)
        }
        fleet.run(from: start, to: end)

        #expect(fleet.mostAtOnce == fleet.capturesAtOnce)
        #expect(fleet.cut > 20)
        for (index, host) in hosts.enumerated() {
            let zone = host.policy.schedule.zone
            let due = try #require(dues[zone.name])
            let timing = try #require(JobTiming(.full, host: host.name, host.policy))
            let away = host.away + fleet.off
            let fulls = fleet.captures[index].filter { $0.kind == .full }
            let hopeless = host.failures.filter { $0.value == 1000 }.keys
            let expected = Self.expected(due.full, timing.offset, away, end: end).filter {
                !hopeless.contains($0)
            }
            let (came, should) = (fulls.map(\.due), expected)
            let odd = Set(came).symmetricDifference(should).sorted().map(Time.rfc3339)
            #expect(odd == [], "\(host.name)")
            #expect(came == should, "\(host.name)")
            #expect(fulls.allSatisfy { $0.started >= $0.due + timing.offset }, "\(host.name)")
            // Nobody waits long for a turn: four at a time, 25 minutes at most.
            if host.away.isEmpty {
                let late = fulls.filter {
                    $0.started > $0.due + timing.offset + 3 * hour
                        && Self.isFree($0.due + timing.offset, fleet.off)
                }
                #expect(late == [], "\(host.name)")
            }
            // Given up within the window, after some attempts.
            for due in hopeless
            where (fleet.failed[index][due] ?? 0) > 0 && Self.isFree(due + timing.offset, away) {
                #expect((1...11).contains(fleet.failed[index][due] ?? 0), "\(host.name)")
            }
            // A full capture that began since is as good as one of the database.
            let databases = fleet.captures[index].filter { $0.kind == .database }
            let satisfied = Self.expected(due.database, timing.offset, away, end: end).filter { due in
                !databases.contains { $0.due == due }
            }
            for due in satisfied {
                #expect(
                    fulls.contains { $0.started >= due && $0.started < due + 4 * day },
                    "\(host.name) \(Time.rfc3339(due))"
                )
            }
            #expect(Set(databases.map(\.due)).count == databases.count)
            #expect(Set(fleet.kept[index]) == Self.naiveKept(fulls.map(\.started), zone), "\(host.name)")
        }
        #expect(fleet.failed.contains { $0.values.contains { $0 > 6 } })
    }

    @Test(arguments: zones)
    func `a host that was always there has one capture each day of the year, on both days of change too`(
        name: String
    ) throws {
        let start = try instant("2026-01-01T00:00:00Z")
        let end = try instant("2027-01-01T12:00:00Z")
        let zone = try TimeZone(named: name)
        let hosts = try Self.fleet(50).filter { $0.policy.schedule.zone == zone }.prefix(2)
        let fleet = FleetSimulation(Array(hosts), start: start)
        fleet.run(from: start, to: end)
        for captures in fleet.captures {
            let days = captures.filter { $0.kind == .full }.map { zone.wall(at: $0.started / second) / 86400 }
            #expect(days.count == 365 || days.count == 366)
            #expect(zip(days, days.dropFirst()).allSatisfy { $1 == $0 + 1 })
            #expect(captures.count { $0.kind == .database } >= 3 * 365)
        }
        // 7 days, 4 weeks of which one ends among them, 12 months.
        #expect(fleet.kept.allSatisfy { (19...23).contains($0.count) }, "\(fleet.kept.map(\.count))")
    }

    @Test func `a clock that jumps an hour and back changes nothing but the time of day`() throws {
        let start = try instant("2026-05-01T12:00:00Z")
        let end = start + 30 * day
        var random = SplitMix(3)
        let hosts = try Self.fleet(20)
        let straight = FleetSimulation(hosts, start: start)
        straight.run(from: start, to: end)
        let crooked = FleetSimulation(hosts, start: start)
        for number in 1..<28 {
            // Around the times when it is due.
            let at = start + Int64(number) * day + 11 * hour + Int64(random.below(240)) * minute
            crooked.clocks.append((at, random.below(2) == 0 ? hour : -hour))
            crooked.clocks.append((at + Int64(10 + random.below(200)) * minute, 0))
        }
        crooked.run(from: start, to: end)
        for index in hosts.indices {
            let one = straight.captures[index].filter { $0.kind == .full }.map(\.due)
            let other = crooked.captures[index].filter { $0.kind == .full }.map(\.due)
            #expect(one == other, "\(hosts[index].name)")
        }
    }

    @Test(arguments: [3 * day, 400 * day, 26 * 365 * day, -3 * day, -400 * day])
    func `a clock that was far off costs at most one capture too many, and none too few`(jump: Int64) throws {
        let start = try instant("2026-05-01T12:00:00Z")
        let end = start + 20 * day
        let hosts = try Self.fleet(20)
        let straight = FleetSimulation(hosts, start: start)
        straight.run(from: start, to: end)
        let crooked = FleetSimulation(hosts, start: start)
        // Over bright day, and over a night.
        crooked.clocks = [
            (start + 5 * day, jump), (start + 5 * day + 2 * hour, 0), (start + 9 * day, jump),
            (start + 10 * day, 0),
        ]
        crooked.run(from: start, to: end)
        for index in hosts.indices {
            func days(_ fleet: FleetSimulation) -> [Int64] {
                fleet.captures[index].filter { $0.kind == .full }.map { ($0.started - start) / day }
            }
            let (one, other) = (days(straight), days(crooked))
            #expect(Set(one).isSubset(of: other), "\(hosts[index].name): \(other)")
            #expect(other.count <= one.count + 3, "\(hosts[index].name): \(other)")
        }
    }
}
