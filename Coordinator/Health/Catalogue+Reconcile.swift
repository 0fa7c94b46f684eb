package import Catalogue
import JSON
import Postgres

/// A condition and the host it is of; without a host it is the coordinator's.
package struct HostCondition: Sendable {
    package var host: Int32?
    package var condition: Condition

    package init(host: Int32?, _ condition: Condition) {
        self.host = host
        self.condition = condition
    }
}

extension Catalogue {
    /// Serialises those who compare findings with what is the case, from what they read to what they write: who is late
    /// must not close what another has just found. One that stands still in there, as a machine that sleeps does, holds the
    /// others up for ten seconds and no longer.
    ///
    /// - Throws: `PostgresError` of the SQLSTATE 55P03 after that.
    package func comparingFindings<R>(_ body: () throws -> R) throws -> R {
        try connection.transaction {
            try connection.execute("SET LOCAL lock_timeout = '10s'")
            try connection.execute("SELECT pg_advisory_xact_lock($1, 0)", [LockClass.findings])
            return try body()
        }
    }

    /// Opens, touches and closes findings so that they match `found`: of one host, or with nil of all hosts and of the
    /// coordinator. Findings of kinds that `Condition.Kind` does not name are other parts' and stay as they are. Who
    /// listens on `Channel.findings` hears of a change once that is committed.
    ///
    /// To be called inside `comparingFindings`, with what was read there too.
    ///
    /// - Parameter leaving: Kinds that were not looked for.
    package func reconcile(
        _ found: [HostCondition],
        host: Int32? = nil,
        leaving: [Condition.Kind] = [],
        now: Int64
    ) throws {
        struct Key: Hashable {
            var host: Int32?
            var kind: String
            var subject: String
        }
        var open: [Key: FindingRow] = [:]
        for row in try openFindings(host: host) {
            guard let kind = Condition.Kind(rawValue: row.kind), !leaving.contains(kind) else { continue }
            open[Key(host: row.host, kind: row.kind, subject: row.subject)] = row
        }
        var touched: [JSON] = []
        var opened: [JSON] = []
        var isNews = false
        for item in found {
            let condition = item.condition
            let key = Key(host: item.host, kind: condition.kind.rawValue, subject: condition.subject)
            guard let row = open.removeValue(forKey: key) else {
                opened.append(Self.json(item, id: nil))
                continue
            }
            if row.severity != condition.severity { isNews = true }
            // What did not change is written down once a minute.
            if row.severity != condition.severity || row.message != condition.message
                || row.dataOf != condition.dataOf || now - row.seen >= 60_000_000_000
            {
                touched.append(Self.json(item, id: row.id))
            }
        }
        let columns = """
            id bigint, host_id int, kind text, subject text, severity text, message text, freezes boolean,
            reference_bytes bigint, reference_files bigint, data_of bigint
            """
        if !opened.isEmpty {
            try connection.execute(
                """
                INSERT INTO findings (host_id, kind, subject, severity, message, freezes, opened, seen,
                    reference_bytes, reference_files, data_of)
                SELECT host_id, kind, subject, severity, message, freezes, $2, $2, reference_bytes, reference_files,
                    data_of
                FROM jsonb_to_recordset($1::jsonb) AS f (\(columns))
                """,
                [JSON.array(opened).text(), now]
            )
        }
        if !touched.isEmpty {
            try connection.execute(
                """
                UPDATE findings o SET severity = f.severity, message = f.message, freezes = f.freezes, seen = $2,
                    data_of = f.data_of
                FROM jsonb_to_recordset($1::jsonb) AS f (\(columns)) WHERE o.id = f.id
                """,
                [JSON.array(touched).text(), now]
            )
        }
        if !open.isEmpty {
            let over = open.values.map { String($0.id) }.joined(separator: ",")
            try connection.execute(
                "UPDATE findings SET closed = $2 WHERE id = ANY ($1::bigint[]) AND closed IS NULL",
                ["{\(over)}", now]
            )
        }
        if isNews || !opened.isEmpty || !open.isEmpty { try notifyFindings() }
    }

    private static func json(_ item: HostCondition, id: Int64?) -> JSON {
        func number(_ value: Int64?) -> JSON { value.map { JSON($0) } ?? .null }
        let condition = item.condition
        // Texts of errors come from other machines, and PostgreSQL keeps no NUL.
        return JSON([
            ("id", number(id)), ("host_id", number(item.host.map { Int64($0) })),
            ("kind", JSON(condition.kind.rawValue)), ("subject", JSON(condition.subject)),
            ("severity", JSON(condition.severity.rawValue)),
            ("message", JSON(condition.message.replacing("\0", with: ""))),
            ("freezes", JSON(condition.freezes)), ("reference_bytes", number(condition.referenceBytes)),
            ("reference_files", number(condition.referenceFiles)), ("data_of", number(condition.dataOf)),
        ])
    }

    /// Closes an open finding because a person says so. One whose cause is still there is found anew, unless it is of what
    /// a person may settle: then the history counts from there on.
    ///
    /// - Returns: The finding as it was; nil when there is no open one of that number.
    package func closeFinding(_ id: Int64, by whom: String, why: String, now: Int64) throws -> FindingRow? {
        try comparingFindings {
            guard let finding = try finding(id), finding.closed == nil else { return nil }
            try connection.execute(
                "UPDATE findings SET closed = $2, closed_by = $3, closed_why = $4 WHERE id = $1",
                [id, now, whom, why]
            )
            if finding.host == nil && finding.kind == Condition.Kind.clock.rawValue {
                // From here on the clock is believed as it is now.
                try connection.execute("DELETE FROM watch_rounds")
            }
            try addEvent(
                .info,
                kind: "finding-closed",
                host: finding.host,
                "\(whom) closed finding \(id) (\(finding.kind)): \(why)",
                data: JSON([("finding", JSON(id)), ("kind", JSON(finding.kind))]).text()
            )
            try notifyFindings()
            return finding
        }
    }
}
