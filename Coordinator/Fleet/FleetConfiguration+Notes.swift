import Configuration
import Schedule

extension FleetConfiguration {
    /// What is no mistake and yet will surprise: hosts whose captures are due so seldom that their age is a warning in
    /// between. A sentence each, for all hosts of which it is true.
    ///
    /// - Parameter now: Nanoseconds since 1970-01-01T00:00:00Z; what is due in the year behind it is looked at.
    package func surprises(now: Int64) -> [String] {
        var hostsOf: [String: [String]] = [:]
        var gaps: [Gap: Int64?] = [:]
        for (name, policy) in hosts {
            let schedule = policy.schedule
            for (what, key, expression, threshold) in [
                ("full", "full", schedule.full, policy.thresholds.full),
                // A full capture holds a dump too.
                ("database", "database", schedule.database ?? schedule.full, policy.thresholds.dump),
            ] {
                let age = "`thresholds.\(key)`"
                guard let expression else {
                    hostsOf[
                        "no \(what) capture is ever due, and the age of the last one counts all the same: see \(age)",
                        default: []
                    ]
                    .append(name)
                    continue
                }
                let question = Gap(expression: expression.description, zone: schedule.zone.name)
                let gap =
                    gaps[question] ?? expression.longestGap(after: now / 1_000_000_000, in: schedule.zone)
                gaps[question] = gap
                guard let gap, gap * 1_000_000_000 + schedule.spread > threshold.warning else { continue }
                let sentence =
                    "up to \(Units.text(nanoseconds: gap * 1_000_000_000)) pass between two \(what) captures "
                    + "(\(expression)), and \(Units.text(nanoseconds: threshold.warning)) are a warning: raise \(age)"
                hostsOf[sentence, default: []].append(name)
            }
        }
        return hostsOf.map { sentence, hosts in
            let names = hosts.sorted()
            let more = names.count > 3 ? " and \(names.count - 3) more" : ""
            return names.prefix(3).joined(separator: ", ") + more + ": " + sentence
        }.sorted()
    }

    private struct Gap: Hashable {
        let expression: String
        let zone: String
    }
}

extension CronExpression {
    /// The longest time between two that are due within a year, in seconds; nil when fewer are.
    fileprivate func longestGap(after instant: Int64, in zone: TimeZone) -> Int64? {
        var longest: Int64?
        guard var due = next(after: instant, in: zone) else { return nil }
        // What comes often has shown all of its pattern after so many.
        for _ in 0..<400 {
            guard let following = next(after: due, in: zone) else { return longest }
            longest = max(longest ?? 0, following - due)
            if following > instant + 366 * 86400 { return longest }
            due = following
        }
        return longest
    }
}
