import Posix
import Postgres

/// What the running service and the command line say to each other through the catalogue.
extension Catalogue {
    /// Takes part in the lock that says that a service runs; it goes with the connection.
    package func markServing() throws {
        _ = try connection.tryLock(class: LockClass.serve, object: 0, shared: true)
    }

    /// Whether a service runs somewhere that agents can reach.
    package func isServed() throws -> Bool {
        try connection.query(
            """
            SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
                AND classid = $1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            ) AS served
            """,
            [Int64(LockClass.serve)]
        ).single().bool("served")
    }

    /// Since when a service runs, in nanoseconds since 1970-01-01T00:00:00Z, nil when none does; and which duties somebody
    /// has, by their numbers.
    package func service() throws -> (since: Int64?, duties: Set<Int32>) {
        let rows = try connection.query(
            """
            SELECT l.classid::bigint AS class, l.objid::bigint AS duty,
                (extract(epoch FROM a.backend_start) * 1000000)::bigint * 1000 AS since
            FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND l.classid IN (\(LockClass.serve), \(LockClass.duty))
            """
        )
        var since: Int64?
        var duties: Set<Int32> = []
        for row in rows {
            if try row.int32("class") == LockClass.duty {
                duties.insert(try row.int32("duty"))
            } else {
                since = min(since ?? .max, try row.optionalInt64("since") ?? 0)
            }
        }
        return (since, duties)
    }

    /// Writes down that the agents with these keys are here now. One whose key was revoked while it was connected, as
    /// when its machine was replaced, stands for its host no more.
    ///
    /// - Parameter keys: Fingerprints.
    package func noteContact(keys: Set<String>) throws {
        guard !keys.isEmpty else { return }
        try connection.execute(
            """
            UPDATE hosts SET last_contact = $1 WHERE id IN (
                SELECT host_id FROM agent_keys
                WHERE revoked IS NULL AND fingerprint = ANY (string_to_array($2, ' ')))
            """,
            [Time.now(), keys.joined(separator: " ")]
        )
    }

    /// Writes down that the host's agent is here now, and how its machine's clock stands.
    ///
    /// - Parameter skew: By how much at least it is ahead, nanoseconds; negative when it is behind.
    package func noteContact(host: Int32, clockSkew skew: Int64) throws {
        try connection.execute(
            "UPDATE hosts SET last_contact = $2, clock_seen = $2, clock_skew = $3 WHERE id = $1",
            [host, Time.now(), skew]
        )
    }

    /// Ends what waits for the agent of a host on which another capture is under way; whoever asked is told the reason. Without
    /// such a run the holder of the lock is just about to take what waits, or the coordinator works there itself, and what
    /// waits has its turn when that is over.
    package func refuseQueuedRuns(host: Int32, reason: String) throws {
        let rows = try connection.query(
            """
            UPDATE runs SET state = 'cancelled', ended = $2, error = $3, failure = $4
            WHERE host_id = $1 AND state = 'queued' AND kind IN \(RunKind.capturesSQL)
                AND EXISTS (
                    SELECT FROM runs WHERE host_id = $1 AND state = 'running' AND kind IN \(RunKind.capturesSQL))
            RETURNING id
            """,
            [host, Time.now(), reason, RunRow.Failure.locked.rawValue]
        )
        for row in rows { try notify(Channel.runs, row.string("id")) }
    }

    /// Ends what waits for the agent of a host and could not even be begun: whoever asked is told why.
    package func failQueuedRuns(host: Int32, reason: String, failure: RunRow.Failure) throws {
        let rows = try connection.query(
            """
            UPDATE runs SET state = 'failed', ended = $2, error = $3, failure = $4
            WHERE host_id = $1 AND state = 'queued' AND kind IN \(RunKind.capturesSQL) RETURNING id
            """,
            [host, Time.now(), reason, failure.rawValue]
        )
        for row in rows { try notify(Channel.runs, row.string("id")) }
    }
}
