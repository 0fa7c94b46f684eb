import Arguments
import Catalogue
import Fleet
import Glibc
import Health
import Posix
import Postgres

/// How status is laid out for people: never wider than 100 columns, and the state always a word.
struct StatusStyle {
    static let width = 100

    let colour: Bool
    /// The most lines that the hosts may take; nil for all of them.
    var lines: Int?

    /// On a terminal, unless NO_COLOR is set (no-color.org).
    static var wantsColour: Bool {
        let refused = getenv("NO_COLOR").map { $0.pointee != 0 } ?? false
        return isatty(STDOUT_FILENO) == 1 && !refused
    }

    /// The word in its colour; `text` is it with the spaces around.
    func paint(_ text: String, _ word: String) -> String {
        guard colour else { return text }
        let code =
            switch word {
            case "critical": "1;31"
            case "warning": "33"
            case "new": "36"
            case "running", "queued": "34"
            default: "32"
            }
        return text.replacing(word, with: "\u{1B}[\(code)m\(word)\u{1B}[0m", maxReplacements: 1)
    }

    /// The text in one line, cut to the width.
    static func cut(_ text: String, to width: Int = width) -> String {
        let line = text.split(whereSeparator: \.isNewline).joined(separator: " ")
        return line.count <= width ? line : String(line.prefix(width - 1)) + "…"
    }

    /// The text in lines of at most `width`, broken between words; `head` stands before the first of them, `indent` before
    /// the others.
    static func wrapped(_ text: String, head: String = "", indent: String = "  ") -> String {
        var lines: [String] = []
        var line = head
        var isEmpty = true
        for word in text.split(whereSeparator: \.isWhitespace) {
            if !isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = indent
                isEmpty = true
            }
            line += isEmpty ? String(word) : " " + word
            isEmpty = false
        }
        return (lines + [line]).map { cut($0) + "\n" }.joined()
    }
}

extension FleetStatus {
    func text(_ style: StatusStyle) -> String {
        guard !hosts.isEmpty else {
            return "no hosts yet: holdfast-coordinator host add NAME\n" + coordinatorText
        }
        return table(style) + coordinatorText + StatusStyle.wrapped(sentence)
    }

    private var coordinatorText: String {
        troubles.map { StatusStyle.wrapped("coordinator \($0.severity.rawValue): \($0.message)") }.joined()
    }

    // MARK: - The table

    private func table(_ style: StatusStyle) -> String {
        let hasOutside = hosts.contains { !$0.facts.outside.isEmpty }
        var headings = ["HOST", "STATE", "FULL", "DUMP", "SIZE", "FILES", "SIZE", "CONTACT"]
        if hasOutside { headings.append("OUTSIDE") }
        let left = [0, 1, 8]
        let rows = hosts.map(cells)
        var widths = headings.indices.map { column in
            ([headings] + rows).map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        // Where a row would be too wide, the name gives way.
        let others = widths.dropFirst().reduce(0, +) + 2 * (widths.count - 1)
        widths[0] = min(widths[0], max(8, StatusStyle.width - others))
        func line(_ cells: [String]) -> String {
            var line = ""
            for (column, cell) in cells.enumerated() {
                let shown = StatusStyle.cut(cell, to: widths[column])
                let space = String(repeating: " ", count: widths[column] - shown.count)
                line += (left.contains(column) ? shown + space : space + shown) + "  "
            }
            while line.hasSuffix(" ") { line.removeLast() }
            return line
        }
        var lines = [line(headings)]
        var shown = 0
        for (host, cells) in zip(hosts, rows) {
            var block = [style.paint(line(cells), String(cells[1].prefix { $0 != " " }))]
            if let worst = host.worst {
                let more = host.count > 1 ? " (and \(host.count - 1) more: status \(host.facts.name))" : ""
                let room = max(20, StatusStyle.width - 2 - more.count)
                block.append(StatusStyle.cut("  " + StatusStyle.cut(worst, to: room) + more))
            }
            if let limit = style.lines, lines.count + block.count > limit {
                lines.append("… and \(hosts.count - shown) more hosts")
                break
            }
            lines += block
            shown += 1
        }
        return lines.map { $0 + "\n" }.joined()
    }

    private func cells(_ host: FleetHealth.Host) -> [String] {
        let facts = host.facts
        let now = health.now
        func age(_ moment: Int64?) -> String { moment.map { Age.short(now - $0) } ?? "never" }
        let snapshot = snapshots[facts.id]
        var cells = [
            facts.name, state(host), age(facts.newestFull), age(facts.newestDump),
            facts.dumps.first.map { Human.bytes($0.bytes) } ?? "–",
            snapshot.map { Human.count($0.files) } ?? "–", snapshot.map { Human.bytes($0.bytes) } ?? "–",
            age(facts.lastContact),
        ]
        if !facts.outside.isEmpty {
            // The worst of several is what matters.
            let worst = zip(host.policy.outside, facts.outside).min { ($0.1.time ?? 0) < ($1.1.time ?? 0) }
            cells.append(worst.map { StatusStyle.cut($0.0.name, to: 12) + " " + age($0.1.time) } ?? "")
        }
        return cells
    }

    /// The state's word, with how far a running capture is where nothing is wrong.
    private func state(_ host: FleetHealth.Host) -> String {
        guard host.level <= .new else { return host.level.rawValue }
        if let run = host.facts.running.first {
            return run.fraction.map { "running \(Int($0 * 100)) %" } ?? "running"
        }
        if runs[host.facts.id]?.state == .queued { return "queued" }
        return host.level.rawValue
    }

    // MARK: - The sentence

    /// How all stands, in one sentence that begins with the level.
    var sentence: String {
        var clauses: [String] = troubles.filter { $0.severity == .critical }.map(\.fact)
        let all = hosts.count
        let (critical, warning, new) = (count(.critical), count(.warning), count(.new))
        if critical > 0 {
            let verb = critical == 1 ? "is" : "are"
            clauses.append("\(critical) of \(all) \(hostsWord(all)) \(verb) not safe: \(examples(.critical))")
        }
        if level == .critical {
            if warning > 0 { clauses.append("\(warning) more need\(warning == 1 ? "s" : "") attention") }
        } else {
            clauses += troubles.map(\.fact)
            if warning > 0 {
                let verb = warning == 1 ? "needs" : "need"
                clauses.append(
                    "\(warning) of \(all) \(hostsWord(all)) \(verb) attention: \(examples(.warning))"
                )
            }
        }
        if level <= .new {
            let good = all - new
            let newOnes = "\(new) \(good == 0 ? hostsWord(new) + " " : "")\(new == 1 ? "is" : "are") new"
            clauses = [
                new == 0
                    ? "\(all == 1 ? "the only host is" : "all \(all) hosts are") backed up in time"
                    : good == 0
                        ? "\(newOnes) and not backed up yet"
                        : "\(good) of \(all) \(hostsWord(all)) \(good == 1 ? "is" : "are") backed up in time, \(newOnes)"
            ]
        }
        let word = level <= .new ? "OK" : level.rawValue.uppercased()
        return "\(word): \(clauses.joined(separator: "; "))"
    }

    private func hostsWord(_ count: Int) -> String { count == 1 ? "host" : "hosts" }

    private func examples(_ level: Level) -> String {
        let chosen = hosts.filter { $0.level == level }
        let named = chosen.prefix(3).map { "\($0.facts.name) \(StatusStyle.cut($0.worst ?? "", to: 120))" }
        let rest = chosen.count - named.count
        return named.joined(separator: ", ") + (rest > 0 ? " and \(rest) more" : "")
    }
}

/// `status --watch`: drawn again every two seconds, and at once when a run or a finding changes, until Ctrl-C.
func watchStatus(_ fleet: FleetConfiguration) throws -> ExitCode {
    guard isatty(STDOUT_FILENO) == 1 else {
        throw CommandFailure(
            .usage,
            "--watch needs a terminal: without one, ask `status --json` again and again"
        )
    }
    let interrupted = try InterruptFlag()
    return try fleet.withServer { server, first in
        var catalogue = first
        func listen() throws {
            try catalogue.connection.listen(Catalogue.Channel.runs)
            try catalogue.connection.listen(Catalogue.Channel.findings)
        }
        try listen()
        while !interrupted.isSet {
            do {
                var style = StatusStyle(colour: StatusStyle.wantsColour)
                // Below the hosts there is room for what is wrong with the coordinator, and for the sentence.
                style.lines = Host.terminalLines(STDOUT_FILENO).map { max(4, $0 - 8) }
                let text = try FleetStatus(catalogue, fleet).text(style)
                put("\u{1B}[H\u{1B}[2J\(text)\(Time.local(Time.now())), Ctrl-C ends\n")
                _ = try catalogue.connection.notifications(timeout: 2)
            } catch let error as PostgresError {
                put("\u{1B}[H\u{1B}[2Jthe catalogue: \(error); trying again\n")
                Time.sleep(seconds: 2)
                guard case .connectionLost = error else { continue }
                if let again = try? server.open() {
                    catalogue.close()
                    catalogue = again
                    try listen()
                }
            }
        }
        return .done
    }
}
