import Posix
import Postgres

/// What retention needs to know of a host, and what it changes. Times are nanoseconds since 1970-01-01T00:00:00Z.
extension Catalogue {
    /// A host's forgotten snapshots that can still be recalled, those that were forgotten last first, and of these the
    /// newest.
    package func forgottenSnapshots(of host: HostRow) throws -> [SnapshotRow] {
        try snapshots(of: host, asideToo: true).filter { $0.state == .forgotten }
            .sorted { ($0.forgotten ?? 0, $0.time, $0.id) > ($1.forgotten ?? 0, $1.time, $1.id) }
    }

    /// Makes a snapshot's row say that its file lies in `holdfast/forgotten/` since `time`.
    ///
    /// - Returns: False when it has no row that says something else.
    @discardableResult
    package func setForgotten(_ id: String, host: Int32, at time: Int64) throws -> Bool {
        try connection.execute(
            """
            UPDATE snapshots SET state = 'forgotten', forgotten = $3
            WHERE host_id = $1 AND id = $2 AND (state <> 'forgotten' OR forgotten IS DISTINCT FROM $3)
            """,
            [host, id, time]
        ) == 1
    }

    /// Makes a snapshot's row say that its file is among the repository's snapshots.
    package func setPresent(_ id: String, host: Int32) throws {
        try connection.execute(
            "UPDATE snapshots SET state = 'present', forgotten = NULL WHERE host_id = $1 AND id = $2",
            [host, id]
        )
    }

    /// Takes a pin away; one that is not there is no error.
    package func removePin(_ snapshot: String, host: Int32) throws {
        try connection.execute("DELETE FROM pins WHERE host_id = $1 AND snapshot = $2", [host, snapshot])
    }

    /// The ids of a host's snapshots that other machines may still fetch.
    package func grantedSnapshots(of host: HostRow, now: Int64) throws -> Set<String> {
        Set(
            try connection.query(
                "SELECT DISTINCT snapshot FROM restore_grants WHERE host_id = $1 AND expires > $2",
                [host.id, now]
            ).map { try $0.string("snapshot") }
        )
    }

    /// The open findings because of which nothing of a host may be forgotten or pruned: its own, and those that concern
    /// the coordinator itself.
    package func freezingFindings(of host: HostRow) throws -> [FindingRow] {
        try connection.query(
            """
            SELECT * FROM findings WHERE closed IS NULL AND freezes AND (host_id = $1 OR host_id IS NULL)
            ORDER BY opened, id
            """,
            [host.id]
        ).map { try FindingRow($0) }
    }
}
