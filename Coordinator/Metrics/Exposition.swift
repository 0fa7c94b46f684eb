/// Figures in Prometheus' text format (version 0.0.4): families in the order in which they were added, each with its
/// help and type before its samples.
package struct Exposition: Sendable {
    package enum Kind: String, Sendable { case gauge, counter }

    /// What a `GET` answers with.
    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    package private(set) var text = ""

    package init() {}

    /// Adds a family; without samples nothing, so that a dashboard shows "no data" and not a number.
    ///
    /// - Parameters:
    ///   - name: With its unit at the end, `_seconds` or `_bytes`; `_total` only for counters.
    ///   - help: A sentence without its full stop.
    ///   - samples: Labels in order, and a value.
    package mutating func add(
        _ name: String,
        _ help: String,
        _ kind: Kind = .gauge,
        _ samples: [(labels: [(String, String)], value: Double)]
    ) {
        guard !samples.isEmpty else { return }
        text += "# HELP \(name) \(Self.escaped(help))\n# TYPE \(name) \(kind.rawValue)\n"
        for sample in samples {
            text += name
            if !sample.labels.isEmpty {
                let labels = sample.labels.map { "\($0)=\"\(Self.escaped($1, quotesToo: true))\"" }
                text += "{\(labels.joined(separator: ","))}"
            }
            text += " \(Self.number(sample.value))\n"
        }
    }

    private static func escaped(_ text: String, quotesToo: Bool = false) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotesToo: result += "\\\""
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// Whole numbers without a point: timestamps and bytes to the digit.
    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
        if value == value.rounded(), abs(value) < 0x1p53 { return String(Int64(value)) }
        return "\(value)"
    }
}
