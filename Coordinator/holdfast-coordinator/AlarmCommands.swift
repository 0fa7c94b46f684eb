import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Outward
import Posix
import Sessions

/// `alarm list`: who is told what, and how delivery goes.
func alarmList(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let lines = try fleet.alarms.sorted { $0.key < $1.key }.map { name, alarm in
            (name, alarm, try catalogue.summary(of: name))
        }
        if settings.json {
            printJSON(["alarms": .array(lines.map(describe))])
            return .done
        }
        guard !lines.isEmpty else {
            put("nobody is told anything: add `alarms:` to \(settings.configurationPath)\n")
            return .done
        }
        var table = Table([
            ("ALARM", .left), ("CHANNEL", .left), ("SEVERITIES", .left), ("HOSTS", .left),
            ("DELIVERED", .left),
            ("WAITING", .right),
        ])
        for (name, alarm, summary) in lines {
            table.row([
                name, alarm.channel.kind, words(alarm.severities),
                alarm.hosts.map { $0.sorted().joined(separator: " ") } ?? "*",
                summary.lastDelivery.map(ago) ?? "never", "\(summary.waiting)",
            ])
        }
        put(table.text)
        for (name, alarm, summary) in lines {
            put(
                "\(name): \(alarm.channel.place), reminds every \(Human.duration(nanoseconds: alarm.repeatInterval))\n"
            )
            if let error = summary.error, let since = summary.oldestWaiting {
                put(
                    "\(name): not delivered since \(Human.duration(nanoseconds: Time.now() - since)): \(error)\n"
                )
            }
        }
        for problem in fleet.alarmProblems() { put("\(problem)\n") }
        return .done
    }
}

private func words(_ severities: Set<Severity>) -> String {
    severities.sorted().map(\.rawValue).joined(separator: " ")
}

private func describe(_ name: String, _ alarm: AlarmSettings, _ summary: AlarmSummary) -> JSON {
    JSON([
        ("alarm", JSON(name)), ("channel", JSON(alarm.channel.kind)), ("place", JSON(alarm.channel.place)),
        ("severities", JSON(alarm.severities.sorted().map(\.rawValue))),
        ("hosts", alarm.hosts.map { JSON($0.sorted()) } ?? ["*"]),
        ("repeat_seconds", JSON(alarm.repeatInterval / 1_000_000_000)),
        ("last_delivery", instant(summary.lastDelivery)), ("waiting", JSON(summary.waiting)),
        ("waiting_since", instant(summary.oldestWaiting)), ("error", JSON(summary.error)),
    ])
}

/// `alarm test [NAME]`: a message through each channel, or one, right now. It works without the service.
func alarmTest(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let wanted = arguments.argument()
    try arguments.finish()
    let fleet = try settings.fleet()
    if let wanted, fleet.alarms[wanted] == nil {
        let names = fleet.alarms.keys.sorted().joined(separator: ", ")
        throw CommandFailure(
            .failed,
            "there is no alarm \(wanted) in \(settings.configurationPath); there are: \(names)"
        )
    }
    let chosen = fleet.alarms.filter { wanted == nil || $0.key == wanted }.sorted { $0.key < $1.key }
    guard !chosen.isEmpty else {
        throw CommandFailure(
            .failed,
            "nobody is told anything: add `alarms:` to \(settings.configurationPath)"
        )
    }
    var results: [JSON] = []
    var delivered: [String] = []
    for (name, alarm) in chosen {
        let message = AlarmMessage(
            id: newUUID(),
            alarm: name,
            severity: nil,
            subject: "Holdfast: test of alarm \(name)",
            text:
                "This is a test of alarm '\(name)' from the coordinator on \(Host.name): messages get here.",
            created: Time.now()
        )
        let start = Time.monotonic()
        var problem: OutwardError?
        do throws(OutwardError) { try alarm.channel.deliver(message) } catch { problem = error }
        let seconds = Human.fixed(Double(Time.monotonic() - start) / 1e9, 1)
        if problem == nil { delivered.append(name) }
        if !settings.json {
            put(
                "\(name): \(problem.map { "FAILED: \($0)" } ?? "taken by \(alarm.channel.place) in \(seconds) s")\n"
            )
        }
        results.append(
            JSON([
                ("alarm", JSON(name)), ("channel", JSON(alarm.channel.kind)),
                ("delivered", JSON(problem == nil)),
                ("error", JSON(problem?.description)),
            ])
        )
    }
    if settings.json { printJSON(["alarms": .array(results)]) }
    // What waits need not wait any longer. Without a catalogue there is nothing to hurry.
    if !delivered.isEmpty && fleet.folder.isSetUp {
        try? fleet.withCatalogue { catalogue in
            for name in delivered { try catalogue.retryMessages(of: name) }
        }
    }
    return delivered.count == chosen.count ? .done : .failed
}
