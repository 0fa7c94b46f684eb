package import JSON

/// How bad it is. A message without one tells that something is over, or is a test.
package enum Severity: String, Sendable, CaseIterable, Comparable {
    case warning, critical

    package static func < (left: Self, right: Self) -> Bool { left == .warning && right == .critical }
}

/// What a channel is to tell.
package struct AlarmMessage: Sendable, Equatable {
    /// The same each time that it is sent, so that a receiver can tell a repetition.
    package var id: String
    /// The alarm's name in the configuration.
    package var alarm: String
    package var severity: Severity?
    /// One short line.
    package var subject: String
    /// Lines, the most important one first; a channel that takes less leaves out lines at the end.
    package var text: String
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    package var created: Int64
    /// The same for programs, in the generic webhook; an array.
    package var findings: JSON

    package init(
        id: String,
        alarm: String,
        severity: Severity?,
        subject: String,
        text: String,
        created: Int64,
        findings: JSON = []
    ) {
        self.id = id
        self.alarm = alarm
        self.severity = severity
        self.subject = subject
        self.text = text
        self.created = created
        self.findings = findings
    }
}
