package import Outward
import Posix
import Postgres

/// A finding, and what one alarm was told about it.
package struct ToldFinding: Sendable, Equatable {
    package struct State: Sendable, Equatable {
        /// The worst that was told.
        package let severity: Severity
        /// Nanoseconds since 1970-01-01T00:00:00Z.
        package let told: Int64
        /// When its end was told; nil while the alarm takes it for open.
        package let over: Int64?

        package init(severity: Severity, told: Int64, over: Int64? = nil) {
            self.severity = severity
            self.told = told
            self.over = over
        }
    }

    package let id: Int64
    /// Nil for the coordinator itself.
    package let host: String?
    package let kind: String
    package let subject: String
    package let severity: Severity
    package let message: String
    package let opened: Int64
    package let closed: Int64?
    /// Nil when the alarm never heard of it.
    package let state: State?

    package init(
        id: Int64,
        host: String?,
        kind: String,
        subject: String = "",
        severity: Severity,
        message: String,
        opened: Int64,
        closed: Int64? = nil,
        state: State? = nil
    ) {
        self.id = id
        self.host = host
        self.kind = kind
        self.subject = subject
        self.severity = severity
        self.message = message
        self.opened = opened
        self.closed = closed
        self.state = state
    }
}

/// A message of an alarm that was not delivered yet, or was.
package struct AlarmMessageRow: Sendable, Equatable {
    package let id: Int64
    package let uuid: String
    package let alarm: String
    package let severity: Severity?
    package let subject: String
    package let body: String
    /// A JSON array.
    package let findings: String
    package let created: Int64
    package let attempts: Int
    package let nextTry: Int64
    package let error: String?

    fileprivate init(_ row: PostgresResult.Row) throws(PostgresError) {
        id = try row.int64("id")
        uuid = try row.string("uuid")
        alarm = try row.string("alarm")
        severity = try row.text("severity").flatMap { Severity(rawValue: $0) }
        subject = try row.string("subject")
        body = try row.string("body")
        findings = try row.string("findings")
        created = try row.int64("created")
        attempts = try row.int("attempts")
        nextTry = try row.int64("next_try")
        error = try row.text("error")
    }
}

/// How an alarm's channel stands.
package struct AlarmSummary: Sendable, Equatable {
    package let lastDelivery: Int64?
    package let waiting: Int
    package let oldestWaiting: Int64?
    /// Of the newest attempt, while messages wait.
    package let error: String?
}

/// What a message tells of one finding.
package struct Telling: Sendable, Equatable {
    package let finding: Int64
    package let severity: Severity
    package let isOver: Bool

    package init(finding: Int64, severity: Severity, isOver: Bool) {
        self.finding = finding
        self.severity = severity
        self.isOver = isOver
    }
}

extension Catalogue {
    // MARK: - What to tell

    /// Every finding that is open, or that `alarm` takes for open.
    package func findings(toldTo alarm: String) throws -> [ToldFinding] {
        try connection.query(
            """
            SELECT f.id, f.kind, f.subject, f.severity, f.message, f.opened, f.closed, h.name AS host,
                s.severity AS told_severity, s.told, s.over
            FROM findings f LEFT JOIN hosts h ON h.id = f.host_id
                LEFT JOIN alarm_states s ON s.finding_id = f.id AND s.alarm = $1
            WHERE f.closed IS NULL OR (s.told IS NOT NULL AND s.over IS NULL)
            ORDER BY f.opened, f.id
            """,
            [alarm]
        ).map { row in
            let state = try row.optionalInt64("told").map { told in
                ToldFinding.State(
                    severity: Severity(rawValue: try row.string("told_severity")) ?? .critical,
                    told: told,
                    over: try row.optionalInt64("over")
                )
            }
            return ToldFinding(
                id: try row.int64("id"),
                host: try row.text("host"),
                kind: try row.string("kind"),
                subject: try row.string("subject"),
                severity: Severity(rawValue: try row.string("severity")) ?? .critical,
                message: try row.string("message"),
                opened: try row.int64("opened"),
                closed: try row.optionalInt64("closed"),
                state: state
            )
        }
    }

    /// When messages of `alarm` were made, since `time`, in order.
    package func messageTimes(of alarm: String, since time: Int64) throws -> [Int64] {
        try connection.query(
            "SELECT created FROM alarm_messages WHERE alarm = $1 AND created >= $2 ORDER BY created",
            [alarm, time]
        ).map { try $0.int64("created") }
    }

    /// Keeps a message and, in the same transaction, that it tells this. An older message of the alarm that still waits
    /// becomes part of it, so that a channel that comes back says everything once.
    package func keep(_ message: AlarmMessage, tells: [Telling], findings: String, now: Int64) throws {
        try connection.transaction {
            let waiting = try connection.query(
                "SELECT * FROM alarm_messages WHERE alarm = $1 AND delivered IS NULL AND dropped IS NULL FOR UPDATE",
                [message.alarm]
            ).first.map { try AlarmMessageRow($0) }
            let id: Int64
            if let waiting {
                id = waiting.id
                let body = message.text + "\n\nEarlier, and not delivered until now:\n" + waiting.body
                let severity = max(message.severity ?? .warning, waiting.severity ?? .warning)
                let isBad = message.severity != nil || waiting.severity != nil
                // Another identifier: an attempt that seemed to fail may have told the older part.
                try connection.execute(
                    """
                    UPDATE alarm_messages SET uuid = $2, severity = $3, subject = $4, body = $5,
                        findings = $6::jsonb || findings WHERE id = $1
                    """,
                    [
                        id, message.id, isBad ? severity.rawValue : nil, message.subject,
                        cut(body, bytes: 64 << 10),
                        findings,
                    ]
                )
            } else {
                id = try connection.query(
                    """
                    INSERT INTO alarm_messages (uuid, alarm, severity, subject, body, findings, created, next_try)
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $7) RETURNING id
                    """,
                    [
                        message.id, message.alarm, message.severity?.rawValue, message.subject, message.text,
                        findings,
                        now,
                    ]
                ).single().int64("id")
            }
            for telling in tells {
                try connection.execute(
                    """
                    INSERT INTO alarm_states AS s (alarm, finding_id, severity, told, over, message_id)
                    VALUES ($1, $2, $3, $4, $5, $6)
                    ON CONFLICT (alarm, finding_id) DO UPDATE SET severity = excluded.severity, told = excluded.told,
                        over = excluded.over, message_id = excluded.message_id
                    """,
                    [
                        message.alarm, telling.finding, telling.severity.rawValue, now,
                        telling.isOver ? now : nil, id,
                    ]
                )
            }
        }
    }

    /// Lets `alarm` forget findings that it is no longer told about.
    package func forgetTold(alarm: String, findings: [Int64]) throws {
        for finding in findings {
            try connection.execute(
                "DELETE FROM alarm_states WHERE alarm = $1 AND finding_id = $2",
                [alarm, finding]
            )
        }
    }

    // MARK: - Delivery

    /// Messages that wait, due or not, the oldest first.
    package func waitingMessages() throws -> [AlarmMessageRow] {
        try connection.query(
            "SELECT * FROM alarm_messages WHERE delivered IS NULL AND dropped IS NULL ORDER BY created, id"
        ).map { try AlarmMessageRow($0) }
    }

    package func delivered(_ message: AlarmMessageRow, now: Int64) throws {
        try connection.execute(
            "UPDATE alarm_messages SET delivered = $2, attempts = attempts + 1, error = NULL WHERE id = $1",
            [message.id, now]
        )
    }

    package func notDelivered(_ message: AlarmMessageRow, error: String, nextTry: Int64) throws {
        try connection.execute(
            "UPDATE alarm_messages SET attempts = attempts + 1, error = $2, next_try = $3 WHERE id = $1",
            [message.id, error, nextTry]
        )
    }

    /// Gives a message up. What it told is not counted as told: what is still open of it is told anew.
    package func drop(_ message: AlarmMessageRow, why: String, now: Int64) throws {
        try connection.transaction {
            try connection.execute("UPDATE alarm_messages SET dropped = $2 WHERE id = $1", [message.id, now])
            try connection.execute(
                "DELETE FROM alarm_states WHERE alarm = $1 AND message_id = $2",
                [message.alarm, message.id]
            )
            try addEvent(
                .error,
                kind: "alarm-dropped",
                "alarm \(message.alarm): \(why); it said: \(message.subject)"
            )
        }
    }

    /// Makes what waits for `alarm` due now.
    package func retryMessages(of alarm: String) throws {
        try connection.execute(
            "UPDATE alarm_messages SET next_try = 0 WHERE alarm = $1 AND delivered IS NULL AND dropped IS NULL",
            [alarm]
        )
        try notifyFindings()
    }

    /// Forgets messages that were made before `time` and are not waiting.
    package func clearMessages(before time: Int64) throws {
        try connection.execute(
            "DELETE FROM alarm_messages WHERE created < $1 AND (delivered IS NOT NULL OR dropped IS NOT NULL)",
            [time]
        )
    }

    /// How the channel of `alarm` stands.
    package func summary(of alarm: String) throws -> AlarmSummary {
        let row = try connection.query(
            """
            SELECT max(delivered) AS last, count(*) FILTER (WHERE delivered IS NULL AND dropped IS NULL) AS waiting,
                min(created) FILTER (WHERE delivered IS NULL AND dropped IS NULL) AS oldest,
                max(error) FILTER (WHERE delivered IS NULL AND dropped IS NULL) AS error
            FROM alarm_messages WHERE alarm = $1
            """,
            [alarm]
        ).single()
        return AlarmSummary(
            lastDelivery: try row.optionalInt64("last"),
            waiting: try row.int("waiting"),
            oldestWaiting: try row.optionalInt64("oldest"),
            error: try row.text("error")
        )
    }

    // MARK: - Channels that do not deliver

    /// The kind of the finding about an alarm's channel; its subject is the alarm's name.
    package static let channelFinding = "alarm-channel"

    /// Closes the findings about the channels of all alarms but these.
    package func closeChannelFindings(except failing: [String], now: Int64) throws {
        for row in try connection.query(
            "SELECT subject FROM findings WHERE closed IS NULL AND host_id IS NULL AND kind = $1",
            [Self.channelFinding]
        ) {
            let alarm = try row.string("subject")
            guard !failing.contains(alarm) else { continue }
            try closeFinding(Self.channelFinding, subject: alarm, why: "it delivers again", now: now)
        }
    }

    // MARK: - Pings

    /// A full capture whose start or end its host's own check has not heard of.
    package struct DuePing: Sendable {
        package let run: RunRow
        package let attempts: Int
    }

    /// The pings that are due for the hosts of these names. What happened over an hour ago is told only when it was
    /// tried before, and for a day: a late success would be taken for a new one.
    package func duePings(hosts: [String], now: Int64) throws -> [DuePing] {
        let hour: Int64 = 3_600_000_000_000
        return try connection.query(
            """
            SELECT \(RunRow.columns), coalesce(p.attempts, 0) AS attempts
            FROM runs r JOIN hosts h ON h.id = r.host_id LEFT JOIN run_pings p ON p.run_id = r.id
            WHERE r.kind = 'full' AND h.name = ANY ($1::text[])
                AND ((r.state = 'running' AND p.started IS NULL)
                    OR (r.ended IS NOT NULL AND p.ended IS NULL AND (r.state <> 'cancelled' OR r.started IS NOT NULL)))
                AND coalesce(r.ended, r.started) > CASE WHEN p.run_id IS NULL THEN $2 ELSE $3 END::bigint
                AND coalesce(p.next_try, 0) <= $4
            ORDER BY r.requested, r.id LIMIT 32
            """,
            ["{\(hosts.joined(separator: ","))}", now - hour, now - 24 * hour, now]
        ).map { DuePing(run: try RunRow($0), attempts: try $0.int("attempts")) }
    }

    /// Writes down that a run's start, or its end when it is over, was heard.
    package func pinged(_ run: RunRow, now: Int64) throws {
        let column = run.state.isOver ? "ended" : "started"
        try connection.execute(
            """
            INSERT INTO run_pings (run_id, \(column)) VALUES ($1, $2)
            ON CONFLICT (run_id) DO UPDATE SET \(column) = excluded.\(column), attempts = 0, next_try = 0
            """,
            [run.id, now]
        )
    }

    package func notPinged(_ run: RunRow, nextTry: Int64) throws {
        try connection.execute(
            """
            INSERT INTO run_pings AS p (run_id, attempts, next_try) VALUES ($1, 1, $2)
            ON CONFLICT (run_id) DO UPDATE SET attempts = p.attempts + 1, next_try = excluded.next_try
            """,
            [run.id, nextTry]
        )
    }

    // MARK: - Duties

    /// Writes down that a duty was done just now; once a minute is enough, for the disk may be one that sleeps.
    package func noteDuty(_ kind: Int32) throws {
        let now = Time.now()
        try connection.execute(
            """
            INSERT INTO duties SELECT $1, $2
            WHERE NOT EXISTS (SELECT FROM duties WHERE kind = $1 AND done > $3 AND done <= $2)
            ON CONFLICT (kind) DO UPDATE SET done = excluded.done
            """,
            [kind, now, now - 60_000_000_000]
        )
    }

    /// When the duty of each kind was done last.
    package func duties() throws -> [Int32: Int64] {
        var result: [Int32: Int64] = [:]
        for row in try connection.query("SELECT * FROM duties") {
            result[try row.int32("kind")] = try row.int64("done")
        }
        return result
    }
}
