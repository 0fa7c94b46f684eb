import Configuration
import Retention
import Schedule
import Wire

/// One effective value of a host, under the keys by which the inventory sets it.
package struct HostSetting: Sendable, Equatable {
    package enum Value: Sendable, Equatable {
        case text(String)
        /// `none`, `never` or `all`: no value of the others.
        case word(String)
        case bytes(Int64)
        case bytesPerSecond(Int64)
        /// Nanoseconds.
        case duration(Int64)
        /// 0 to 1.
        case part(Double)
        case number(Double)
    }

    /// As in `schedule`, `full`.
    package let key: [String]
    package let value: Value
    /// The line of the file that says so; nil where nothing does and the built-in default counts.
    package let line: Int?

    package var name: String { key.joined(separator: ".") }
}

extension FleetConfiguration {
    /// Every value that counts for `host`, in the order of the file's description.
    package func settings(of host: String) -> [HostSetting] {
        policy(of: host).values.map { key, value in
            HostSetting(
                key: key,
                value: value,
                line: lines[["hosts", host] + key] ?? lines[["defaults"] + key]
            )
        }
    }
}

extension HostPolicy {
    fileprivate var values: [(key: [String], value: HostSetting.Value)] {
        var result: [([String], HostSetting.Value)] = [
            (["scope"], .text(scope.name)),
            (["size_limit"], sizeLimit.map { .bytes($0) } ?? .word("none")),
            (["rate_limit"], rateLimit.map { .bytesPerSecond($0) } ?? .word("none")),
            (["priority"], .number(Double(priority))),
            (["ping"], ping.map { .text("\($0)/…") } ?? .word("none")),
            (["schedule", "full"], Self.value(schedule.full)),
            (["schedule", "database"], Self.value(schedule.database)),
            (["schedule", "prune"], Self.value(schedule.prune)),
            (["schedule", "time_zone"], .text(schedule.zone.name)),
            (["schedule", "window"], .duration(schedule.window)),
            (["schedule", "spread"], .duration(schedule.spread)),
        ]
        for kind in CaptureKind.allCases {
            let value = retention[kind].map { HostSetting.Value.text($0.description) } ?? .word("all")
            result.append((["retention", kind.name], value))
        }
        result.append((["grace"], .duration(grace)))
        for (name, threshold) in [
            ("contact", thresholds.contact), ("database", thresholds.dump), ("full", thresholds.full),
        ] {
            result.append((["thresholds", name, "warning"], .duration(threshold.warning)))
            result.append((["thresholds", name, "critical"], .duration(threshold.critical)))
        }
        result += [
            (["thresholds", "enrolment"], .duration(thresholds.enrolment)),
            (["watch", "dump_shrink"], .part(watch.dumpShrink)),
            (["watch", "library_shrink"], .part(watch.libraryShrink)),
            (["watch", "slow"], .number(watch.slow)),
            (["watch", "clock"], .duration(watch.clock)),
        ]
        return result + outside.map { (["outside", $0.name], .text($0.description)) }
    }

    private static func value(_ expression: CronExpression?) -> HostSetting.Value {
        expression.map { .text($0.description) } ?? .word("never")
    }
}

extension OutsideBackup: CustomStringConvertible {
    /// As the inventory has it.
    package var description: String {
        "\(pattern), \(Units.text(nanoseconds: threshold.warning)), \(Units.text(nanoseconds: threshold.critical))"
    }
}
