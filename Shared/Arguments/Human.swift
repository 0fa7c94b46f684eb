/// Figures for people.
package enum Human {
    /// Bytes in powers of 1,000, three figures: `3.21 GB`.
    package static func bytes(_ count: some BinaryInteger) -> String {
        let units = ["B", "kB", "MB", "GB", "TB", "PB"]
        var value = Double(count)
        var unit = 0
        while value >= 999.5 && unit < units.count - 1 {
            value /= 1000
            unit += 1
        }
        if unit == 0 { return "\(Int(value)) B" }
        return "\(fixed(value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0)) \(units[unit])"
    }

    /// A whole number with separators: `412,337`.
    package static func count(_ value: some BinaryInteger) -> String {
        let digits = Array(String(value))
        var result = ""
        for (index, digit) in digits.enumerated() {
            let left = digits.count - index
            if index > 0 && left % 3 == 0 && digits[index - 1] != "-" { result += "," }
            result.append(digit)
        }
        return result
    }

    /// A span in its two largest units: `45 s`, `3 min 20 s`, `2 h 5 min`, `6 d 3 h`.
    package static func duration(nanoseconds: Int64) -> String {
        let seconds = max(0, nanoseconds / 1_000_000_000)
        func two(_ high: Int64, _ highName: String, _ low: Int64, _ lowName: String) -> String {
            low == 0 ? "\(high) \(highName)" : "\(high) \(highName) \(low) \(lowName)"
        }
        switch seconds {
        case ..<60: return "\(seconds) s"
        case ..<3600: return two(seconds / 60, "min", seconds % 60, "s")
        case ..<86_400: return two(seconds / 3600, "h", seconds % 3600 / 60, "min")
        default: return two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h")
        }
    }

    /// `value` with `digits` decimals.
    package static func fixed(_ value: Double, _ digits: Int) -> String {
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let scaled = Int64((value * scale).rounded())
        guard digits > 0 else { return String(scaled) }
        let fraction = String(abs(scaled) % Int64(scale))
        let sign = scaled < 0 && scaled / Int64(scale) == 0 ? "-" : ""
        return "\(sign)\(scaled / Int64(scale))."
            + String(repeating: "0", count: digits - fraction.count) + fraction
    }
}
