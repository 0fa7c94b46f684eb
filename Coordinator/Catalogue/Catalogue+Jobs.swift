import Posix
import Postgres

extension Catalogue {
    /// All jobs of hosts, of one or of all, by host and kind.
    package func jobs(host: HostRow? = nil) throws -> [JobRow] {
        try connection.query(
            "SELECT * FROM jobs WHERE $1::int IS NULL OR host_id = $1 ORDER BY host_id, kind",
            [host?.id]
        ).map { try JobRow($0) }
    }

    /// Adds a job or writes down how it stands now.
    package func put(_ job: JobRow) throws {
        try connection.execute(
            """
            INSERT INTO jobs (host_id, kind, schedule, handled, next, due, attempts, retry_at, window_end, run_id,
                last_run, missed, waits, note)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            ON CONFLICT (host_id, kind) DO UPDATE SET (schedule, handled, next, due, attempts, retry_at, window_end,
                run_id, last_run, missed, waits, note) = ($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            """,
            job.parameters
        )
    }

    package func removeJob(host: Int32, kind: RunKind) throws {
        try connection.execute(
            "DELETE FROM jobs WHERE host_id = $1 AND kind = $2",
            [host, kind.rawValue]
        )
    }

    /// Queues the run of a job that is due, or takes the one that waits already, and wakes the host's agent. Job and
    /// run are written together or not at all.
    ///
    /// - Returns: The job with its run.
    package func queueRun(of job: JobRow) throws -> JobRow {
        try connection.transaction {
            var job = job
            job.run = try connection.query(
                """
                INSERT INTO runs AS r (id, host_id, kind, state, requested, scheduled)
                VALUES ($1, $2, $3, 'queued', $4, true)
                ON CONFLICT (host_id, kind) WHERE state = 'queued' DO UPDATE SET requested = r.requested
                RETURNING id
                """,
                [newUUID(), job.host, job.kind.rawValue, Time.now()]
            ).single().string("id")
            job.waits = nil
            try put(job)
            if job.kind.capture != nil { try notify(Channel.jobs, String(job.host)) }
            if let run = job.run { try notify(Channel.runs, run) }
            return job
        }
    }

    /// Takes back the run of a job that nobody took up and no person waits for, so that it leaves no trace; the
    /// occurrence waits again.
    ///
    /// - Returns: The job without its run, or nil when that was taken up or asked for meanwhile.
    package func withdrawRun(of job: JobRow) throws -> JobRow? {
        guard let run = job.run else { return job }
        return try connection.transaction {
            let gone = try connection.execute(
                "DELETE FROM runs WHERE id = $1 AND state = 'queued' AND scheduled",
                [run]
            )
            guard gone == 1 else { return nil }
            var job = job
            job.run = nil
            try put(job)
            return job
        }
    }

    /// Ends a run whose process, a child of this coordinator, ended without saying so.
    package func failRun(_ run: String, reason: String, failure: RunRow.Failure = .other) throws {
        let touched = try connection.execute(
            """
            UPDATE runs SET state = 'failed', ended = $2, error = $3, failure = $4
            WHERE id = $1 AND state IN ('queued', 'running')
            """,
            [run, Time.now(), reason, failure.rawValue]
        )
        if touched == 1 { try notify(Channel.runs, run) }
    }

    // MARK: - What jobs are planned from

    /// When the newest good run of each kind was begun and ended, for hosts that have jobs. Epochs tell which is the newest,
    /// because clocks can be put back; one that was begun behind `now` was begun by a clock that was wrong, and proves
    /// nothing.
    package func goodRuns(before now: Int64) throws -> [Int32: [RunKind: GoodRun]] {
        var result: [Int32: [RunKind: GoodRun]] = [:]
        for row in try connection.query(
            """
            SELECT h.host_id, k.kind, r.started, r.ended
            FROM (SELECT DISTINCT host_id FROM jobs) h, (VALUES ('full'), ('database'), ('forget'), ('prune')) k (kind),
                LATERAL (
                    SELECT started, ended FROM runs
                    WHERE host_id = h.host_id AND kind = k.kind AND state IN ('done', 'incomplete') AND epoch IS NOT NULL
                    ORDER BY epoch DESC LIMIT 1) r
            WHERE r.started <= $1
            """,
            [now]
        ) {
            guard let kind = RunKind(rawValue: try row.string("kind")) else { continue }
            result[try row.int32("host_id"), default: [:]][kind] = GoodRun(
                started: try row.int64("started"),
                ended: try row.int64("ended")
            )
        }
        return result
    }

    /// The runs that wait or are under way, the oldest first.
    package func openRuns() throws -> [RunRow] {
        try connection.query(
            """
            SELECT \(RunRow.columns) FROM runs r JOIN hosts h ON h.id = r.host_id
            WHERE r.id IN (
                SELECT id FROM runs WHERE state = 'queued' UNION ALL SELECT id FROM runs WHERE state = 'running')
            ORDER BY r.requested, r.id
            """
        ).map { try RunRow($0) }
    }

    /// Tells the host's agent once more that a run waits.
    package func wakeAgent(host: Int32) throws { try notify(Channel.jobs, String(host)) }

    // MARK: - Agents that wait for work

    /// What a connection of `serve` is called, so that its rows in `waiting_agents` count.
    package static func serveName(_ id: String) -> String { "holdfast serve \(id)" }

    private static let waitingSQL = """
        SELECT w.host_id FROM waiting_agents w
        JOIN pg_stat_activity a ON a.application_name = 'holdfast serve ' || w.serve AND a.datname = current_database()
        """

    /// Writes down which hosts' agents are connected to the serve `id` and take work.
    package func setWaitingAgents(_ hosts: Set<Int32>, serve id: String) throws {
        try connection.transaction {
            try connection.execute(
                """
                DELETE FROM waiting_agents w WHERE serve = $1 OR NOT EXISTS (
                    SELECT FROM pg_stat_activity a WHERE a.application_name = 'holdfast serve ' || w.serve
                        AND a.datname = current_database())
                """,
                [id]
            )
            try connection.execute(
                """
                INSERT INTO waiting_agents (serve, host_id, since)
                SELECT $1, h.id, $3 FROM hosts h WHERE h.id = ANY ($2::int[])
                """,
                [id, "{" + hosts.sorted().map(String.init).joined(separator: ",") + "}", Time.now()]
            )
            try notify(Channel.schedule, "")
        }
    }

    /// The hosts whose agents are connected to one of the coordinators and take work.
    package func waitingAgents() throws -> Set<Int32> {
        Set(try connection.query(Self.waitingSQL).map { try $0.int32("host_id") })
    }

    /// The hosts that an agent has joined, whether or not it is connected.
    package func joinedHosts() throws -> Set<Int32> {
        Set(
            try connection.query("SELECT DISTINCT host_id FROM agent_keys WHERE revoked IS NULL").map {
                try $0.int32("host_id")
            }
        )
    }
}
