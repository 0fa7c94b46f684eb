import Posix

/// The rule for all years to come, as the text behind a TZif file has it: `WET0WEST,M3.5.0/1,M10.5.0`
/// (POSIX.1, TZ; with the hours of RFC 9636 §3.3.2).
struct DaylightRule: Sendable, Equatable {
    /// A moment of every year.
    private struct Change: Sendable, Equatable {
        enum Day: Sendable, Equatable {
            /// 1 to 365; 29 February is never counted.
            case ofCommonYear(Int)
            /// 0 to 365.
            case ofYear(Int)
            /// The nth weekday (0: Sunday) of a month; the fifth is the last.
            case weekday(month: Int, nth: Int, weekday: Int)
        }
        var day: Day
        /// Seconds after midnight, by the clock that counts until then.
        var time: Int64

        /// The wall time of the change in `year`.
        func wall(in year: Int) -> Int64 {
            let days: Int
            switch day {
            case .ofCommonYear(let number):
                let isLeap =
                    Civil.days(year: year, month: 3, day: 1) - Civil.days(year: year, month: 2, day: 28) == 2
                days = Civil.days(year: year, month: 1, day: 1) + number - 1 + (isLeap && number > 59 ? 1 : 0)
            case .ofYear(let number): days = Civil.days(year: year, month: 1, day: 1) + number
            case .weekday(let month, let nth, let weekday):
                let first = Civil.days(year: year, month: month, day: 1)
                let next = Civil.days(year: year, month: month + 1, day: 1)
                var found = first + (weekday - Civil.weekday(ofDay: first) + 7) % 7 + (nth - 1) * 7
                while found >= next { found -= 7 }
                days = found
            }
            return Int64(days) * 86400 + time
        }
    }

    private let standard: Int64
    private let daylight: Daylight?

    private struct Daylight: Sendable, Equatable {
        var offset: Int64
        var start: Change
        var end: Change
    }

    /// Nil for a text that is no rule.
    init?(_ text: String) {
        var reader = RuleReader(text)
        guard reader.name(), let west = reader.time(most: 24) else { return nil }
        standard = -west
        if reader.isAtEnd {
            daylight = nil
            return
        }
        guard reader.name() else { return nil }
        var offset = standard + 3600
        if !reader.next(is: ",") {
            guard let west = reader.time(most: 24) else { return nil }
            offset = -west
        }
        guard let start = Self.change(&reader), let end = Self.change(&reader), reader.isAtEnd else {
            return nil
        }
        daylight = Daylight(offset: offset, start: start, end: end)
    }

    private static func change(_ reader: inout RuleReader) -> Change? {
        guard reader.take(",") else { return nil }
        let day: Change.Day
        if reader.take("M") {
            guard let month = reader.number(in: 1...12), reader.take("."), let nth = reader.number(in: 1...5),
                reader.take("."), let weekday = reader.number(in: 0...6)
            else { return nil }
            day = .weekday(month: month, nth: nth, weekday: weekday)
        } else if reader.take("J") {
            guard let number = reader.number(in: 1...365) else { return nil }
            day = .ofCommonYear(number)
        } else {
            guard let number = reader.number(in: 0...365) else { return nil }
            day = .ofYear(number)
        }
        guard reader.take("/") else { return Change(day: day, time: 7200) }
        guard let time = reader.time(most: 167) else { return nil }
        return Change(day: day, time: time)
    }

    /// Seconds east of UTC.
    func offset(at instant: Int64) -> Int64 {
        guard let daylight else { return standard }
        let year = Civil(Int(instant + standard)).year
        let start = daylight.start.wall(in: year) - standard
        let end = daylight.end.wall(in: year) - daylight.offset
        // South of the equator summer lasts over the end of the year.
        let isDaylight =
            start < end ? start <= instant && instant < end : !(end <= instant && instant < start)
        return isDaylight ? daylight.offset : standard
    }
}

private struct RuleReader {
    private var rest: Substring

    init(_ text: String) { rest = text[...] }

    var isAtEnd: Bool { rest.isEmpty }
    func next(is character: Character) -> Bool { rest.first == character }

    mutating func take(_ character: Character) -> Bool {
        guard rest.first == character else { return false }
        rest = rest.dropFirst()
        return true
    }

    /// `WEST` or `<+0530>`.
    mutating func name() -> Bool {
        if take("<") {
            guard let end = rest.firstIndex(of: ">") else { return false }
            rest = rest[rest.index(after: end)...]
            return true
        }
        let letters = rest.prefix { $0.isASCII && $0.isLetter }
        rest = rest.dropFirst(letters.count)
        return letters.count >= 3
    }

    mutating func number(in range: ClosedRange<Int>) -> Int? {
        let digits = rest.prefix { $0.isASCII && $0.isNumber }
        rest = rest.dropFirst(digits.count)
        guard let value = Int(digits), range.contains(value) else { return nil }
        return value
    }

    /// `-3:30:00` as seconds.
    mutating func time(most hours: Int) -> Int64? {
        let isNegative = take("-")
        if !isNegative { _ = take("+") }
        guard let hour = number(in: 0...hours) else { return nil }
        var seconds = hour * 3600
        if take(":") {
            guard let minute = number(in: 0...59) else { return nil }
            seconds += minute * 60
            if take(":") {
                guard let second = number(in: 0...59) else { return nil }
                seconds += second
            }
        }
        return Int64(isNegative ? -seconds : seconds)
    }
}
