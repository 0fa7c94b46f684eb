import Glibc
package import Posix

/// What clocks on the wall show in one place at any instant, from the system's tz database (RFC 9636).
///
/// Instants are seconds since 1970-01-01T00:00:00Z. A *wall time* is what a clock shows, written as the seconds that
/// would be an instant in UTC.
package struct TimeZone: Sendable, Equatable {
    package static let utc = TimeZone(name: "UTC", transitions: [], offsets: [0], rule: nil)

    /// As in `Europe/Lisbon`.
    package let name: String
    /// Instants, ascending; from each on the offset behind it counts.
    private let transitions: [Int64]
    /// Seconds east of UTC; one more than there are transitions, the first counts before all of them.
    private let offsets: [Int64]
    /// What counts after the last transition.
    private let rule: DaylightRule?

    private static let folder = "/usr/share/zoneinfo"
    /// No file of the database comes near it.
    private static let mostBytes = 1 << 20

    private init(name: String, transitions: [Int64], offsets: [Int64], rule: DaylightRule?) {
        self.name = name
        self.transitions = transitions
        self.offsets = offsets
        self.rule = rule
    }

    /// - Throws: `TimeZoneError` for a name that the database does not have, and for a file that is no zone.
    package init(named name: String) throws(TimeZoneError) {
        if name == "UTC" {
            self = .utc
            return
        }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        let isName = parts.allSatisfy { part in
            !part.isEmpty && part.first != "."
                && part.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
        }
        guard isName else { throw .unknown(name) }
        let bytes: [UInt8]
        do throws(SystemCallError) {
            bytes = try Files.read("\(Self.folder)/\(name)", limit: Self.mostBytes)
        } catch {
            guard [ENOENT, ENOTDIR, EISDIR].contains(error.code) else { throw .unreadable(error) }
            throw .unknown(name)
        }
        try self.init(name: name, file: bytes)
    }

    /// What this machine's clocks show: `TZ`, else /etc/localtime, else UTC. Where /etc/localtime is no link, as in
    /// containers that it is mounted into, the zone is there but its name is not.
    package static var system: TimeZone {
        if let set = environmentVariables()["TZ"], !set.isEmpty {
            return (try? TimeZone(named: String(set.drop { $0 == ":" }))) ?? .utc
        }
        let link = "/etc/localtime"
        if let target = try? Files.linkTarget(at: AT_FDCWD, Array(link.utf8)) {
            let parts = String(decoding: target, as: UTF8.self).split(separator: "/")
            if let start = parts.lastIndex(of: "zoneinfo"),
                let zone = try? TimeZone(named: parts[(start + 1)...].joined(separator: "/"))
            {
                return zone
            }
        }
        guard let bytes = try? Files.read(link, limit: mostBytes) else { return .utc }
        return (try? TimeZone(name: "localtime", file: bytes)) ?? .utc
    }

    /// - Parameter file: The text of a TZif file of version 2 or later.
    package init(name: String, file bytes: [UInt8]) throws(TimeZoneError) {
        var reader = ZoneReader(bytes, name)
        // The first part, for readers with 32 bits, is passed over.
        let old = try reader.header()
        try reader.skip(old.size(ofTime: 4))
        let counts = try reader.header()
        var transitions: [Int64] = []
        for _ in 0..<counts.times { transitions.append(Int64(bitPattern: try reader.number(8))) }
        var types: [Int] = []
        for _ in 0..<counts.times { types.append(Int(try reader.number(1))) }
        var kinds: [Int64] = []
        for _ in 0..<counts.types {
            kinds.append(Int64(Int32(truncatingIfNeeded: try reader.number(4))))
            try reader.skip(2)
        }
        try reader.skip(counts.size(ofTime: 8) - counts.times * 9 - counts.types * 6)
        let footer = try reader.footer()
        guard let first = kinds.first, types.allSatisfy({ $0 < kinds.count }),
            kinds.allSatisfy({ abs($0) < 2 * 86400 }),
            zip(transitions, transitions.dropFirst()).allSatisfy({ $0 < $1 })
        else { throw .malformed(name) }
        var rule: DaylightRule?
        if !footer.isEmpty {
            guard let read = DaylightRule(footer) else { throw .malformed(name) }
            rule = read
        }
        self.init(
            name: name,
            transitions: transitions,
            offsets: [first] + types.map { kinds[$0] },
            rule: rule
        )
    }

    /// Seconds east of UTC at an instant.
    package func offset(at instant: Int64) -> Int64 {
        if let rule, transitions.last.map({ instant >= $0 }) ?? true { return rule.offset(at: instant) }
        var (low, high) = (0, transitions.count)
        while low < high {
            let middle = (low + high) / 2
            if transitions[middle] <= instant { low = middle + 1 } else { high = middle }
        }
        return offsets[low]
    }

    package func wall(at instant: Int64) -> Int64 { instant + offset(at: instant) }

    /// When a clock shows `wall`: once, or twice where clocks were put back. Where they were put forward over it, the
    /// instant at which that was done.
    package func instants(of wall: Int64) -> [Int64] {
        // No offset is more than 26 hours from another, and none counts for less than some days.
        let near = [-26, -13, 0, 13, 26].map { offset(at: wall + $0 * 3600) }
        let found = Set(near).map { wall - $0 }.filter { self.wall(at: $0) == wall }.sorted()
        if !found.isEmpty { return found }
        guard let least = near.min(), let most = near.max() else { return [] }
        var (before, after) = (wall - most, wall - least)
        let old = offset(at: before)
        while after - before > 1 {
            let middle = (before + after) / 2
            if offset(at: middle) == old { before = middle } else { after = middle }
        }
        return [after]
    }
}

package enum TimeZoneError: Error, Equatable, CustomStringConvertible {
    case unknown(String)
    case unreadable(SystemCallError)
    case malformed(String)

    package var description: String {
        switch self {
        case .unknown(let name):
            "there is no time zone `\(name)`: write one of the tz database, like Europe/Lisbon or UTC "
                + "(package tzdata; `timedatectl list-timezones` shows them)"
        case .unreadable(let error): "the time zone's file: \(error)"
        case .malformed(let name): "the system's file of the time zone `\(name)` cannot be understood"
        }
    }
}

/// Reads the parts of a TZif file; numbers are big-endian.
private struct ZoneReader {
    struct Counts {
        var isUT, isStandard, leaps, times, types, characters: Int

        /// Bytes of the part behind this header.
        func size(ofTime time: Int) -> Int {
            times * (time + 1) + types * 6 + characters + leaps * (time + 4) + isStandard + isUT
        }
    }

    private var rest: ArraySlice<UInt8>
    private let name: String

    init(_ bytes: [UInt8], _ name: String) {
        rest = bytes[...]
        self.name = name
    }

    mutating func skip(_ count: Int) throws(TimeZoneError) {
        guard count >= 0, count <= rest.count else { throw .malformed(name) }
        rest = rest.dropFirst(count)
    }

    mutating func number(_ bytes: Int) throws(TimeZoneError) -> UInt64 {
        let taken = rest.prefix(bytes)
        try skip(bytes)
        return taken.reduce(0) { $0 << 8 | UInt64($1) }
    }

    mutating func header() throws(TimeZoneError) -> Counts {
        guard rest.starts(with: Array("TZif".utf8)), rest.dropFirst(4).first.map({ $0 >= 0x32 }) ?? false
        else {
            throw .malformed(name)
        }
        try skip(20)
        var counts: [Int] = []
        for _ in 0..<6 { counts.append(Int(try number(4))) }
        // More than any zone has, and few enough that no sum overflows.
        guard counts.allSatisfy({ $0 < 1 << 20 }) else { throw .malformed(name) }
        return Counts(
            isUT: counts[0],
            isStandard: counts[1],
            leaps: counts[2],
            times: counts[3],
            types: counts[4],
            characters: counts[5]
        )
    }

    /// The text between two line ends.
    mutating func footer() throws(TimeZoneError) -> String {
        guard rest.first == 0x0A, let end = rest.dropFirst().firstIndex(of: 0x0A) else {
            throw .malformed(name)
        }
        return String(decoding: rest[(rest.startIndex + 1)..<end], as: UTF8.self)
    }
}
