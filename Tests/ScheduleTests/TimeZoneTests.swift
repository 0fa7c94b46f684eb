import Posix
import Schedule
import TestSupport
import Testing

@Suite("Time zones")
struct TimeZoneTests {
    private static let zones = [
        "UTC", "Europe/Lisbon", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kathmandu",
        "Pacific/Marquesas", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Europe/Dublin",
        "America/St_Johns",
    ]

    /// What the system's own `date` says: the offset at each instant.
    private static func system(_ zone: String, _ instants: [Int64]) throws -> [Int64] {
        let input = instants.map { "@\($0)\n" }.joined()
        let said = try ChildProcess.run(
            ["date", "-f", "-", "+%z"],
            environment: ["TZ": zone],
            input: Array(input.utf8)
        )
        return String(decoding: said.output, as: UTF8.self).split(separator: "\n").compactMap { line in
            guard let number = Int64(line) else { return nil }
            let (hours, minutes) = (abs(number) / 100, abs(number) % 100)
            return (number < 0 ? -1 : 1) * (hours * 3600 + minutes * 60)
        }
    }

    @Test(arguments: zones)
    func `the offset is the system's, today, long ago and in all years to come`(name: String) throws {
        let zone = try TimeZone(named: name)
        var random = SplitMix(UInt64(name.utf8.reduce(0) { $0 + Int($1) }))
        // 1975 to 2150.
        let instants = (0..<1500).map { _ in 157_766_400 + Int64(random.next() % 5_522_515_200) }
        let expected = try Self.system(name, instants)
        #expect(expected.count == instants.count)
        // `date` gives whole minutes.
        let wrong = zip(instants, expected).filter { zone.offset(at: $0) / 60 * 60 != $1 }
        #expect(wrong.isEmpty, "\(wrong.prefix(3))")
    }

    @Test(arguments: zones)
    func `every instant is found again from what the clock shows`(name: String) throws {
        let zone = try TimeZone(named: name)
        var random = SplitMix(7)
        let instants = (0..<1500).map { _ in 157_766_400 + Int64(random.next() % 5_522_515_200) }
        let lost = instants.filter { instant in
            let found = zone.instants(of: zone.wall(at: instant))
            return !found.contains(instant) || found.count > 2
        }
        #expect(lost.isEmpty, "\(lost.prefix(3))")
    }

    @Test func `a time that the clock passes over is the moment when it is put forward`() throws {
        let zone = try TimeZone(named: "Europe/Berlin")
        let change = try #require(Time.parseRFC3339("2026-03-29T01:00:00Z")) / 1_000_000_000
        for minute in 0..<60 {
            let wall =
                try #require(Time.parseRFC3339("2026-03-29T02:00:00Z")) / 1_000_000_000 + Int64(minute) * 60
            #expect(zone.instants(of: wall) == [change])
        }
    }

    @Test func `a day that was left out at the date line is the moment after it`() throws {
        let zone = try TimeZone(named: "Pacific/Apia")
        let noon = try #require(Time.parseRFC3339("2011-12-30T12:00:00Z")) / 1_000_000_000
        let change = try #require(Time.parseRFC3339("2011-12-30T10:00:00Z")) / 1_000_000_000
        #expect(zone.instants(of: noon) == [change])
    }

    @Test(arguments: [
        "", "Europe/Atlantis", "../../etc/passwd", "/etc/localtime", "Europe", "zone.tab", ".", "a\u{0}b",
    ])
    func `what is no zone is refused`(name: String) {
        #expect(throws: TimeZoneError.self) { try TimeZone(named: name) }
    }

    @Test func `a file that is cut or changed anywhere is refused or read, never a crash`() throws {
        let bytes = try Files.read("/usr/share/zoneinfo/Europe/Berlin")
        for count in stride(from: 0, to: bytes.count, by: 7) {
            #expect(throws: TimeZoneError.self) { try TimeZone(name: "cut", file: Array(bytes[..<count])) }
        }
        var random = SplitMix(11)
        for _ in 0..<1000 {
            var changed = bytes
            for _ in 0..<3 {
                changed[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
            }
            if let zone = try? TimeZone(name: "changed", file: changed) {
                _ = zone.instants(of: zone.wall(at: Int64(random.next() % 4_000_000_000)))
            }
        }
    }
}
