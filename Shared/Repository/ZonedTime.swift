import Posix

/// An instant as restic writes it (RFC 3339): any year from 0 to 9999, nanoseconds, and the zone it was
/// written in, because a tree's hash covers the zone too.
package struct ZonedTime: Hashable, Sendable {
    /// Seconds since 1970-01-01T00:00:00Z.
    package var seconds: Int64
    /// 0 to 999,999,999, counted forward from `seconds`.
    package var nanosecond: Int32
    /// East of Greenwich.
    package var offsetMinutes: Int16

    /// An instant in UTC, in nanoseconds since 1970-01-01T00:00:00Z.
    package init(nanoseconds: Int64) {
        let whole = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
        let borrowed: Int64 = whole.remainder < 0 ? 1 : 0
        seconds = whole.quotient - borrowed
        nanosecond = Int32(whole.remainder + borrowed * 1_000_000_000)
        offsetMinutes = 0
    }

    /// What Go reads from a time that is missing: the first instant of year 1.
    static let missing = ZonedTime(seconds: -62_135_596_800, nanosecond: 0, offsetMinutes: 0)

    private init(seconds: Int64, nanosecond: Int32, offsetMinutes: Int16) {
        self.seconds = seconds
        self.nanosecond = nanosecond
        self.offsetMinutes = offsetMinutes
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z, held within what 64 bits reach (years 1678 to 2262).
    package var nanoseconds: Int64 {
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, carried) = scaled.addingReportingOverflow(Int64(nanosecond))
        return overflow || carried ? (seconds < 0 ? .min : .max) : sum
    }

    /// nil unless `text` is a date, `T`, a time of day, at most nine digits of fraction that count, and a zone.
    package init?(parsing text: UnsafeBufferPointer<UInt8>) {
        func two(_ index: Int) -> Int? {
            let tens = text[index] &- 0x30
            let ones = text[index + 1] &- 0x30
            return tens < 10 && ones < 10 ? Int(tens) * 10 + Int(ones) : nil
        }
        guard text.count >= 20, text[4] == 0x2D, text[7] == 0x2D, text[10] == 0x54, text[13] == 0x3A,
            text[16] == 0x3A, let century = two(0), let rest = two(2), let month = two(5), let day = two(8),
            let hour = two(11), let minute = two(14), let second = two(17), month >= 1, month <= 12, day >= 1,
            day <= Self.days(in: month, of: century * 100 + rest), hour < 24, minute < 60, second < 60
        else { return nil }
        var index = 19
        var fraction: Int32 = 0
        if text[index] == 0x2E {
            index += 1
            var unit: Int32 = 100_000_000
            let start = index
            while index < text.count, text[index] &- 0x30 < 10 {
                fraction += Int32(text[index] &- 0x30) * unit
                unit /= 10
                index += 1
            }
            if index == start { return nil }
        }
        guard index < text.count else { return nil }
        var offset = 0
        if text[index] == 0x5A {
            index += 1
        } else {
            guard text[index] == 0x2B || text[index] == 0x2D, text.count == index + 6,
                text[index + 3] == 0x3A,
                let hours = two(index + 1), let minutes = two(index + 4), hours < 24, minutes < 60
            else { return nil }
            offset = (hours * 60 + minutes) * (text[index] == 0x2D ? -1 : 1)
            index += 6
        }
        guard index == text.count else { return nil }
        let days = Civil.days(year: century * 100 + rest, month: month, day: day)
        seconds = Int64(days * 86400 + hour * 3600 + minute * 60 + second - offset * 60)
        nanosecond = fraction
        offsetMinutes = Int16(offset)
    }

    package init?(parsing text: String) {
        guard let time = Array(text.utf8).withUnsafeBufferPointer({ ZonedTime(parsing: $0) }) else {
            return nil
        }
        self = time
    }

    private static func days(in month: Int, of year: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Appends the time in its zone, the fraction without trailing zeros, `Z` for an offset of zero.
    func append(to text: inout [UInt8]) {
        // Four digits are all that the format has for the year.
        let local = min(max(seconds + Int64(offsetMinutes) * 60, -62_167_219_200), 253_402_300_799)
        let civil = Civil(Int(local))
        func two(_ value: Int) {
            text.append(0x30 &+ UInt8(truncatingIfNeeded: value / 10))
            text.append(0x30 &+ UInt8(truncatingIfNeeded: value % 10))
        }
        two(civil.year / 100)
        two(civil.year % 100)
        text.append(0x2D)
        two(civil.month)
        text.append(0x2D)
        two(civil.day)
        text.append(0x54)
        two(civil.hour)
        text.append(0x3A)
        two(civil.minute)
        text.append(0x3A)
        two(civil.second)
        if nanosecond != 0 {
            text.append(0x2E)
            var rest = nanosecond
            var unit: Int32 = 100_000_000
            while rest > 0, unit > 0 {
                text.append(0x30 &+ UInt8(truncatingIfNeeded: rest / unit))
                rest %= unit
                unit /= 10
            }
        }
        if offsetMinutes == 0 {
            text.append(0x5A)
        } else {
            text.append(offsetMinutes < 0 ? 0x2D : 0x2B)
            let minutes = Int(offsetMinutes.magnitude)
            two(minutes / 60)
            text.append(0x3A)
            two(minutes % 60)
        }
    }

    package var text: String {
        var bytes: [UInt8] = []
        append(to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }
}
