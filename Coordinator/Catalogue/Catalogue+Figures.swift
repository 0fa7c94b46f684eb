import Postgres
package import Wire

/// What monitoring asks of the whole fleet, a query each.
extension Catalogue {
    /// The newest complete snapshot of every host and kind, by the hosts' names.
    package func newestGoodSnapshots() throws -> [(host: Int32, snapshot: SnapshotRow)] {
        try connection.query(
            """
            SELECT s.* FROM hosts h CROSS JOIN (VALUES ('full'), ('database')) k (kind) CROSS JOIN LATERAL (
                SELECT * FROM snapshots
                WHERE host_id = h.id AND state = 'present' AND kind = k.kind AND NOT incomplete
                ORDER BY time DESC, id LIMIT 1) s
            WHERE h.removed IS NULL ORDER BY h.name, s.kind
            """
        ).map { (try $0.int32("host_id"), try SnapshotRow($0)) }
    }

    /// How many snapshots of each kind and state every host has.
    package func snapshotCounts() throws -> [(
        host: Int32, kind: CaptureKind, state: SnapshotRow.State, count: Int
    )] {
        try connection.query(
            """
            SELECT host_id, kind, state, count(*) AS count FROM snapshots
            GROUP BY host_id, kind, state ORDER BY host_id, kind, state
            """
        ).compactMap { row in
            guard let kind = CaptureKind(name: try row.string("kind")),
                let state = SnapshotRow.State(rawValue: try row.string("state"))
            else { return nil }
            return (try row.int32("host_id"), kind, state, try row.int("count"))
        }
    }
}
