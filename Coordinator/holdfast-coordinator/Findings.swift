import Arguments
import Catalogue
import Health
import JSON
import Posix

/// `findings [HOST]`: what is wrong now, and what was lately.
func findings(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let name = arguments.argument()
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let host = try name.map { try catalogue.host(named: $0) }
        let names = Dictionary(try catalogue.hosts(removedToo: true).map { ($0.id, $0.name) }) { first, _ in
            first
        }
        let open = try catalogue.openFindings(host: host?.id)
        let closed = try catalogue.closedFindings(host: host?.id)
        func of(_ finding: FindingRow) -> String { finding.host.flatMap { names[$0] } ?? "coordinator" }
        if settings.json {
            printJSON([
                "open": .array(open.map { findingJSON($0, host: $0.host.flatMap { names[$0] }) }),
                "closed": .array(closed.map { findingJSON($0, host: $0.host.flatMap { names[$0] }) }),
            ])
            return .done
        }
        let now = Time.now()
        for finding in open {
            let freezes = finding.freezes ? ", nothing is forgotten meanwhile" : ""
            put(
                "\(finding.id)  \(of(finding))  \(finding.severity.rawValue)  since \(Age.text(now - finding.opened))\(freezes)\n"
            )
            put(StatusStyle.wrapped("\(finding.kind): \(finding.message)", head: "  ", indent: "    "))
        }
        if open.isEmpty { put("nothing is wrong\n") }
        if !closed.isEmpty {
            put("\nlately over:\n")
            for finding in closed {
                let how = finding.closedBy.map { ", closed by \($0): \(finding.closedWhy ?? "")" } ?? ""
                put(
                    StatusStyle.wrapped(
                        "\(finding.id)  \(of(finding))  \(finding.kind), \(Age.text(now - (finding.closed ?? now))) ago\(how)"
                    )
                )
            }
        }
        return .done
    }
}

/// `finding close ID --why TEXT`.
func findingClose(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let why = try arguments.option("--why")?.trimmed
    let text = try arguments.required("ID")
    try arguments.finish()
    guard let id = Int64(text) else {
        throw UsageError.invalid(what: "finding", value: text, reason: "is no number: `findings` shows them")
    }
    guard let why, !why.isEmpty else {
        throw UsageError.missingArgument("--why TEXT, for whoever looks at it later,")
    }
    let whom = person()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        guard let finding = try catalogue.closeFinding(id, by: whom, why: why, now: Time.now()) else {
            let over = try catalogue.finding(id) != nil
            throw CommandFailure(
                .failed,
                over
                    ? "finding \(id) is closed already"
                    : "there is no finding \(id): `findings` lists those that are open"
            )
        }
        if settings.json {
            printJSON(["finding": JSON(id), "kind": JSON(finding.kind), "by": JSON(whom)])
        } else {
            put(
                "finding \(id) is closed. Should its cause still be there, or come again, it is opened anew.\n"
            )
        }
        return .done
    }
}

func findingJSON(_ finding: FindingRow, host: String?) -> JSON {
    JSON([
        ("id", JSON(finding.id)), ("host", JSON(host)), ("kind", JSON(finding.kind)),
        ("subject", JSON(finding.subject)), ("severity", JSON(finding.severity.rawValue)),
        ("message", JSON(finding.message)), ("freezes", JSON(finding.freezes)),
        ("opened", instant(finding.opened)), ("seen", instant(finding.seen)),
        ("closed", instant(finding.closed)),
        ("closed_by", JSON(finding.closedBy)), ("closed_why", JSON(finding.closedWhy)),
    ])
}

extension String {
    /// Without white space at the ends.
    fileprivate var trimmed: String {
        var text = self[...]
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}
