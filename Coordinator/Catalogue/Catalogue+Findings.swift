import Posix
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
    /// What a shrunken dump or library was measured against, in bytes and files.
    package let referenceBytes: Int64?
    package let referenceFiles: Int64?
    /// The moment the data is of in which it was seen last.
    package let dataOf: Int64?

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
        referenceBytes = try row.optionalInt64("reference_bytes")
        referenceFiles = try row.optionalInt64("reference_files")
        dataOf = try row.optionalInt64("data_of")
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

    /// The finding of that number, open or not.
    package func finding(_ id: Int64) throws -> FindingRow? {
        try connection.query("SELECT * FROM findings WHERE id = $1", [id]).first.map { try FindingRow($0) }
    }

    /// Findings that are over, the newest first, of one host or with nil of all.
    package func closedFindings(host: Int32? = nil, limit: Int = 20) throws -> [FindingRow] {
        try connection.query(
            """
            SELECT * FROM findings WHERE closed IS NOT NULL AND ($1::int IS NULL OR host_id = $1)
            ORDER BY closed DESC, id DESC LIMIT $2
            """,
            [host, limit]
        ).map { try FindingRow($0) }
    }

    /// Opens a finding that one part alone finds and closes, or brings the open one up to date. Whoever tells people hears
    /// of it when it is new or says something else.
    ///
    /// - Parameters:
    ///   - kind: None that the watch looks for.
    ///   - host: Nil for the coordinator itself.
    package func openFinding(
        _ kind: String,
        subject: String = "",
        host: Int32? = nil,
        _ severity: FindingRow.Severity,
        _ message: String,
        now: Int64 = Time.now()
    ) throws {
        let parameters: [(any PostgresParameter)?] = [
            host, kind, subject, severity.rawValue, message, now,
        ]
        let changed = try connection.execute(
            """
            INSERT INTO findings AS f (host_id, kind, subject, severity, message, opened, seen)
            VALUES ($1, $2, $3, $4, $5, $6, $6)
            ON CONFLICT (coalesce(host_id, 0), kind, subject) WHERE closed IS NULL
                DO UPDATE SET severity = excluded.severity, message = excluded.message, seen = excluded.seen
                WHERE (f.severity, f.message) IS DISTINCT FROM (excluded.severity, excluded.message)
            """,
            parameters
        )
        if changed > 0 { return try notifyFindings() }
        try connection.execute(
            """
            UPDATE findings SET seen = $4
            WHERE closed IS NULL AND coalesce(host_id, 0) = coalesce($1::int, 0) AND kind = $2 AND subject = $3
            """,
            [host, kind, subject, now]
        )
    }

    /// Closes what `openFinding` opened; nothing happens where nothing is open.
    package func closeFinding(
        _ kind: String,
        subject: String = "",
        host: Int32? = nil,
        why: String,
        now: Int64 = Time.now()
    ) throws {
        let closed = try connection.execute(
            """
            UPDATE findings SET closed = $4, seen = $4, closed_why = $5
            WHERE closed IS NULL AND coalesce(host_id, 0) = coalesce($1::int, 0) AND kind = $2 AND subject = $3
            """,
            [host, kind, subject, now, why]
        )
        if closed > 0 { try notifyFindings() }
    }

    /// Tells whoever listens on `Channel.findings` that one was opened, closed or became worse.
    package func notifyFindings() throws { try notify(Channel.findings, "") }
}
