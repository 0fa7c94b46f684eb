import Posix
import Postgres

extension Catalogue {
    /// Asks for a run of a host's agent and wakes whoever listens. A host has at most one waiting run of a kind:
    /// asking again gives that one.
    package func queueRun(host: HostRow, kind: RunKind = .full) throws -> RunRow {
        try connection.transaction {
            // The update makes the row come back, and keeps it from being claimed meanwhile.
            let row = try connection.query(
                """
                INSERT INTO runs AS r (id, host_id, kind, state, requested) VALUES ($1, $2, $3, 'queued', $4)
                ON CONFLICT (host_id, kind) WHERE state = 'queued' DO UPDATE SET scheduled = false
                RETURNING id
                """,
                [newUUID(), host.id, kind.rawValue, Time.now()]
            ).single()
            // Also for one that waits already: whoever should have heard of it may have missed it.
            try notify(Channel.jobs, String(host.id))
            return try announced(row.string("id"))
        }
    }

    /// Hosts that have a run waiting for their agent, for one who starts to listen.
    package func hostsWithQueuedRuns() throws -> [Int32] {
        try connection.query(
            """
            SELECT DISTINCT host_id FROM runs WHERE state = 'queued' AND kind IN \(RunKind.capturesSQL)
            ORDER BY host_id
            """
        ).map { try $0.int32("host_id") }
    }

    /// Makes the oldest waiting run of the leased host a running one of this lease; nil when none waits.
    package func claimRun(for lease: HostLease, kind: RunKind = .full) throws -> RunRow? {
        let rows = try connection.query(
            """
            UPDATE runs SET state = 'running', started = $3, holder = $4, epoch = $5
            WHERE id = (
                SELECT id FROM runs WHERE host_id = $1 AND kind = $2 AND state = 'queued'
                ORDER BY requested LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING id
            """,
            [lease.host.id, kind.rawValue, Time.now(), lease.id, lease.epoch]
        )
        guard let id = try rows.first?.string("id") else { return nil }
        return try announced(id)
    }

    /// Adds a run that nobody queued, running for this lease at once.
    package func startRun(for lease: HostLease, kind: RunKind = .full) throws -> RunRow {
        let id = newUUID()
        let now = Time.now()
        try connection.execute(
            """
            INSERT INTO runs (id, host_id, kind, state, requested, started, holder, epoch)
            VALUES ($1, $2, $3, 'running', $4, $4, $5, $6)
            """,
            [id, lease.host.id, kind.rawValue, now, lease.id, lease.epoch]
        )
        return try announced(id)
    }

    /// Writes down how far a run is.
    ///
    /// - Returns: Whether somebody has asked for its end.
    /// - Throws: `CatalogueError.runNotOurs` when it is no longer running for this lease.
    @discardableResult
    package func progress(_ run: String, lease: HostLease, phase: String, figures: RunFigures) throws -> Bool
    {
        let rows = try connection.query(
            "UPDATE runs SET phase = $12, \(RunFigures.assignments) "
                + "WHERE id = $1 AND holder = $2 AND state = 'running' "
                + "RETURNING cancel_requested IS NOT NULL AS cancelled",
            [run, lease.id] + figures.parameters + [phase]
        )
        guard let row = rows.first else { throw CatalogueError.runNotOurs(run) }
        return try row.bool("cancelled")
    }

    /// Ends a run of this lease.
    ///
    /// - Parameters:
    ///   - state: One that is over.
    ///   - error: What went wrong, for people.
    ///   - failure: The same for programs.
    /// - Throws: `CatalogueError.runNotOurs` when it is no longer running for this lease.
    package func finish(
        _ run: String,
        lease: HostLease,
        state: RunRow.State,
        figures: RunFigures,
        error: String? = nil,
        failure: RunRow.Failure? = nil
    ) throws {
        let touched = try connection.execute(
            "UPDATE runs SET state = $12, ended = $13, error = $14, failure = $15, \(RunFigures.assignments) "
                + "WHERE id = $1 AND holder = $2 AND state = 'running'",
            [run, lease.id] + figures.parameters + [state.rawValue, Time.now(), error, failure?.rawValue]
        )
        if touched == 0 { throw CatalogueError.runNotOurs(run) }
        try notify(Channel.runs, run)
    }

    /// Ends a run that nobody may claim any more, or that its lease could not even begin.
    ///
    /// - Returns: False when it was not waiting.
    @discardableResult
    package func cancelQueuedRun(_ run: String) throws -> Bool {
        let touched = try connection.execute(
            "UPDATE runs SET state = 'cancelled', ended = $2 WHERE id = $1 AND state = 'queued'",
            [run, Time.now()]
        )
        if touched == 1 { try notify(Channel.runs, run) }
        return touched == 1
    }

    /// Asks whoever works on a run to end it; what looks at its run once a second ends within two.
    ///
    /// - Returns: False when it was not running.
    @discardableResult
    package func requestCancel(run: String) throws -> Bool {
        let touched = try connection.execute(
            """
            UPDATE runs SET cancel_requested = coalesce(cancel_requested, $2) WHERE id = $1 AND state = 'running'
            """,
            [run, Time.now()]
        )
        if touched == 1 { try notify(Channel.cancel, run) }
        return touched == 1
    }

    func cancelQueuedRuns(host: Int32) throws {
        for row in try connection.query("SELECT id FROM runs WHERE host_id = $1 AND state = 'queued'", [host])
        {
            try cancelQueuedRun(row.string("id"))
        }
    }

    /// Ends the running runs whose lease no longer lives. One that had published its snapshot is done, though its
    /// process ended before it could say so; the others were interrupted, or cancelled where somebody had asked for that.
    ///
    /// - Returns: The runs that were ended here.
    @discardableResult
    package func endAbandonedRuns() throws -> [RunRow] {
        let rows = try connection.query(
            """
            UPDATE runs r SET ended = $1,
                state = CASE s.incomplete WHEN false THEN 'done' WHEN true THEN 'incomplete'
                    ELSE CASE WHEN r.cancel_requested IS NULL THEN 'interrupted' ELSE 'cancelled' END END,
                error = CASE WHEN s.id IS NULL
                    THEN coalesce(r.error, 'the process that worked on it ended or lost the catalogue; '
                        'the next backup goes on from here') ELSE r.error END
            FROM runs o LEFT JOIN snapshots s ON s.host_id = o.host_id AND s.run_id = o.id
            WHERE o.id = r.id AND r.state = 'running'
                AND NOT EXISTS (SELECT FROM (\(Self.liveLeasesSQL)) l WHERE l.lease = r.holder::text)
            RETURNING r.id
            """,
            [Time.now()]
        )
        return try rows.map { try announced($0.string("id")) }
    }

    // MARK: - Reading

    package func run(_ id: String) throws -> RunRow? {
        try connection.query(
            "SELECT \(RunRow.columns) FROM runs r JOIN hosts h ON h.id = r.host_id WHERE r.id = $1",
            [id]
        ).first.map { try RunRow($0) }
    }

    /// The runs whose ids begin with `text`, at most a few.
    package func runs(beginningWith text: String) throws -> [RunRow] {
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 == 0x2D || Self.isHexadecimal($0) }) else { return [] }
        return try connection.query(
            """
            SELECT \(RunRow.columns) FROM runs r JOIN hosts h ON h.id = r.host_id
            WHERE r.id::text LIKE $1 ORDER BY r.requested DESC LIMIT 3
            """,
            [text.lowercased() + "%"]
        ).map { try RunRow($0) }
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }

    /// The newest runs first, of one host or of all.
    package func runs(host: HostRow? = nil, limit: Int = 100) throws -> [RunRow] {
        try connection.query(
            """
            SELECT \(RunRow.columns) FROM runs r JOIN hosts h ON h.id = r.host_id
            WHERE $1::int IS NULL OR r.host_id = $1 ORDER BY r.requested DESC, r.id LIMIT $2
            """,
            [host?.id, limit]
        ).map { try RunRow($0) }
    }

    /// The newest run of that kind of every host that has one, or of one host.
    package func newestRuns(kind: RunKind = .full, host: Int32? = nil) throws -> [RunRow] {
        try connection.query(
            """
            SELECT r.*, h.name AS host_name FROM hosts h CROSS JOIN LATERAL (
                SELECT * FROM runs WHERE host_id = h.id AND kind = $1 ORDER BY requested DESC, id LIMIT 1) r
            WHERE h.removed IS NULL AND ($2::int IS NULL OR h.id = $2) ORDER BY h.id
            """,
            [kind.rawValue, host]
        ).map { try RunRow($0) }
    }

    // MARK: - Problems

    /// Keeps what a run could not take; the run's own `problems` figure counts them all, these are some of them.
    package func addProblems(_ problems: [RunProblem], run: String) throws {
        try connection.transaction {
            for problem in problems {
                try connection.execute(
                    "INSERT INTO run_problems (run_id, path, message) VALUES ($1, $2, $3)",
                    [run, problem.path, problem.message]
                )
            }
        }
    }

    package func problems(run: String, limit: Int = 1000) throws -> [RunProblem] {
        try connection.query(
            "SELECT path, message FROM run_problems WHERE run_id = $1 ORDER BY id LIMIT $2",
            [run, limit]
        ).map { RunProblem(path: try $0.bytes("path"), message: try $0.string("message")) }
    }

    // MARK: - Notifying

    func notify(_ channel: String, _ payload: String) throws {
        try connection.execute("SELECT pg_notify($1, $2)", [channel, payload])
    }

    private func announced(_ id: String) throws -> RunRow {
        try notify(Channel.runs, id)
        guard let run = try run(id) else { throw CatalogueError.runNotOurs(id) }
        return run
    }
}
