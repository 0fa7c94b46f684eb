import Postgres
package import Wire

/// What monitoring asks of the whole fleet, a query each.
extension Catalogue {
    /// The newest complete snapshot of every host and kind.
    package func newestGoodSnapshots() throws -> [(host: Int32, snapshot: SnapshotRow)] {
        try connection.query(
            """
            SELECT DISTINCT ON (host_id, kind) * FROM snapshots WHERE state = 'present' AND NOT incomplete
            ORDER BY host_id, kind, time DESC, id
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
