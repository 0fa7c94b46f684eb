import Posix
import Postgres

/// What happened in a run and when, one line of text each. Times are nanoseconds since 1970-01-01T00:00:00Z.
package struct RunLogLine: Sendable, Equatable {
    package let time: Int64
    package let text: String
}

extension Catalogue {
    /// Bytes of one line, and lines of one run: what an agent has to say of its files must not fill the catalogue.
    private static let mostBytes = 2000
    private static let mostLines = 500

    /// Adds a line to what happened in a run; what is over the limits is left out.
    package func log(_ text: String, run: String, at time: Int64 = Time.now()) throws {
        try connection.execute(
            """
            INSERT INTO run_log (run_id, time, line) SELECT $1, $2, $3
            WHERE (SELECT count(*) FROM run_log WHERE run_id = $1) < $4
            """,
            [
                run, time, String(decoding: Array(text.utf8.prefix(Self.mostBytes)), as: UTF8.self),
                Self.mostLines,
            ]
        )
    }

    /// What happened in a run, in the order in which it did.
    package func log(of run: String) throws -> [RunLogLine] {
        try connection.query("SELECT time, line FROM run_log WHERE run_id = $1 ORDER BY id", [run]).map {
            RunLogLine(time: try $0.int64("time"), text: try $0.string("line"))
        }
    }

    /// Removes runs that are over, with their problems and logs: those older than a year, and of each host those behind
    /// the newest 10,000.
    ///
    /// - Returns: How many.
    @discardableResult
    package func removeOldRuns(now: Int64 = Time.now(), keep: Int = 10_000) throws -> Int {
        let old = try connection.execute(
            "DELETE FROM runs WHERE ended < $1",
            [now - 365 * 86_400 * 1_000_000_000]
        )
        // Few hosts ever have so many: only theirs are put in order.
        let many = try connection.execute(
            """
            DELETE FROM runs r USING (
                SELECT id, row_number() OVER (PARTITION BY host_id ORDER BY requested DESC, id) AS place FROM runs
                WHERE host_id IN (SELECT host_id FROM runs GROUP BY host_id HAVING count(*) > $1)) p
            WHERE p.id = r.id AND r.ended IS NOT NULL AND p.place > $1
            """,
            [keep]
        )
        return old + many
    }
}
