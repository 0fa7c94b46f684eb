import Posix
package import Repository

/// How much is kept of the snapshots of one host and kind, in the meaning of `restic forget` of 0.16 and later.
package struct RetentionPolicy: Sendable, Equatable {
    /// A span of the calendar, as `1y6m7d12h`.
    package struct Span: Sendable, Equatable {
        package var years: Int, months: Int, days: Int, hours: Int

        package init(years: Int = 0, months: Int = 0, days: Int = 0, hours: Int = 0) {
            self.years = years
            self.months = months
            self.days = days
            self.hours = hours
        }

        var isEmpty: Bool { years == 0 && months == 0 && days == 0 && hours == 0 }
    }

    /// A rule that keeps the newest snapshot of each of so many periods.
    package enum Rule: String, Sendable, CaseIterable {
        case last, hourly, daily, weekly, monthly, yearly
    }

    /// Why a snapshot stays.
    package enum Reason: Sendable, Equatable, CustomStringConvertible {
        case rule(Rule)
        case within

        package var description: String {
            switch self {
            case .rule(let rule): rule.rawValue
            case .within: "within"
            }
        }
    }

    /// How many each rule keeps; -1 keeps all that it can tell apart, a rule that is not there keeps nothing.
    package var counts: [Rule: Int]
    package var within: Span?

    package init(_ counts: [Rule: Int] = [:], within: Span? = nil) {
        self.counts = counts
        self.within = within
    }

    /// It would let everything go.
    package var keepsNothing: Bool {
        counts.values.allSatisfy { $0 == 0 } && within?.isEmpty ?? true
    }

    /// Why each snapshot stays; no reason: the policy lets it go.
    ///
    /// - Parameters:
    ///   - snapshots: Of what times their data are, for one host and kind, in any order. Hours, days and months are those
    ///     of each one's own zone.
    ///   - now: Nanoseconds since 1970-01-01T00:00:00Z. What lies behind it does not move the end from which `within` is
    ///     counted.
    /// - Returns: In the order of `snapshots`.
    package func reasons(_ snapshots: [ZonedTime], now: Int64) -> [[Reason]] {
        var result = [[Reason]](repeating: [], count: snapshots.count)
        let newestFirst = snapshots.indices.sorted {
            snapshots[$0].isSame(as: snapshots[$1]) ? $0 < $1 : snapshots[$1].isBefore(snapshots[$0])
        }
        var cutOff: ZonedTime?
        if let within, !within.isEmpty,
            let latest = newestFirst.first(where: { snapshots[$0].nanoseconds <= now })
        {
            cutOff = snapshots[latest].before(within)
        }
        var left = counts
        var kept: [Rule: Int] = [:]
        for (number, index) in newestFirst.enumerated() {
            if let cutOff, cutOff.isBefore(snapshots[index]) { result[index].append(.within) }
            let wall = snapshots[index].wall
            for rule in Rule.allCases {
                guard let count = left[rule], count != 0 else { continue }
                let period = rule.period(wall, number)
                // While a rule has some left it keeps the oldest too, so that the past reaches as far as it can.
                guard period != kept[rule] || number == newestFirst.count - 1 else { continue }
                kept[rule] = period
                if count > 0 { left[rule] = count - 1 }
                result[index].append(.rule(rule))
            }
        }
        return result
    }
}

extension RetentionPolicy: CustomStringConvertible {
    /// As in `last 3, daily 14, within 7d`.
    package var description: String {
        var parts = Rule.allCases.compactMap { rule in
            counts[rule].flatMap { $0 == 0 ? nil : "\(rule.rawValue) \($0 < 0 ? "all" : "\($0)")" }
        }
        if let within, !within.isEmpty { parts.append("within \(within)") }
        return parts.joined(separator: ", ")
    }
}

extension RetentionPolicy.Span: CustomStringConvertible {
    /// As in `1y6m7d12h`.
    package var description: String {
        [(years, "y"), (months, "m"), (days, "d"), (hours, "h")].filter { $0.0 != 0 }.map { "\($0)\($1)" }
            .joined()
    }
}

extension RetentionPolicy.Rule {
    /// A number that all snapshots of a period have in common and no others.
    fileprivate func period(_ wall: Civil, _ number: Int) -> Int {
        let month = wall.year * 100 + wall.month
        let day = month * 100 + wall.day
        switch self {
        case .last: return number
        case .hourly: return day * 100 + wall.hour
        case .daily: return day
        case .weekly: return wall.isoWeek
        case .monthly: return month
        case .yearly: return wall.year
        }
    }
}

extension ZonedTime {
    fileprivate var offset: Int64 { Int64(offsetMinutes) * 60 }
    fileprivate var wall: Civil { Civil(Int(seconds + offset)) }

    fileprivate func isSame(as other: ZonedTime) -> Bool {
        seconds == other.seconds && nanosecond == other.nanosecond
    }

    fileprivate func isBefore(_ other: ZonedTime) -> Bool {
        (seconds, nanosecond) < (other.seconds, other.nanosecond)
    }

    /// The instant a span earlier, by the calendar of this zone; 31 March less a month is 2 or 3 March.
    fileprivate func before(_ span: RetentionPolicy.Span) -> ZonedTime {
        let wall = wall
        let months = wall.year * 12 + wall.month - 1 - span.years * 12 - span.months
        let first = Civil.days(year: months / 12, month: months % 12 + 1, day: 1)
        let day = first + wall.day - 1 - span.days
        var result = self
        result.seconds =
            Int64(day * 86400 + (wall.hour - span.hours) * 3600 + wall.minute * 60 + wall.second) - offset
        return result
    }
}

extension Civil {
    /// Year and week as ISO 8601 counts them: the week belongs to the year that has its Thursday.
    fileprivate var isoWeek: Int {
        let number = Civil.days(year: year, month: month, day: day)
        // Its weeks begin on Monday.
        let thursday = number - (Civil.weekday(ofDay: number) + 6) % 7 + 3
        let yearOfWeek = Civil(thursday * 86400).year
        let firstDay = Civil.days(year: yearOfWeek, month: 1, day: 1)
        return yearOfWeek * 100 + (thursday - firstDay) / 7 + 1
    }
}
