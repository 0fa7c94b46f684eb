package import Catalogue
import Postgres

extension Catalogue {
    /// What is known of every host, or of one, by name. A handful of questions, however many hosts there are, each
    /// answered by looks into an index.
    ///
    /// - Parameter now: Snapshots that lie further behind it than clocks may differ count as dated in the future.
    package func hostFacts(host: Int32? = nil, now: Int64) throws -> [HostFacts] {
        var all = try snapshotFacts(host, horizon: now + HostHealth.future)
        let places = Dictionary(all.enumerated().map { ($0.element.id, $0.offset) }) { first, _ in first }
        for (id, run) in try runningRuns(host) {
            if let place = places[id] { all[place].running.append(run) }
        }
        for (id, failure) in try failures(host) {
            if let place = places[id] { all[place].failures.append(failure) }
        }
        for finding in try openFindings(host: host) {
            guard let id = finding.host, let place = places[id],
                let kind = Condition.Kind(rawValue: finding.kind)
            else { continue }
            all[place].standing[kind] = HostFacts.Standing(
                message: finding.message,
                referenceBytes: finding.referenceBytes,
                referenceFiles: finding.referenceFiles,
                dataOf: finding.dataOf
            )
        }
        for (id, kind, dataOf) in try settledFindings(host) {
            if let place = places[id] { all[place].settled[kind] = dataOf }
        }
        return all
    }

    private func snapshotFacts(_ host: Int32?, horizon: Int64) throws -> [HostFacts] {
        let rows = try connection.query(
            """
            SELECT h.id, h.name, h.added, h.last_contact, h.clock_skew,
                EXISTS (SELECT FROM agent_keys k WHERE k.host_id = h.id AND k.revoked IS NULL) AS has_key,
                d.newest_dump, d.dumps, l.libraries, f.newest_full, f.full_version, v.version, m.missing, a.future
            FROM hosts h
            LEFT JOIN LATERAL (
                SELECT max(time) AS newest_dump,
                    string_agg(time || ' ' || dump_bytes, ';' ORDER BY time DESC) AS dumps
                FROM (SELECT time, dump_bytes FROM snapshots
                    WHERE host_id = h.id AND state = 'present' AND time <= $2 AND dump_name IS NOT NULL
                    ORDER BY time DESC LIMIT \(HostFacts.remembered)) s) d ON true
            LEFT JOIN LATERAL (
                SELECT string_agg(concat_ws(' ', time, scope, bytes - coalesce(dump_bytes, 0), files), ';'
                    ORDER BY time DESC) AS libraries
                FROM (SELECT time, scope, bytes, dump_bytes, files FROM snapshots
                    WHERE host_id = h.id AND state = 'present' AND time <= $2 AND kind = 'full'
                    ORDER BY time DESC LIMIT \(HostFacts.remembered)) s) l ON true
            LEFT JOIN LATERAL (
                SELECT time AS newest_full, immich_version AS full_version FROM snapshots
                WHERE host_id = h.id AND state = 'present' AND time <= $2 AND kind = 'full' AND NOT incomplete
                ORDER BY time DESC LIMIT 1) f ON true
            LEFT JOIN LATERAL (
                SELECT immich_version AS version FROM snapshots
                WHERE host_id = h.id AND state = 'present' AND time <= $2 ORDER BY time DESC LIMIT 1) v ON true
            LEFT JOIN LATERAL (
                SELECT CASE WHEN s.incomplete THEN coalesce((SELECT problems FROM runs r WHERE r.id = s.run_id), 1)
                    END AS missing
                FROM (SELECT incomplete, run_id FROM snapshots
                    WHERE host_id = h.id AND state = 'present' AND time <= $2 AND kind = 'full'
                    ORDER BY time DESC LIMIT 1) s) m ON true
            LEFT JOIN LATERAL (
                SELECT max(time) AS future FROM snapshots
                WHERE host_id = h.id AND state = 'present' AND time > $2) a ON true
            WHERE h.removed IS NULL AND ($1::int IS NULL OR h.id = $1) ORDER BY h.name
            """,
            [host, horizon]
        )
        return try rows.map { row in
            var facts = HostFacts(
                id: try row.int32("id"),
                name: try row.string("name"),
                added: try row.int64("added")
            )
            // A stock client can date a snapshot before 1970, where spans up to now would not fit any more.
            facts.lastContact = try row.optionalInt64("last_contact")
            facts.clockSkew = try row.optionalInt64("clock_skew")
            facts.hasKey = try row.bool("has_key")
            facts.newestDump = try row.optionalInt64("newest_dump").map { max(0, $0) }
            facts.newestFull = try row.optionalInt64("newest_full").map { max(0, $0) }
            facts.future = try row.optionalInt64("future")
            facts.missing = try row.optionalInt64("missing")
            facts.version = try row.text("version")
            facts.fullVersion = try row.text("full_version")
            facts.dumps = Self.lists(try row.text("dumps")).compactMap { words in
                guard words.count == 2, let time = Int64(words[0]), let bytes = Int64(words[1]) else {
                    return nil
                }
                return HostFacts.Dump(time: time, bytes: bytes)
            }
            facts.libraries = Self.lists(try row.text("libraries")).compactMap { words in
                guard words.count == 4, let time = Int64(words[0]), let bytes = Int64(words[2]),
                    let files = Int64(words[3])
                else { return nil }
                return HostFacts.Library(time: time, scope: String(words[1]), bytes: bytes, files: files)
            }
            return facts
        }
    }

    /// The words of each entry of a list that was put together by the server.
    private static func lists(_ text: String?) -> [[Substring]] {
        (text ?? "").split(separator: ";").map { $0.split(separator: " ") }
    }

    private func runningRuns(_ host: Int32?) throws -> [(Int32, HostFacts.Running)] {
        try connection.query(
            """
            SELECT r.host_id, r.kind, coalesce(r.started, r.requested) AS started, r.files_seen, r.bytes_seen,
                r.files_expected, r.bytes_expected, u.usual
            FROM runs r LEFT JOIN LATERAL (
                SELECT CASE WHEN count(*) >= 3 THEN
                    percentile_disc(0.5) WITHIN GROUP (ORDER BY ended - started) END AS usual
                FROM (SELECT started, ended FROM runs
                    WHERE host_id = r.host_id AND kind = r.kind AND state IN ('done', 'incomplete')
                    ORDER BY requested DESC LIMIT \(HostFacts.remembered)) p) u ON true
            WHERE r.state = 'running' AND ($1::int IS NULL OR r.host_id = $1) ORDER BY r.requested
            """,
            [host]
        ).compactMap { row in
            guard let kind = RunKind(rawValue: try row.string("kind")) else { return nil }
            var figures = RunFigures()
            figures.filesSeen = try row.int64("files_seen")
            figures.bytesSeen = try row.int64("bytes_seen")
            figures.filesExpected = try row.optionalInt64("files_expected")
            figures.bytesExpected = try row.optionalInt64("bytes_expected")
            let run = HostFacts.Running(
                kind: kind,
                started: try row.int64("started"),
                usual: try row.optionalInt64("usual"),
                fraction: figures.fraction
            )
            return (try row.int32("host_id"), run)
        }
    }

    private func failures(_ host: Int32?) throws -> [(Int32, HostFacts.Failure)] {
        try connection.query(
            """
            SELECT h.id, k.kind, coalesce(r.ended, r.requested) AS ended, r.state, r.error
            FROM hosts h CROSS JOIN unnest($2::text[]) AS k (kind) CROSS JOIN LATERAL (
                SELECT state, ended, requested, error FROM runs
                WHERE host_id = h.id AND kind = k.kind AND state NOT IN ('queued', 'running', 'cancelled')
                ORDER BY requested DESC LIMIT 1) r
            WHERE h.removed IS NULL AND ($1::int IS NULL OR h.id = $1) AND r.state IN ('failed', 'interrupted')
            ORDER BY h.id, k.kind
            """,
            [host, "{" + RunKind.allCases.map(\.rawValue).joined(separator: ",") + "}"]
        ).compactMap { row in
            guard let kind = RunKind(rawValue: try row.string("kind")) else { return nil }
            let failure = HostFacts.Failure(
                kind: kind,
                ended: try row.int64("ended"),
                error: try row.text("error") ?? "it was \(try row.string("state"))"
            )
            return (try row.int32("id"), failure)
        }
    }

    /// What a person closed last of each kind that can be closed for good.
    private func settledFindings(_ host: Int32?) throws -> [(Int32, Condition.Kind, Int64)] {
        let kinds = Condition.Kind.allCases.filter(\.canBeSettled).map(\.rawValue).joined(separator: ",")
        return try connection.query(
            """
            SELECT host_id, kind, max(data_of) AS data_of FROM findings
            WHERE closed_by IS NOT NULL AND kind = ANY ($2::text[]) AND data_of IS NOT NULL
                AND host_id IS NOT NULL AND ($1::int IS NULL OR host_id = $1)
            GROUP BY host_id, kind
            """,
            [host, "{\(kinds)}"]
        ).compactMap { row in
            guard let kind = Condition.Kind(rawValue: try row.string("kind")) else { return nil }
            return (try row.int32("host_id"), kind, try row.int64("data_of"))
        }
    }
}
