import Posix
import Postgres
package import Wire

/// The coordinators that share this catalogue, for agents to know.
extension Catalogue {
    /// Nanoseconds after which one that is never seen any more is no longer told of.
    private static let memory: Int64 = 90 * 86_400 * 1_000_000_000

    /// Writes down that a coordinator serves.
    ///
    /// - Parameters:
    ///   - hostKey: Its fingerprint, `SHA256:…`.
    ///   - addresses: Each `host:port`, the best first.
    package func noteCoordinator(hostKey: String, machine: String, addresses: [String]) throws {
        try connection.execute(
            """
            INSERT INTO coordinators (host_key, machine, addresses, since, seen) VALUES ($1, $2, $3, $4, $4)
            ON CONFLICT (host_key) DO UPDATE
                SET machine = excluded.machine, addresses = excluded.addresses, seen = excluded.seen
            """,
            [hostKey, machine, addresses.joined(separator: "\n"), Time.now()]
        )
    }

    /// Where the fleet's coordinators are, the first that served first.
    package func coordinators() throws -> [CoordinatorPlace] {
        try connection.query(
            "SELECT host_key, addresses FROM coordinators WHERE seen > $1 ORDER BY since, host_key",
            [Time.now() - Self.memory]
        ).flatMap { row in
            let hostKey = try row.string("host_key")
            return try row.string("addresses").split(separator: "\n").map {
                CoordinatorPlace(address: String($0), hostKey: hostKey)
            }
        }
    }
}
