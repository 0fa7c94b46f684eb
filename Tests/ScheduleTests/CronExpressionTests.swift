import Posix
import Schedule
import TestSupport
import Testing

@Suite("Schedules")
struct CronExpressionTests {
    private static func instant(_ text: String) throws -> Int64 {
        try #require(Time.parseRFC3339(text)) / 1_000_000_000
    }

    /// The next `count` times, as RFC 3339 in UTC.
    private static func times(_ text: String, _ zone: String, after start: String, _ count: Int) throws
        -> [String]
    {
        let expression = try CronExpression(text)
        let zone = try TimeZone(named: zone)
        var now = try instant(start)
        var result: [String] = []
        for _ in 0..<count {
            now = try #require(expression.next(after: now, in: zone))
            result.append(Time.rfc3339(now * 1_000_000_000))
        }
        return result
    }

    @Test func `a daily time keeps to the clock through both changes, once each day`() throws {
        #expect(
            try Self.times("30 2 * * *", "Europe/Berlin", after: "2026-03-27T12:00:00Z", 4) == [
                "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z",
                "2026-03-31T00:30:00Z",
            ]
        )
        #expect(
            try Self.times("30 2 * * *", "Europe/Berlin", after: "2026-10-24T12:00:00Z", 3) == [
                "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z", "2026-10-27T01:30:00Z",
            ]
        )
    }

    @Test
    func `times that the clock passes over are due once together, with those that follow at that moment`()
        throws
    {
        #expect(
            try Self.times("*/20 2,3 * * *", "Europe/Berlin", after: "2026-03-28T22:00:00Z", 4) == [
                "2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z", "2026-03-29T01:40:00Z",
                "2026-03-30T00:00:00Z",
            ]
        )
    }

    @Test func `every hour is every hour that passes`() throws {
        #expect(
            try Self.times("15 * * * *", "Europe/Berlin", after: "2026-10-24T23:50:00Z", 4) == [
                "2026-10-25T00:15:00Z", "2026-10-25T01:15:00Z", "2026-10-25T02:15:00Z",
                "2026-10-25T03:15:00Z",
            ]
        )
        let year = try Self.times("0 * * * *", "Europe/Lisbon", after: "2025-12-31T23:30:00Z", 8760)
        #expect(Set(year).count == 8760 && year.last == "2026-12-31T23:00:00Z")
    }

    @Test(arguments: [
        "Europe/Lisbon", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Marquesas",
        "Asia/Kathmandu",
    ])
    func `a year of days has each day once`(name: String) throws {
        let zone = try TimeZone(named: name)
        for hour in [0, 1, 2, 3, 11, 23] {
            let expression = try CronExpression("\(hour * 7 % 60) \(hour) * * *")
            var now = try Self.instant("2025-12-30T00:00:00Z")
            var days: [Int: Int] = [:]
            while let next = expression.next(after: now, in: zone),
                Civil(Int(zone.wall(at: next))).year < 2027
            {
                if Civil(Int(zone.wall(at: next))).year == 2026 {
                    days[Int(zone.wall(at: next)) / 86400, default: 0] += 1
                }
                now = next
            }
            #expect(days.count == 365 && days.values.allSatisfy { $0 == 1 }, "\(name), \(hour) h")
        }
    }

    @Test(arguments: 0..<40)
    func `it is what going through the minutes one by one finds`(seed: UInt64) throws {
        var random = SplitMix(seed)
        func field(_ range: ClosedRange<Int>) -> String {
            let size = UInt64(range.count)
            func value() -> Int { range.lowerBound + Int(random.next() % size) }
            switch random.next() % 5 {
            case 0: return "*"
            case 1: return "*/\(1 + Int(random.next() % (size - 1)))"
            case 2: return "\(value()),\(value())"
            case 3:
                let (a, b) = (value(), value())
                return "\(min(a, b))-\(max(a, b))/\(1 + Int(random.next() % 3))"
            default: return "\(value())"
            }
        }
        let texts = [field(0...59), field(0...23), field(1...28), field(1...12), field(0...6)]
        let expression = try CronExpression(texts.joined(separator: " "))
        func values(_ text: String, _ range: ClosedRange<Int>) -> Set<Int> {
            var found: Set<Int> = []
            for item in text.split(separator: ",") {
                let parts = item.split(separator: "/")
                let ends =
                    parts[0] == "*"
                    ? [range.lowerBound, range.upperBound]
                    : parts[0].split(separator: "-").compactMap { Int($0) }
                guard let first = ends.first, let last = ends.last else { continue }
                for value in first...last
                where (value - first) % (parts.count == 2 ? Int(parts[1]) ?? 1 : 1) == 0 {
                    found.insert(value)
                }
            }
            return found
        }
        let (minutes, hours) = (values(texts[0], 0...59), values(texts[1], 0...23))
        let (days, months, weekdays) = (
            values(texts[2], 1...31), values(texts[3], 1...12), values(texts[4], 0...6)
        )
        let isEither = !texts[2].hasPrefix("*") && !texts[4].hasPrefix("*")
        let start = try Self.instant("2027-12-20T00:00:00Z") + Int64(random.next() % 40_000_000)
        var minute = start / 60 * 60 + 60
        var found: Int64?
        // What comes later than in some months is left to the other tests.
        for _ in 0..<150_000 where found == nil {
            let time = Civil(Int(minute))
            if minutes.contains(time.minute), hours.contains(time.hour), months.contains(time.month) {
                let isDay = days.contains(time.day)
                let number = Civil.days(year: time.year, month: time.month, day: time.day)
                let isWeekday = weekdays.contains((number + 4) % 7)
                if isEither ? isDay || isWeekday : isDay && isWeekday { found = minute }
            }
            minute += 60
        }
        let next = expression.next(after: start, in: .utc)
        if let found {
            #expect(next == found, "\(expression)")
        } else {
            #expect(next.map { $0 >= minute } ?? true)
        }
    }

    @Test func `a leap day is waited for, and names are numbers`() throws {
        #expect(
            try Self.times("0 0 29 feb *", "UTC", after: "2096-03-01T00:00:00Z", 1) == [
                "2104-02-29T00:00:00Z"
            ]
        )
        #expect(
            try Self.times("0 4 * * sun", "UTC", after: "2026-11-21T00:00:00Z", 2)
                == Self.times("0 4 * * 7", "UTC", after: "2026-11-21T00:00:00Z", 2)
        )
        #expect(
            try Self.times("0 4 13 * fri", "UTC", after: "2026-11-21T00:00:00Z", 2) == [
                "2026-11-27T04:00:00Z", "2026-12-04T04:00:00Z",
            ]
        )
    }

    @Test(arguments: [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *", "*/0 * * * *", "a * * * *", "1, * * * *", "-1 * * * *", "1/2 * * * *", "@daily",
        "* * * foo *",
        "0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "٣ * * * *", "99999999999999999999 * * * *",
        "*/99999999999999999999 * * * *",
        "mon * * * *",
    ])
    func `what is no schedule, or never comes, is refused with what would be right`(text: String) {
        do {
            let expression = try CronExpression(text)
            Issue.record("\(expression) was taken")
        } catch { #expect("\(error)".contains("`\(text)`") || "\(error)".contains(" is no "), "\(error)") }
    }
}
