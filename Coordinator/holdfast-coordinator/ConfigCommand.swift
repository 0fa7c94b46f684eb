import Arguments
import Catalogue
import Configuration
import Fleet
import Glibc
import JSON
import Posix
import Schedule
import Sessions

/// `config check [FILE]`: what is wrong with the inventory, or when what is due by it.
func configCheck(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let file = arguments.argument() ?? settings.configurationPath
    try arguments.finish()
    let bytes = try YAMLNode.bytes(of: file)
    let fleet = try FleetConfiguration(bytes, file: file)
    var notes = fleet.surprises(now: Time.now())
    notes += try inventoryNotes(fleet, bytes, isInUse: file == settings.configurationPath, settings)
    notes += fleet.alarmProblems()
    let names = fleet.hosts.keys.sorted()
    let now = Time.now()
    if settings.json {
        printJSON([
            "file": JSON(file), "valid": JSON(true), "captures_at_once": JSON(Int64(fleet.capturesAtOnce)),
            "hosts": .array(
                names.map { name in
                    let next = nextTimes(fleet.policy(of: name), after: now)
                    return JSON([("host", JSON(name))] + next.map { ("next_" + $0.what, instant($0.time)) })
                }
            ),
            "notes": .array(notes.map { JSON($0) }),
        ])
        return .done
    }
    put("\(file) is right: \(names.count == 1 ? "1 host" : "\(names.count) hosts") named\n")
    if !names.isEmpty {
        var table = Table([
            ("HOST", .left), ("NEXT FULL", .left), ("NEXT DATABASE", .left), ("NEXT PRUNE", .left),
        ])
        for name in names {
            table.row([name] + nextTimes(fleet.policy(of: name), after: now).map { minute($0.time) })
        }
        put(table.text)
    }
    for note in notes { put("\(note)\n", to: STDERR_FILENO) }
    return .done
}

/// What is not wrong in the file and still surprises: hosts that nobody added, and that something else is in force. Only of
/// the file in use; without a catalogue nothing is known of hosts.
private func inventoryNotes(
    _ fleet: FleetConfiguration,
    _ bytes: [UInt8],
    isInUse: Bool,
    _ settings: Settings
) throws -> [String] {
    guard isInUse else { return [] }
    try settings.becomeOwner(of: fleet)
    guard fleet.folder.isSetUp else { return [] }
    var notes: [String] = []
    do {
        try fleet.withCatalogue { catalogue in
            notes += try fleet.strangers(in: catalogue)
            let accepted = try? Files.read(fleet.folder.acceptedInventory)
            if let accepted, accepted != bytes, try catalogue.isServed() {
                notes.append(
                    "the service goes by an older one: `holdfast-coordinator reload` has it take this up"
                )
            }
        }
    } catch { notes.append("which hosts were added is not known: \(error)") }
    return notes
}

/// `config show HOST`: every value that counts for a host, with the line that says so.
func configShow(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let name = try arguments.required("HOST")
    try arguments.finish()
    if let problem = HostName.problem(name) {
        throw UsageError.invalid(what: "host", value: name, reason: problem)
    }
    let file = settings.configurationPath
    let fleet = try FleetConfiguration(path: file)
    let next = nextTimes(fleet.policy(of: name), after: Time.now())
    let rows = fleet.settings(of: name)
    if settings.json {
        printJSON([
            "host": JSON(name), "file": JSON(file), "named": JSON(fleet.hosts[name] != nil),
            "settings": .array(
                rows.map { row in
                    JSON([
                        ("key", JSON(row.name)), ("value", row.value.json),
                        ("from", JSON(row.line == nil ? "default" : "file")),
                        ("line", JSON(row.line.map { Int64($0) })),
                    ])
                }
            ),
            "next": JSON(next.map { ($0.what, instant($0.time)) }),
        ])
        return .done
    }
    let shortName = file.split(separator: "/").last.map(String.init) ?? file
    var table = Table([("SETTING", .left), ("VALUE", .left), ("FROM", .left)])
    for row in rows {
        table.row([row.name, row.value.text, row.line.map { "\(shortName):\($0)" } ?? "default"])
    }
    put(table.text + "\n")
    for (what, time) in next {
        let after = time.map { ", in \(Human.duration(nanoseconds: $0 - Time.now()))" } ?? ""
        put("next \(what)\(String(repeating: " ", count: 8 - what.count))  \(minute(time))\(after)\n")
    }
    if fleet.hosts[name] == nil {
        put(
            "\(file) does not name \(name): what stands there is what any such host gets\n",
            to: STDERR_FILENO
        )
    }
    return .done
}

/// When each kind of work is due next, as the schedule says it; a host's own jobs begin up to `spread` later.
private func nextTimes(_ policy: HostPolicy, after now: Int64) -> [(what: String, time: Int64?)] {
    let schedule = policy.schedule
    func next(_ expression: CronExpression?) -> Int64? {
        expression?.next(after: now / 1_000_000_000, in: schedule.zone).map { $0 * 1_000_000_000 }
    }
    return [
        ("full", next(schedule.full)), ("database", next(schedule.database)), ("prune", next(schedule.prune)),
    ]
}

/// `2026-11-21 10:23 +0100`, or never.
private func minute(_ time: Int64?) -> String {
    guard let time else { return "never" }
    let text = Time.local(time)
    // Cron knows no seconds.
    return text.count > 19 ? String(text.prefix(16) + text.dropFirst(19)) : text
}

extension HostSetting.Value {
    /// As it may be written into the file.
    fileprivate var text: String {
        switch self {
        case .text(let text), .word(let text): text
        case .bytes(let count): Units.text(bytes: count)
        case .bytesPerSecond(let count): Units.text(bytes: count) + "/s"
        case .duration(let nanoseconds): Units.text(nanoseconds: nanoseconds)
        case .part(let part): Self.figure(part * 100) + " %"
        case .number(let number): Self.figure(number)
        }
    }

    /// Bytes as whole numbers, durations in seconds, parts from 0 to 1; null for none, never and all.
    fileprivate var json: JSON {
        switch self {
        case .text(let text): JSON(text)
        case .word: .null
        case .bytes(let count), .bytesPerSecond(let count): JSON(count)
        case .duration(let nanoseconds): Self.number(Double(nanoseconds) / 1e9)
        case .part(let number), .number(let number): Self.number(number)
        }
    }

    private static func number(_ value: Double) -> JSON {
        value == value.rounded() ? JSON(Int64(value)) : .double(value)
    }

    private static func figure(_ value: Double) -> String {
        value == value.rounded() ? "\(Int64(value))" : Human.fixed(value, 2)
    }
}
