import Arguments
import Catalogue
package import JSON
package import Outward
import Posix

/// News in words: a short subject, and lines with the worst first.
package struct Wording: Sendable, Equatable {
    /// Nil when everything in it is over.
    package let severity: Severity?
    package let subject: String
    package let text: String
    /// The same for programs.
    package let findings: JSON

    /// More than these nobody reads, not even a program.
    private static let longestList = 1000

    /// - Parameters:
    ///   - coordinator: Name of the machine that tells it.
    ///   - repeatInterval: Nanoseconds until the reminder.
    package init(_ news: News, alarm: String, coordinator: String, repeatInterval: Int64, now: Int64) {
        let parts: [(state: String, heading: String, findings: [ToldFinding])] = [
            ("worse", "Became critical:", Self.worstFirst(news.worse)),
            ("started", "New:", Self.worstFirst(news.started)),
            ("still", "Still so:", Self.worstFirst(news.still)),
            ("over", "Over:", Self.worstFirst(news.over)),
        ].filter { !$0.findings.isEmpty }
        let bad = news.worse + news.started + news.still
        severity = bad.map(\.severity).max()
        subject = cut(Self.subject(news, bad), bytes: 150)

        var lines: [String] = []
        for part in parts {
            if parts.count > 1 {
                if !lines.isEmpty { lines.append("") }
                lines.append(part.heading)
            }
            lines += part.findings.prefix(Self.longestList).map {
                Self.line($0, isOver: part.state == "over", now: now)
            }
        }
        let hosts = Set((bad.isEmpty ? news.over : bad).map(\.host))
        if let host = hosts.first, hosts.count == 1, let host {
            lines += ["", "Next: holdfast-coordinator status \(host)"]
        } else {
            lines += ["", "Next: holdfast-coordinator status"]
        }
        if news.untold > 0 {
            lines.append(
                "\(news.untold) more that you were told of \(news.untold == 1 ? "is" : "are") still open."
            )
        }
        lines.append(
            "From the coordinator on \(coordinator), alarm '\(alarm)'"
                + (bad.isEmpty
                    ? "."
                    : "; a reminder comes every \(Human.duration(nanoseconds: repeatInterval)) as long as it lasts.")
        )
        text = cut(lines.joined(separator: "\n"), bytes: 64 << 10)
        findings = .array(
            parts.flatMap { part in
                part.findings.prefix(Self.longestList).map { Self.json($0, state: part.state) }
            }
        )
    }

    private static func worstFirst(_ findings: [ToldFinding]) -> [ToldFinding] {
        findings.sorted { ($1.severity, $0.opened, $0.id) < ($0.severity, $1.opened, $1.id) }
    }

    private static func subject(_ news: News, _ bad: [ToldFinding]) -> String {
        func of(_ finding: ToldFinding) -> String {
            let what =
                finding.kind.replacing("-", with: " ")
                + (finding.subject.isEmpty ? "" : " \(finding.subject)")
            return plainLine("\(finding.host ?? "coordinator"): \(what)")
        }
        func count(_ number: Int, _ word: String) -> String { "\(number) \(word)\(number == 1 ? "" : "s")" }
        if bad.isEmpty {
            guard let only = news.over.first, news.over.count == 1 else {
                return "Holdfast: over: \(count(news.over.count, "finding"))"
            }
            return "Holdfast: over: \(of(only))"
        }
        let still = news.started.isEmpty && news.worse.isEmpty ? "still " : ""
        let and = news.over.isEmpty ? "" : "; \(news.over.count) over"
        if let only = bad.first, bad.count == 1 {
            return "Holdfast: \(still)\(only.severity.rawValue): \(of(only))\(and)"
        }
        let critical = bad.count { $0.severity == .critical }
        let warnings = bad.count - critical
        let counts = [
            critical > 0 ? "\(critical) critical" : nil, warnings > 0 ? count(warnings, "warning") : nil,
        ]
        let hosts = Set(bad.compactMap(\.host)).count
        return "Holdfast: \(still)\(counts.compactMap { $0 }.joined(separator: ", "))"
            + (hosts > 0 ? " on \(count(hosts, "host"))" : "") + and
    }

    private static func line(_ finding: ToldFinding, isOver: Bool, now: Int64) -> String {
        let host = finding.host ?? "coordinator"
        let message = plainLine(finding.message)
        let short = message.count > 400 ? "\(message.prefix(399))…" : message
        if isOver, let closed = finding.closed {
            return "\(host): over after \(Human.duration(nanoseconds: closed - finding.opened)): \(short)"
        }
        let since =
            "for \(Human.duration(nanoseconds: now - finding.opened)), since \(Time.local(finding.opened / 1_000_000_000 * 1_000_000_000))"
        if isOver {
            return "\(host): no longer critical, but \(finding.severity.rawValue) \(since): \(short)"
        }
        return "\(finding.severity.rawValue.uppercased()) \(host): \(short) (\(since))"
    }

    private static func json(_ finding: ToldFinding, state: String) -> JSON {
        JSON([
            ("state", JSON(state)), ("host", finding.host.map { JSON($0) } ?? .null),
            ("kind", JSON(finding.kind)),
            ("subject", JSON(finding.subject)), ("severity", JSON(finding.severity.rawValue)),
            ("message", JSON(finding.message)), ("opened", JSON(Time.rfc3339(finding.opened))),
            ("closed", finding.closed.map { JSON(Time.rfc3339($0)) } ?? .null),
        ])
    }
}
