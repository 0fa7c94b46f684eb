import Postgres

/// Something that is wrong with a host or, without a host, with the coordinator itself. Times are nanoseconds since
/// 1970-01-01T00:00:00Z.
package struct FindingRow: Sendable, Equatable {
    package enum Severity: String, Sendable, CaseIterable { case warning, critical }

    package let id: Int64
    package let host: Int32?
    /// A word for programs: `library-shrank`.
    package let kind: String
    /// What tells two findings of one kind apart, or nothing.
    package let subject: String
    package let severity: Severity
    /// A sentence for people, with the limit and what to do next.
    package let message: String
    /// Nothing of the host is forgotten or pruned while it is open.
    package let freezes: Bool
    package let opened: Int64
    /// When it was found last.
    package let seen: Int64
    package let closed: Int64?
    package let closedBy: String?
    package let closedWhy: String?

    init(_ row: PostgresResult.Row) throws(PostgresError) {
        id = try row.int64("id")
        host = try row.text("host_id") == nil ? nil : row.int32("host_id")
        kind = try row.string("kind")
        subject = try row.string("subject")
        severity = Severity(rawValue: try row.string("severity")) ?? .critical
        message = try row.string("message")
        freezes = try row.bool("freezes")
        opened = try row.int64("opened")
        seen = try row.int64("seen")
        closed = try row.optionalInt64("closed")
        closedBy = try row.text("closed_by")
        closedWhy = try row.text("closed_why")
    }
}

extension Catalogue {
    /// The open findings of one host, or with nil of every host and of the coordinator, the oldest first.
    package func openFindings(host: Int32? = nil) throws -> [FindingRow] {
        try connection.query(
            """
            SELECT * FROM findings WHERE closed IS NULL AND ($1::int IS NULL OR host_id = $1) ORDER BY opened, id
            """,
            [host]
        ).map { try FindingRow($0) }
    }
}
