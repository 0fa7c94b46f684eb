import Glibc

/// Instants are nanoseconds since 1970-01-01T00:00:00Z; durations are nanoseconds.
package enum Time {
    package static func now() -> Int64 { read(CLOCK_REALTIME) }

    /// Nanoseconds on a clock that never jumps; only differences mean anything.
    package static func monotonic() -> Int64 { read(CLOCK_MONOTONIC) }

    /// Nanoseconds since the machine started, with those in which it slept.
    package static func sinceBoot() -> Int64 { read(CLOCK_BOOTTIME) }

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    package static func sleep(seconds: Double) {
        var left = timespec(tv_sec: Int(seconds), tv_nsec: Int((seconds - seconds.rounded(.down)) * 1e9))
        var remaining = timespec()
        while nanosleep(&left, &remaining) != 0 && errno == EINTR { left = remaining }
    }

    /// RFC 3339 in UTC, up to nine fractional digits with trailing zeros left out, as restic writes times.
    package static func rfc3339(_ nanoseconds: Int64) -> String {
        let (seconds, fraction) = split(nanoseconds)
        let civil = Civil(seconds)
        var text =
            "\(padded(civil.year, 4))-\(padded(civil.month, 2))-\(padded(civil.day, 2))"
            + "T\(padded(civil.hour, 2)):\(padded(civil.minute, 2)):\(padded(civil.second, 2))"
        if fraction != 0 {
            var digits = padded(fraction, 9)
            while digits.hasSuffix("0") { digits.removeLast() }
            text += "." + digits
        }
        return text + "Z"
    }

    /// `20261121T102334` in UTC.
    package static func compact(_ nanoseconds: Int64) -> String {
        let civil = Civil(split(nanoseconds).seconds)
        return "\(padded(civil.year, 4))\(padded(civil.month, 2))\(padded(civil.day, 2))"
            + "T\(padded(civil.hour, 2))\(padded(civil.minute, 2))\(padded(civil.second, 2))"
    }

    /// Local time with the zone's offset, for people: `2026-11-21 10:23:34 +0100`.
    package static func local(_ nanoseconds: Int64) -> String {
        var seconds = time_t(split(nanoseconds).seconds)
        var fields = tm()
        localtime_r(&seconds, &fields)
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
            guard let base = buffer.baseAddress, strftime(base, 64, "%Y-%m-%d %H:%M:%S %z", &fields) > 0
            else { return rfc3339(nanoseconds) }
            return String(cString: base)
        }
    }

    /// Reads RFC 3339 with `Z` or an offset and up to nine fractional digits; nil for anything else and for
    /// years that 64 bits of nanoseconds do not reach.
    package static func parseRFC3339(_ text: String) -> Int64? {
        let bytes = Array(text.utf8)
        func number(_ range: Range<Int>) -> Int? {
            guard range.upperBound <= bytes.count else { return nil }
            var value = 0
            for byte in bytes[range] {
                guard byte >= 0x30 && byte <= 0x39 else { return nil }
                value = value * 10 + Int(byte - 0x30)
            }
            return value
        }
        guard bytes.count >= 20, bytes[4] == 0x2D, bytes[7] == 0x2D, bytes[10] == 0x54 || bytes[10] == 0x74,
            bytes[13] == 0x3A, bytes[16] == 0x3A, let year = number(0..<4), let month = number(5..<7),
            let day = number(8..<10), let hour = number(11..<13), let minute = number(14..<16),
            let second = number(17..<19), (1...12).contains(month), (1...31).contains(day), hour < 24,
            minute < 60, second <= 60
        else { return nil }
        var index = 19
        var fraction = 0
        if bytes[index] == 0x2E {
            let start = index + 1
            index = start
            while index < bytes.count, (0x30...0x39).contains(bytes[index]) { index += 1 }
            guard index > start, index - start <= 9, let value = number(start..<index) else { return nil }
            fraction = value
            for _ in 0..<(9 - (index - start)) { fraction *= 10 }
        }
        guard index < bytes.count else { return nil }
        var offset = 0
        switch bytes[index] {
        case 0x5A, 0x7A:
            index += 1
        case 0x2B, 0x2D:
            guard index + 6 <= bytes.count, bytes[index + 3] == 0x3A,
                let hours = number(index + 1..<index + 3),
                let minutes = number(index + 4..<index + 6)
            else { return nil }
            offset = (hours * 3600 + minutes * 60) * (bytes[index] == 0x2D ? -1 : 1)
            index += 6
        default: return nil
        }
        guard index == bytes.count else { return nil }
        let seconds =
            Civil.days(year: year, month: month, day: day) * 86400 + hour * 3600 + minute * 60 + second
            - offset
        let (scaled, overflow) = Int64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        let (total, carried) = scaled.addingReportingOverflow(Int64(fraction))
        return overflow || carried ? nil : total
    }

    /// The moment so much later, held within what 64 bits reach: a limit that is as long as never does no harm.
    package static func adding(_ span: Int64, to moment: Int64) -> Int64 {
        let (sum, overflow) = moment.addingReportingOverflow(span)
        return overflow ? (span < 0 ? .min : .max) : sum
    }

    private static func split(_ nanoseconds: Int64) -> (seconds: Int, fraction: Int) {
        var seconds = nanoseconds / 1_000_000_000
        var fraction = nanoseconds % 1_000_000_000
        if fraction < 0 {
            seconds -= 1
            fraction += 1_000_000_000
        }
        return (Int(seconds), Int(fraction))
    }
}

private func padded(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
}

/// Proleptic Gregorian calendar in UTC (algorithms for days and civil dates by era of 400 years).
package struct Civil {
    package var year, month, day, hour, minute, second: Int

    /// - Parameter seconds: Since 1970-01-01T00:00:00Z.
    package init(_ seconds: Int) {
        let days = Int((Double(seconds) / 86400).rounded(.down))
        let rest = seconds - days * 86400
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthIndex = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * monthIndex + 2) / 5 + 1
        month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        hour = rest / 3600
        minute = rest / 60 % 60
        second = rest % 60
    }

    /// Days since 1970-01-01; month 13 is January of the year after.
    package static func days(year: Int, month: Int, day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }

    /// The day of the week of a day since 1970-01-01, which was a Thursday: 0 for Sunday to 6.
    package static func weekday(ofDay number: Int) -> Int { ((number + 4) % 7 + 7) % 7 }
}
