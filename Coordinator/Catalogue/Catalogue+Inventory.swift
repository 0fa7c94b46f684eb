import Posix
import Postgres

/// How a changed inventory is taken up: `reload` asks by NOTIFY, and the service answers with an event. Each coordinator
/// has a file of its own, so that what is asked and found carries which of them is meant.
extension Catalogue {
    /// Asks the service `coordinator` to take up its inventory; it announces `request` on `Channel.reloaded` once that is
    /// recorded.
    package func askForReload(of coordinator: String, request: String) throws {
        try notify(Channel.reload, "\(request) \(coordinator)")
    }

    /// Takes apart what `askForReload` sent.
    ///
    /// - Returns: The request; nil when another coordinator is meant.
    package static func reloadRequest(_ payload: String, to coordinator: String) -> String? {
        let parts = payload.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[1] == coordinator else { return nil }
        return String(parts[0])
    }

    /// Writes down that the service took up its inventory, or with a `problem` that it did not, and wakes whoever asked.
    /// An inventory that was refused is a finding until one is accepted.
    ///
    /// - Parameters:
    ///   - data: A JSON object for programs.
    ///   - request: Of `askForReload`; nil for a signal.
    package func recordInventory(
        of coordinator: String,
        problem: String?,
        message: String,
        data: String,
        request: String?
    ) throws {
        let now = Time.now()
        try connection.transaction {
            try addEvent(
                problem == nil ? .info : .error,
                kind: problem == nil ? "inventory-accepted" : "inventory-refused",
                message,
                data: data
            )
            if let problem {
                try openFinding("inventory", subject: coordinator, .warning, problem, now: now)
            } else {
                try closeFinding("inventory", subject: coordinator, why: "it was accepted", now: now)
            }
            if let request { try notify(Channel.reloaded, request) }
            if problem == nil { try notify(Channel.inventory, coordinator) }
        }
    }

    /// What the service recorded for a request; nil before it did.
    package func reloadAnswer(_ request: String) throws -> EventRow? {
        try connection.query(
            """
            SELECT * FROM events WHERE kind IN ('inventory-accepted', 'inventory-refused') AND data->>'request' = $1
            ORDER BY time DESC, id DESC LIMIT 1
            """,
            [request]
        ).first.map { try EventRow($0) }
    }
}
