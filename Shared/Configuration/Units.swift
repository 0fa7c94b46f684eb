/// Sizes and durations as people write them: a number and a unit.
package enum Units {
    /// Bytes of `64 MiB`, `1.5GB`, `10 k`: IEC units by 1024, SI units by 1000, a bare letter is IEC as with restic.
    package static func bytes(_ text: String) -> Int64? {
        let units: [String: Double] = [
            "b": 1, "k": 0x1p10, "m": 0x1p20, "g": 0x1p30, "t": 0x1p40, "kib": 0x1p10, "mib": 0x1p20,
            "gib": 0x1p30, "tib": 0x1p40, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
        ]
        guard let parts = parts(text), parts.count == 1, let part = parts.first else { return nil }
        return units[part.unit.lowercased()].flatMap { whole(part.number * $0) }
    }

    /// Nanoseconds of `90s`, `1h 30m`, `7d`, `2w`.
    package static func nanoseconds(_ text: String) -> Int64? {
        let units: [String: Double] = [
            "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9, "d": 86400e9, "w": 604_800e9,
        ]
        guard let parts = parts(text) else { return nil }
        var total = 0.0
        for part in parts {
            guard let unit = units[part.unit] else { return nil }
            total += part.number * unit
        }
        return whole(total)
    }

    /// A duration as `nanoseconds` reads it, in days where it is whole ones: `26h`, `7d`, `1h 30m`.
    package static func text(nanoseconds: Int64) -> String {
        let day: Int64 = 86_400_000_000_000
        if nanoseconds >= 2 * day, nanoseconds % day == 0 { return "\(nanoseconds / day)d" }
        var rest = nanoseconds
        var parts: [String] = []
        for (unit, size) in [
            ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000),
        ] as [(String, Int64)] where rest >= size {
            parts.append("\(rest / size)\(unit)")
            rest %= size
        }
        return parts.isEmpty ? "0s" : parts.joined(separator: " ")
    }

    /// A size as `bytes` reads it, whole in the largest unit that it fills: `500 GB`, `20 GiB`, `1500 MB`.
    package static func text(bytes: Int64) -> String {
        let units: [(String, Int64)] = [
            ("TiB", 1 << 40), ("TB", 1_000_000_000_000), ("GiB", 1 << 30), ("GB", 1_000_000_000),
            ("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("kB", 1000),
        ]
        // Of 1000 GiB and the same in kB the shorter is meant.
        let fitting = units.filter { bytes >= $0.1 && bytes % $0.1 == 0 }.map { "\(bytes / $0.1) \($0.0)" }
        return fitting.min { $0.count < $1.count } ?? "\(bytes) B"
    }

    private static func whole(_ value: Double) -> Int64? { value < 0x1p62 ? Int64(value.rounded()) : nil }

    /// `1h 30m` as (1, h), (30, m); nil when it is not numbers and units in turn.
    private static func parts(_ text: String) -> [(number: Double, unit: String)]? {
        var result: [(Double, String)] = []
        var rest = text[...].drop(while: { $0 == " " })
        while !rest.isEmpty {
            let number = rest.prefix { $0.isASCII && $0.isNumber || $0 == "." }
            rest = rest.dropFirst(number.count).drop(while: { $0 == " " })
            let unit = rest.prefix { $0.isASCII && $0.isLetter }
            rest = rest.dropFirst(unit.count).drop(while: { $0 == " " })
            guard let value = Double(number), !unit.isEmpty else { return nil }
            result.append((value, String(unit)))
        }
        return result.isEmpty ? nil : result
    }
}
