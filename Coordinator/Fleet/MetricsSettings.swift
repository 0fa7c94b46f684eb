package import Configuration

/// `metrics:` of the inventory: where Prometheus finds the figures.
///
/// ```yaml
/// metrics:
///   listen: 127.0.0.1:9469                                             # GET /metrics
///   textfile: /var/lib/prometheus/node-exporter/holdfast.prom          # written every minute
/// ```
package struct MetricsSettings: Sendable, Equatable {
    /// Nil when nothing listens.
    package var listen: Endpoint?
    /// Absolute path of a file for the node exporter, which reads only names that end in `.prom`; nil for none.
    package var textfile: String?

    package init() {}

    init(_ reader: MappingReader) throws(ConfigurationError) {
        listen = try reader.value("listen", expected: "address:port like 127.0.0.1:9469") { Endpoint($0) }
        textfile = try reader.value("textfile", expected: "an absolute path that ends in .prom") {
            $0.hasPrefix("/") && $0.hasSuffix(".prom") ? $0 : nil
        }
    }
}
