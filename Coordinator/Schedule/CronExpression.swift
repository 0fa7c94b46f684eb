import Posix

/// Five fields of cron: minute, hour, day of the month, month, day of the week (crontab(5) of Debian's cron).
///
/// Lists, ranges, steps, and English names of months and weekdays in three letters; 0 and 7 are Sunday. When both days
/// are restricted either is enough. On the days when clocks are changed nothing runs twice and nothing is left out: a time
/// that clocks pass over is due when they are put forward, one that they show twice is due the first time. Only where the
/// hour begins with `*` does every hour count that really passes.
package struct CronExpression: Sendable, Equatable, CustomStringConvertible {
    package let description: String
    private let minutes: Field
    private let hours: Field
    private let days: Field
    private let months: Field
    private let weekdays: Field

    /// - Throws: `CronError`, with what would be right.
    package init(_ text: String) throws(CronError) {
        let words = text.split(whereSeparator: { $0 == " " || $0 == "\t" })
        guard words.count == 5 else { throw .fieldCount(text, words.count) }
        description = words.joined(separator: " ")
        minutes = try Field(words[0], .minute)
        hours = try Field(words[1], .hour)
        days = try Field(words[2], .day)
        months = try Field(words[3], .month)
        weekdays = try Field(words[4], .weekday)
        let isPossible =
            weekdays.isRestricted && days.isRestricted
            || (1...12).contains { month in
                // Of a leap year.
                let last = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
                return months.contains(month) && (1...last).contains { days.contains($0) }
            }
        guard isPossible else { throw .never(text) }
    }

    /// When it is due next.
    ///
    /// - Parameter instant: Seconds since 1970-01-01T00:00:00Z.
    /// - Returns: Seconds since 1970-01-01T00:00:00Z, later than `instant`; nil behind the year 9999.
    package func next(after instant: Int64, in zone: TimeZone) -> Int64? {
        // Clocks that were put back show again what is earlier than now; none was put back by more, but over the date line.
        let back: Int64 = 3 * 3600
        var wall = zone.wall(at: instant) - back
        var found: Int64?
        while let match = nextWall(after: wall) {
            wall = match
            if let found, wall > zone.wall(at: found) + back { return found }
            let instants = zone.instants(of: wall)
            for due in hours.isRestricted ? instants.prefix(1) : instants[...] where due > instant {
                found = min(found ?? due, due)
            }
        }
        return found
    }

    /// The next matching minute by the clock.
    private func nextWall(after wall: Int64) -> Int64? {
        var time = Civil(Int(wall.minuteStart + 60))
        while time.year <= 9999 {
            if !months.contains(time.month) {
                time = Civil(Self.wall(time.year, time.month + 1, 1))
            } else if !isDay(time) {
                time = Civil(Self.wall(time.year, time.month, time.day + 1))
            } else if !hours.contains(time.hour) {
                time = Civil(Self.wall(time.year, time.month, time.day, time.hour + 1))
            } else if !minutes.contains(time.minute) {
                time = Civil(Self.wall(time.year, time.month, time.day, time.hour, time.minute + 1))
            } else {
                return Int64(Self.wall(time.year, time.month, time.day, time.hour, time.minute))
            }
        }
        return nil
    }

    private func isDay(_ time: Civil) -> Bool {
        let number = Civil.days(year: time.year, month: time.month, day: time.day)
        let isWeekday = weekdays.contains(Civil.weekday(ofDay: number))
        let isDay = days.contains(time.day)
        return days.isRestricted && weekdays.isRestricted ? isDay || isWeekday : isDay && isWeekday
    }

    /// Each may be one too many.
    private static func wall(_ year: Int, _ month: Int, _ day: Int, _ hour: Int = 0, _ minute: Int = 0) -> Int
    {
        (Civil.days(year: year, month: month, day: 1) + day - 1) * 86400 + hour * 3600 + minute * 60
    }
}

extension Int64 {
    /// The start of the minute that these seconds are in.
    fileprivate var minuteStart: Int64 { self - ((self % 60) + 60) % 60 }
}

package enum CronError: Error, Equatable, CustomStringConvertible {
    case fieldCount(String, Int)
    case field(name: String, text: String, expected: String)
    case never(String)

    package var description: String {
        switch self {
        case .fieldCount(let text, let count):
            "`\(text)` has \(count) fields, not five: minute, hour, day of the month, month, day of the week; "
                + "`30 2 * * *` is daily at 02:30"
        case .field(let name, let text, let expected): "`\(text)` is no \(name): \(expected)"
        case .never(let text): "`\(text)` never comes: no month that it names has such a day"
        }
    }
}

/// The numbers that one field admits.
private struct Field: Equatable {
    enum Kind {
        case minute, hour, day, month, weekday

        var name: String {
            switch self {
            case .minute: "minute"
            case .hour: "hour"
            case .day: "day of the month"
            case .month: "month"
            case .weekday: "day of the week"
            }
        }

        var range: ClosedRange<Int> {
            switch self {
            case .minute: 0...59
            case .hour: 0...23
            case .day: 1...31
            case .month: 1...12
            case .weekday: 0...7
            }
        }

        /// The first stands for the least number.
        var words: [String] {
            switch self {
            case .month: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
            case .weekday: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
            default: []
            }
        }
    }

    private var bits: UInt64 = 0
    /// Does not begin with `*`.
    let isRestricted: Bool

    func contains(_ value: Int) -> Bool { bits >> UInt64(value) & 1 == 1 }

    init(_ text: Substring, _ kind: Kind) throws(CronError) {
        isRestricted = text.first != "*"
        let range = kind.range
        let named = kind.words.isEmpty ? "" : " or \(kind.words[0]) to \(kind.words[kind.words.count - 1])"
        let expected =
            "`*`, or \(range.lowerBound) to \(range.upperBound)\(named), as in `5`, `1,15`, `8-18`, `*/2`, `8-18/2`"
        func number(_ word: Substring) -> Int? {
            if let index = kind.words.firstIndex(of: word.lowercased()) { return index + range.lowerBound }
            guard word.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let value = Int(word),
                range.contains(value)
            else { return nil }
            return value
        }
        for item in text.split(separator: ",", omittingEmptySubsequences: false) {
            let wrong = CronError.field(name: kind.name, text: String(text), expected: expected)
            let parts = item.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            var step = 1
            if parts.count == 2 {
                guard let value = Int(parts[1]), value > 0, value <= range.upperBound else { throw wrong }
                step = value
            }
            var span = range
            if parts[0] == "*" {
                if kind == .weekday { span = 0...6 }
            } else {
                let ends = parts[0].split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
                guard let first = number(ends[0]) else { throw wrong }
                guard let last = ends.count == 2 ? number(ends[1]) : parts.count == 2 ? nil : first,
                    first <= last
                else { throw wrong }
                span = first...last
            }
            for value in stride(from: span.lowerBound, through: span.upperBound, by: step) {
                // Sunday has two numbers.
                bits |= 1 << UInt64(kind == .weekday ? value % 7 : value)
            }
        }
    }
}
