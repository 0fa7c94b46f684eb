import Configuration
import Outward
import Retention
import Schedule
import Wire

extension HostPolicy {
    /// Takes what `reader`, the mapping of `defaults:` or of one host, says over what this policy says.
    mutating func read(_ reader: MappingReader) throws(ConfigurationError) {
        scope = try reader.value("scope", expected: "originals or everything") { Scope(name: $0) } ?? scope
        sizeLimit =
            try reader.limit("size_limit", "a size like 500 GB or 20 GiB, or none", Units.bytes) ?? sizeLimit
        let rate = "a rate like 20 MB/s, at least 100 kB/s, or none"
        rateLimit = try reader.limit("rate_limit", rate, Self.rate) ?? rateLimit
        priority = try reader.int("priority", in: -1000...1000) ?? priority
        grace = try reader.duration("grace") ?? grace
        if let text = try reader.string("ping") {
            ping = WebAddress(text)
            // Not quoted: it may hold a token.
            guard ping != nil || text == "none" else {
                throw reader.error("ping", "must be the URL of a check like https://hc-ping.com/…, or none")
            }
        }
        try readSchedule(reader)
        try readRetention(reader)
        try readThresholds(reader)
        try readWatch(reader)
        try readOutside(reader)
    }

    /// Bytes a second. What is slower than the slowest is no backup: one file's part would take longer than an agent is
    /// waited for.
    private static func rate(_ text: String) -> Int64? {
        guard text.hasSuffix("/s") else { return nil }
        return Units.bytes(String(text.dropLast(2))).flatMap { $0 >= 100_000 ? $0 : nil }
    }

    // MARK: - Schedule

    private mutating func readSchedule(_ reader: MappingReader) throws(ConfigurationError) {
        var schedule = self.schedule
        _ = try reader.mapping("schedule") { (part) throws(ConfigurationError) in
            schedule.full = try part.cron("full") ?? schedule.full
            schedule.database = try part.cron("database") ?? schedule.database
            schedule.prune = try part.cron("prune") ?? schedule.prune
            schedule.zone =
                try part.parsed("time_zone", expected: "a time zone") { (text) throws(TimeZoneError) in
                    try TimeZone(named: text)
                } ?? schedule.zone
            schedule.window = try part.span("window") ?? schedule.window
            schedule.spread = try part.duration("spread") ?? schedule.spread
            guard schedule.spread < schedule.window else {
                let (spread, window) = (schedule.spread, schedule.window)
                let key = part.holds("spread") ? "spread" : "window"
                throw part.error(
                    key,
                    "leaves no time: jobs begin up to `spread` (\(Units.text(nanoseconds: spread))) late and are given up "
                        + "after `window` (\(Units.text(nanoseconds: window))), so the window must be longer"
                )
            }
        }
        self.schedule = schedule
    }

    // MARK: - Retention

    private mutating func readRetention(_ reader: MappingReader) throws(ConfigurationError) {
        var retention = self.retention
        _ = try reader.mapping("retention") { (part) throws(ConfigurationError) in
            for kind in CaptureKind.allCases {
                switch try part.retention(kind.name) {
                case .some(let policy): retention[kind] = policy
                case .none: break
                }
            }
        }
        self.retention = retention
    }

    // MARK: - Thresholds

    private mutating func readThresholds(_ reader: MappingReader) throws(ConfigurationError) {
        var thresholds = self.thresholds
        _ = try reader.mapping("thresholds") { (part) throws(ConfigurationError) in
            try part.threshold("contact", &thresholds.contact)
            try part.threshold("database", &thresholds.dump)
            try part.threshold("full", &thresholds.full)
            thresholds.enrolment = try part.duration("enrolment") ?? thresholds.enrolment
        }
        self.thresholds = thresholds
    }

    private mutating func readWatch(_ reader: MappingReader) throws(ConfigurationError) {
        var watch = self.watch
        _ = try reader.mapping("watch") { (part) throws(ConfigurationError) in
            watch.dumpShrink = try part.percentage("dump_shrink") ?? watch.dumpShrink
            watch.libraryShrink = try part.percentage("library_shrink") ?? watch.libraryShrink
            watch.slow =
                try part.value("slow", expected: "how many times as long as usual, like 4 or 2.5") { text in
                    text.decimal.flatMap { $0 > 1 && $0 <= 1000 ? $0 : nil }
                } ?? watch.slow
            watch.clock = try part.span("clock") ?? watch.clock
        }
        self.watch = watch
    }

    // MARK: - Backups of others

    private mutating func readOutside(_ reader: MappingReader) throws(ConfigurationError) {
        var outside = self.outside
        _ = try reader.mapping("outside") { (part) throws(ConfigurationError) in
            for name in part.names() {
                let isName =
                    (1...63).contains(name.utf8.count) && name.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F }
                guard isName else {
                    throw part.error(name, "is no name of a backup: write one word of at most 63 characters")
                }
                let form =
                    "a path and its thresholds, like \"/mnt/pve/dump/vzdump-qemu-203-*.vma.zst, 26h\" or \"…, 26h, 50h\""
                let value = try part.value(name, expected: form) { OutsideBackup(name: name, $0) }
                let backup = try part.required(name, value)
                guard backup.threshold.warning <= backup.threshold.critical else {
                    throw part.error(name, "is critical before it is a warning: write the shorter time first")
                }
                outside.removeAll { $0.name == name }
                outside.append(backup)
            }
        }
        self.outside = outside
    }
}

extension OutsideBackup {
    /// Reads `PATTERN, WARNING` or `PATTERN, WARNING, CRITICAL`; critical is else twice the warning.
    fileprivate init?(name: String, _ text: String) {
        var parts = text.split(separator: ",", omittingEmptySubsequences: false)
        var times: [Int64] = []
        // The path may hold commas.
        while parts.count > 1, times.count < 2, let last = parts.last,
            let time = Units.nanoseconds(String(last)), time > 0
        {
            times.insert(time, at: 0)
            parts.removeLast()
        }
        let pattern = parts.joined(separator: ",").trimmed
        guard let warning = times.first, let last = times.last, pattern.hasPrefix("/") else { return nil }
        let (twice, isTooLong) = warning.multipliedReportingOverflow(by: 2)
        guard times.count == 2 || !isTooLong else { return nil }
        let critical = times.count == 2 ? last : twice
        self.init(name: name, pattern: pattern, threshold: Threshold(warning: warning, critical: critical))
    }
}

extension MappingReader {
    /// What `convert` reads, or nothing at all for `none`; nil when the key is missing.
    fileprivate func limit<T>(_ key: String, _ expected: String, _ convert: (String) -> T?)
        throws(ConfigurationError) -> T??
    {
        try value(key, expected: expected) { text -> T?? in
            if text == "none" { return .some(nil) }
            return convert(text).map { .some($0) }
        }
    }

    /// A duration of more than nothing.
    fileprivate func span(_ key: String) throws(ConfigurationError) -> Int64? {
        try value(key, expected: "a duration above 0 with its unit, like 90s, 15m, 24h or 7d") { text in
            Units.nanoseconds(text).flatMap { $0 > 0 ? $0 : nil }
        }
    }

    /// A cron expression, or nothing at all for `never`; nil when the key is missing.
    fileprivate func cron(_ key: String) throws(ConfigurationError) -> CronExpression?? {
        try parsed(key, expected: "a cron expression or never") {
            (text) throws(CronError) -> CronExpression? in
            text == "never" ? nil : try CronExpression(text)
        }
    }

    /// `20 %` as 0.2.
    fileprivate func percentage(_ key: String) throws(ConfigurationError) -> Double? {
        try value(key, expected: "a part from above 0 % to 100 %, like 20 %") { text in
            guard text.hasSuffix("%") else { return nil }
            return String(text.dropLast()).trimmed.decimal.flatMap { $0 > 0 && $0 <= 100 ? $0 / 100 : nil }
        }
    }

    /// What the key says of a threshold, over `threshold`.
    fileprivate func threshold(_ key: String, _ threshold: inout Threshold) throws(ConfigurationError) {
        let before = threshold
        let read = try mapping(key) { (part) throws(ConfigurationError) in
            var result = before
            result.warning = try part.span("warning") ?? result.warning
            result.critical = try part.span("critical") ?? result.critical
            guard result.warning <= result.critical else {
                let said = part.holds("critical") ? "critical" : "warning"
                throw part.error(
                    said,
                    "makes a warning (\(Units.text(nanoseconds: result.warning))) come after critical "
                        + "(\(Units.text(nanoseconds: result.critical))): the warning must come first"
                )
            }
            return result
        }
        threshold = read ?? threshold
    }

    /// The policy of one kind, taken as a whole, so that what is written is what is kept; nothing at all for `all`; nil when
    /// the key is missing.
    fileprivate func retention(_ key: String) throws(ConfigurationError) -> RetentionPolicy?? {
        guard holdsMapping(key) else {
            return try value(key, expected: "rules like { daily: 14, monthly: 12 }, or all") {
                $0 == "all" ? .some(nil) : nil
            }
        }
        let policy = try mapping(key) { (part) throws(ConfigurationError) in
            var policy = RetentionPolicy()
            for rule in RetentionPolicy.Rule.allCases {
                policy.counts[rule] = try part.value(
                    rule.rawValue,
                    expected: "how many are kept, like 14, or all"
                ) { text in
                    text == "all" || text == "-1"
                        ? -1 : Int(text).flatMap { (0...1_000_000).contains($0) ? $0 : nil }
                }
            }
            policy.within = try part.value(
                "within",
                expected: "a span like 7d, 36h or 1y6m (y years, m months, w weeks, d days, h hours)",
                RetentionPolicy.Span.init
            )
            return policy
        }
        if let policy, policy.keepsNothing {
            throw error(key, "keeps nothing: write how much is kept, like { daily: 14, monthly: 12 }, or all")
        }
        return policy.map { .some($0) }
    }
}

extension RetentionPolicy.Span {
    /// Reads `1y6m7d12h` as restic does, m for months, and weeks too; nil for anything else.
    package init?(_ text: String) {
        self.init()
        var rest = text[...].drop { $0 == " " }
        var units: [Character] = []
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count)
            guard let number = Int(digits), let unit = rest.popFirst(), !units.contains(unit) else {
                return nil
            }
            // A thousand years, in any unit.
            let most: [Character: Int] = ["y": 1000, "m": 12_000, "w": 52_000, "d": 365_000, "h": 8_760_000]
            guard let limit = most[unit], number <= limit else { return nil }
            units.append(unit)
            switch unit {
            case "y": years = number
            case "m": months = number
            case "w": days += number * 7
            case "d": days += number
            default: hours = number
            }
            rest = rest.drop { $0 == " " }
        }
        guard !units.isEmpty else { return nil }
    }
}

extension String {
    fileprivate var trimmed: String {
        var text = self[...].drop { $0 == " " }
        while text.last == " " { text.removeLast() }
        return String(text)
    }

    /// Digits with at most one point, and nothing else that `Double` takes.
    fileprivate var decimal: Double? {
        utf8.allSatisfy { $0 == 0x2E || 0x30...0x39 ~= $0 } ? Double(self) : nil
    }
}
