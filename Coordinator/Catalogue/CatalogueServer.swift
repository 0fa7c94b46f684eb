package import Fleet
import Postgres

/// The server that holds the catalogue, in use by this process: the private cluster, or the one that `catalogue:`
/// names. Keep it as long as the catalogue is needed, and `end` it before the process goes.
package final class CatalogueServer {
    /// libpq's connection string. It may hold a password: never print it.
    package let address: String
    private let cluster: PrivateCluster?

    /// Starts the private cluster when that is what the fleet uses and it does not run.
    package convenience init(_ fleet: FleetConfiguration) throws {
        try self.init(state: fleet.state, catalogue: fleet.catalogue)
    }

    /// - Parameter catalogue: A connection URL, or nil for the private cluster in `state`.
    package init(state: String, catalogue: String?) throws {
        if let catalogue {
            address = catalogue
            cluster = nil
        } else {
            let cluster = try PrivateCluster.use(state: state)
            address = cluster.address
            self.cluster = cluster
        }
    }

    /// Opens a connection to the catalogue. A private cluster whose server went down meanwhile is started again.
    package func open(applicationName: String = "holdfast") throws -> Catalogue {
        do { return try Catalogue(address: address, applicationName: applicationName) } catch let error
            as PostgresError
        {
            guard case .cannotConnect = error, let cluster else { throw error }
            try cluster.start()
            return try Catalogue(address: address, applicationName: applicationName)
        }
    }

    /// Stops the private cluster if nobody else uses it.
    package func end() throws { try cluster?.end() }
}
