import Posix
import Postgres

/// Something that happened and that somebody may want to read about later.
package struct EventRow: Sendable, Equatable {
    package enum Severity: String, Sendable, CaseIterable { case info, warning, error }

    package let id: Int64
    package let time: Int64
    package let host: Int32?
    package let severity: Severity
    /// A short word for programs: `host-added`.
    package let kind: String
    /// A sentence for people.
    package let message: String
    /// A JSON object.
    package let data: String

    init(_ row: PostgresResult.Row) throws(PostgresError) {
        id = try row.int64("id")
        time = try row.int64("time")
        host = try row.text("host_id") == nil ? nil : row.int32("host_id")
        severity = Severity(rawValue: try row.string("severity")) ?? .error
        kind = try row.string("kind")
        message = try row.string("message")
        data = try row.string("data")
    }
}

extension Catalogue {
    /// - Parameter data: A JSON object with what programs may want to know.
    package func addEvent(
        _ severity: EventRow.Severity,
        kind: String,
        host: Int32? = nil,
        _ message: String,
        data: String = "{}"
    ) throws {
        try connection.execute(
            "INSERT INTO events (time, host_id, severity, kind, message, data) VALUES ($1, $2, $3, $4, $5, $6)",
            [Time.now(), host, severity.rawValue, kind, message, data]
        )
    }

    /// The newest events first, of one host or of all.
    package func events(host: HostRow? = nil, limit: Int = 100) throws -> [EventRow] {
        try connection.query(
            "SELECT * FROM events WHERE $1::int IS NULL OR host_id = $1 ORDER BY time DESC, id DESC LIMIT $2",
            [host?.id, limit]
        ).map { try EventRow($0) }
    }
}
