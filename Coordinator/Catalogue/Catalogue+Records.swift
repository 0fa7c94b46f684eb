import Postgres

/// Why a snapshot must not be forgotten. The repository's `holdfast/pins` says the same, and is written first.
package struct PinRow: Sendable, Equatable {
    /// Restic's id.
    package let snapshot: String
    package let why: String
    package let by: String
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    package let time: Int64

    package init(snapshot: String, why: String, by: String, time: Int64) {
        self.snapshot = snapshot
        self.why = why
        self.by = by
        self.time = time
    }
}

/// What was proved of a snapshot. The repository's `holdfast/proofs` says the same, and is written first.
package struct ProofRow: Sendable, Equatable {
    /// Restic's id.
    package let snapshot: String
    /// `captured`, `whole`, `proved` or `drilled`.
    package let level: String
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    package let time: Int64
    /// A JSON object of names and whole numbers, as the server spells it.
    package let figures: String

    package init(snapshot: String, level: String, time: Int64, figures: String) {
        self.snapshot = snapshot
        self.level = level
        self.time = time
        self.figures = figures
    }
}

extension Catalogue {
    /// Adds a pin, or replaces the one that the snapshot has.
    package func put(_ pin: PinRow, host: Int32) throws {
        try connection.execute(
            """
            INSERT INTO pins (host_id, snapshot, why, by_whom, time) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (host_id, snapshot) DO UPDATE
                SET why = excluded.why, by_whom = excluded.by_whom, time = excluded.time
            """,
            [host, pin.snapshot, pin.why, pin.by, pin.time]
        )
    }

    /// Takes what was proved of a snapshot away.
    package func removeProofs(of snapshot: String, host: Int32) throws {
        try connection.execute("DELETE FROM proofs WHERE host_id = $1 AND snapshot = $2", [host, snapshot])
    }

    package func pins(of host: HostRow) throws -> [PinRow] {
        try connection.query("SELECT * FROM pins WHERE host_id = $1 ORDER BY snapshot", [host.id]).map {
            PinRow(
                snapshot: try $0.string("snapshot"),
                why: try $0.string("why"),
                by: try $0.string("by_whom"),
                time: try $0.int64("time")
            )
        }
    }

    /// Adds a proof, or replaces the one of that level that the snapshot has.
    package func put(_ proof: ProofRow, host: Int32) throws {
        try connection.execute(
            """
            INSERT INTO proofs (host_id, snapshot, level, time, figures) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (host_id, snapshot, level) DO UPDATE SET time = excluded.time, figures = excluded.figures
            """,
            [host, proof.snapshot, proof.level, proof.time, proof.figures]
        )
    }

    package func proofs(of host: HostRow) throws -> [ProofRow] {
        try connection.query(
            "SELECT * FROM proofs WHERE host_id = $1 ORDER BY snapshot, level",
            [host.id]
        ).map {
            ProofRow(
                snapshot: try $0.string("snapshot"),
                level: try $0.string("level"),
                time: try $0.int64("time"),
                figures: try $0.string("figures")
            )
        }
    }
}
