import Configuration
package import Outward

/// One entry of `alarms:` in `fleet.yaml`: a channel, and what it is told.
///
/// ```yaml
/// alarms:
///   mail:
///     email: { server: smtps://mail.example:465, from: holdfast@example.org, to: [me@example.org],
///              user: holdfast, password_file: /etc/holdfast/mail.password }
///   phone:
///     ntfy: { url: https://ntfy.sh/a-topic-nobody-guesses, token_file: /etc/holdfast/ntfy.token }
///     severities: [critical]           # both when it is left out
///     hosts: [lisbon, porto]           # or *, which is everything and the coordinator itself
///     repeat: 12h                      # a reminder as long as something lasts (24h)
/// ```
package struct AlarmSettings: Sendable, Equatable {
    package var channel: AlarmChannel
    package var severities = Set(Severity.allCases)
    /// Nil for every host and for the coordinator itself.
    package var hosts: Set<String>?
    /// Nanoseconds from one reminder to the next.
    package var repeatInterval: Int64 = 86_400_000_000_000

    package init(channel: AlarmChannel) { self.channel = channel }

    init(_ reader: MappingReader) throws(ConfigurationError) {
        channel = try AlarmChannel(reader)
        let words = try reader.strings("severities")
        if !words.isEmpty {
            severities = Set(
                try words.map { (word) throws(ConfigurationError) in
                    if let severity = Severity(rawValue: word) { return severity }
                    throw reader.error("severities", "must be warning, critical or both, not `\(word)`")
                }
            )
        }
        let names = try reader.strings("hosts")
        for name in names where name != "*" {
            if let problem = HostName.problem(name) { throw reader.error("hosts", "`\(name)`: \(problem)") }
        }
        if !names.isEmpty && !names.contains("*") { hosts = Set(names) }
        if let interval = try reader.duration("repeat") {
            guard interval >= 60_000_000_000 else {
                throw reader.error("repeat", "must be at least 1m, or nobody reads what comes")
            }
            repeatInterval = interval
        }
    }

    /// Whether it is told about `host`; nil is the coordinator itself.
    package func concerns(host: String?) -> Bool {
        guard let hosts else { return true }
        return host.map { hosts.contains($0) } ?? false
    }
}

extension FleetConfiguration {
    /// What is wrong with the files that alarms name, a sentence for each alarm that cannot tell anything. The file
    /// itself is right all the same: it may be read by somebody who may not read those.
    package func alarmProblems() -> [String] {
        alarms.sorted { $0.key < $1.key }.compactMap { name, alarm in
            alarm.channel.problem().map { "alarm \(name) cannot be sent: \($0)" }
        }
    }
}

extension MappingReader {
    /// The entries of `alarms:` by name.
    func alarms() throws(ConfigurationError) -> [String: AlarmSettings] {
        try named("alarms") { (name, reader) throws(ConfigurationError) in
            guard HostName.problem(name) == nil else {
                throw ConfigurationError(
                    file: reader.file,
                    line: reader.line,
                    "`\(name)`: an alarm's name is made like a host's, of a to z, 0 to 9, `-`, `_` and `.`"
                )
            }
            return try AlarmSettings(reader)
        }
    }

    /// `pings:`, where the coordinator itself says that it is alive.
    func pings() throws(ConfigurationError) -> WebAddress? {
        let found = try mapping("pings") { (reader) throws(ConfigurationError) in
            try reader.required("url", try reader.webAddress("url"))
        }
        return found
    }
}
