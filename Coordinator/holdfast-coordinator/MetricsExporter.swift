import Catalogue
import Configuration
import Fleet
import Glibc
import Metrics
import Posix
import Synchronization

/// Gives Prometheus the fleet's figures while `serve` runs: over HTTP, as a file, or both. Every thread that asks has
/// a connection to the catalogue of its own.
final class MetricsExporter {
    private let server: MetricsServer?
    /// Closing it ends the thread that writes the file.
    private let stop: Int32?

    private static let fileSeconds = 60.0

    /// - Parameter fleet: Gives the inventory in force.
    /// - Throws: `SystemCallError` when the port is taken.
    init(
        _ settings: MetricsSettings,
        server: CatalogueServer,
        fleet: @escaping @Sendable () throws -> FleetConfiguration
    )
        throws
    {
        let address = server.address
        self.server = try settings.listen.map { endpoint in
            let page = MetricsPage(address, fleet)
            let server = try MetricsServer(address: endpoint.host, port: endpoint.port) { page.text() }
            Log.write(.notice, "figures for Prometheus at http://\(endpoint.host):\(server.port)/metrics")
            return server
        }
        guard let file = settings.textfile else {
            stop = nil
            return
        }
        let (ours, theirs) = try socketPair()
        stop = ours
        try Thread("metrics-file") {
            let end = FileDescriptor(owning: theirs)
            let page = MetricsPage(address, fleet)
            var failed = false
            repeat {
                do {
                    try Files.writeAtomically(Array(page.text().utf8), to: file, mode: 0o644)
                    failed = false
                } catch {
                    if !failed { Log.write(.error, "the figures for Prometheus: \(error)") }
                    failed = true
                }
            } while try waitReadable([end.raw], seconds: Self.fileSeconds).isEmpty
        }.detach()
    }

    deinit { if let stop { close(stop) } }
}

/// The page, made by one thread at a time.
private final class MetricsPage: Sendable {
    private final class Held {
        var catalogue: Catalogue?
    }

    private let address: String
    private let fleet: @Sendable () throws -> FleetConfiguration
    private let held: Mutex<Held>

    init(_ address: String, _ fleet: @escaping @Sendable () throws -> FleetConfiguration) {
        self.address = address
        self.fleet = fleet
        held = Mutex(Held())
    }

    func text() -> String {
        held.withLock { held in
            // A connection that was lost while nobody asked shows at the first question.
            for attempt in 1...2 {
                do {
                    let catalogue =
                        try held.catalogue ?? Catalogue(address: address, applicationName: "holdfast metrics")
                    held.catalogue = catalogue
                    return try FleetMetrics(catalogue, fleet()).page(version: version).text
                } catch {
                    held.catalogue?.close()
                    held.catalogue = nil
                    if attempt == 2 { Log.write(.warning, "the figures for Prometheus: \(error)") }
                }
            }
            return FleetMetrics.unreadable(version: version).text
        }
    }
}
