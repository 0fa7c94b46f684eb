import Arguments
import Catalogue
import Configuration
import Fleet
import Glibc
import JSON
import Posix
import Postgres

/// Which coordinator of those that share a catalogue this is.
func coordinatorName(_ fleet: FleetConfiguration) -> String { "\(Host.name):\(fleet.state)" }

/// `reload`: has the running service take up the inventory as it is now. A bad one is refused, and what was in force
/// stays.
func reload(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try arguments.finish()
    // The service shall hear of a bad one too, and say so wherever somebody looks.
    let problem: ConfigurationError?
    do throws(ConfigurationError) {
        _ = try FleetConfiguration(path: settings.configurationPath)
        problem = nil
    } catch { problem = error }
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let patience = Time.monotonic() + 3_000_000_000
        while try !catalogue.isServed(), Time.monotonic() < patience { Time.sleep(seconds: 0.1) }
        guard try catalogue.isServed() else {
            if let problem { throw problem }
            throw CommandFailure(
                .unreachable,
                "the service is not running; \(settings.configurationPath) is right and counts when it is started"
            )
        }
        let request = newUUID()
        try catalogue.connection.listen(Catalogue.Channel.reloaded)
        try catalogue.askForReload(of: coordinatorName(fleet), request: request)
        let end = Time.monotonic() + 20_000_000_000
        while Time.monotonic() < end {
            if let answer = try catalogue.reloadAnswer(request) { return try report(answer, settings) }
            _ = try catalogue.connection.notifications(timeout: 0.5)
        }
        if let problem { throw problem }
        throw CommandFailure(
            .unreachable,
            "no service with the state folder \(fleet.state) answered on this machine: run it where that service runs"
        )
    }
}

private func report(_ answer: EventRow, _ settings: Settings) throws -> ExitCode {
    let data = try JSON(parsing: answer.data)
    let accepted = answer.kind == "inventory-accepted"
    let notes = data["notes"]?.array?.compactMap(\.string) ?? []
    if settings.json {
        printJSON([
            "accepted": JSON(accepted), "changed": data["changed"] ?? .null, "error": data["error"] ?? .null,
            "notes": .array(notes.map { JSON($0) }), "time": instant(answer.time),
        ])
    } else if accepted {
        put(answer.message + "\n")
    }
    if accepted {
        if !settings.json { for note in notes { put("\(note)\n", to: STDERR_FILENO) } }
        return .done
    }
    put(
        "holdfast-coordinator: \(data["error"]?.string ?? answer.message); what was in force stays so\n",
        to: STDERR_FILENO
    )
    return .configuration
}

extension Inventory.Outcome {
    /// Logs it and writes it down.
    func record(_ inventory: Inventory, in catalogue: Catalogue, request: String?) throws {
        let coordinator = coordinatorName(inventory.current)
        var fields: [(String, JSON)] = [("request", JSON(request)), ("file", JSON(inventory.path))]
        switch self {
        case .accepted(let changed, var notes):
            notes += inventory.current.surprises(now: Time.now())
            notes += try inventory.current.strangers(in: catalogue)
            fields += [("changed", JSON(changed)), ("notes", .array(notes.map { JSON($0) }))]
            try catalogue.recordInventory(
                of: coordinator,
                problem: nil,
                message:
                    "\(inventory.path) \(changed ? "is in force as it is now" : "was in force as it is already")",
                data: JSON(fields).text(pretty: false),
                request: request
            )
        case .refused(let problem):
            fields.append(("error", JSON(problem)))
            try catalogue.recordInventory(
                of: coordinator,
                problem: "the inventory was refused and an older one is in force: \(problem); then "
                    + "`holdfast-coordinator reload`",
                message: "the inventory was refused, and what was in force stays so: \(problem)",
                data: JSON(fields).text(pretty: false),
                request: request
            )
        }
    }

    func log(_ inventory: Inventory) {
        switch self {
        case .accepted(let changed, let notes):
            let what = changed ? "is in force as it is now" : "was looked at and has not changed"
            Log.write(.notice, ([inventory.path + " " + what] + notes).joined(separator: "; "))
        case .refused(let problem):
            Log.write(.error, "the inventory was refused, and what was in force stays so: \(problem)")
        }
    }
}

extension FleetConfiguration {
    /// A sentence about each host that the file names and that was never added, or was removed.
    func strangers(in catalogue: Catalogue) throws -> [String] {
        let known = Set(try catalogue.hosts().map(\.name))
        return hosts.keys.filter { !known.contains($0) }.sorted().map { name in
            let place = lines[["hosts", name]].map { "line \($0): " } ?? ""
            return "\(place)there is no host \(name): `holdfast-coordinator host add \(name)` adds it"
        }
    }
}
