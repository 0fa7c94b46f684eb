package import Configuration
package import Wire

/// The coordinator's one inventory file, `fleet.yaml`:
///
/// ```yaml
/// state: /var/lib/holdfast             # the coordinator's own files, its private catalogue among them
/// repositories: /srv/holdfast          # one folder per host; STATE/repositories if left out
/// listen: "[::]:2222"                  # or a list of address:port
/// address: nas.example:2222            # what agents dial; goes into the line that `host add` prints
/// catalogue: postgres://holdfast@db/holdfast    # only for a PostgreSQL of your own
/// keep_free: 20 GiB                    # no backup goes on with less space there (1 GiB, on small disks 2 %)
/// defaults: { scope: originals }       # or everything
/// hosts:
///   lisbon: { scope: everything, size_limit: 500 GB }    # the most that its repository may hold
/// ```
package struct FleetConfiguration: Sendable, Equatable {
    /// What may be said of one host; nil where the defaults count.
    package struct HostSettings: Sendable, Equatable {
        package var scope: Scope?
        /// Bytes.
        package var sizeLimit: Int64?
    }

    package static let defaultPath = "/etc/holdfast/fleet.yaml"

    package var state = "/var/lib/holdfast"
    package var repositories = "/var/lib/holdfast/repositories"
    package var listen = [Endpoint(host: "::", port: Endpoint.defaultPort)]
    /// Nil when the file does not say it.
    package var address: Endpoint?
    /// libpq's connection URL; nil for the private cluster. It may hold a password: never print it.
    package var catalogue: String?
    /// Bytes that stay free where the repositories are; nil for the smaller of 1 GiB and 2 % of the disk.
    package var keepFree: Int64?
    package var scope = Scope.originals
    /// The most bytes that a host's repository may hold; nil for no limit.
    package var sizeLimit: Int64?
    package var hosts: [String: HostSettings] = [:]
    package var metrics = MetricsSettings()

    /// The settings of a fleet without a file.
    package init() {}

    /// Reads the file at `path`.
    package init(path: String = defaultPath) throws(ConfigurationError) {
        try self.init(YAMLNode.read(path), file: path)
    }

    package init(_ document: YAMLNode, file: String) throws(ConfigurationError) {
        self = try MappingReader.read(document, file: file) { (top) throws(ConfigurationError) in
            var result = FleetConfiguration()
            result.state = try top.folder("state") ?? result.state
            result.repositories = try top.folder("repositories") ?? result.state + "/repositories"
            let listen = try top.strings("listen")
            if !listen.isEmpty {
                result.listen = try listen.map { (text) throws(ConfigurationError) in
                    if let endpoint = Endpoint(text) { return endpoint }
                    throw top.error(
                        "listen",
                        "must be address:port like [::]:2222 or 192.168.1.5:2222, not `\(text)`"
                    )
                }
            }
            result.address = try top.value("address", expected: "host:port like nas.example:2222") {
                Endpoint($0)
            }
            result.catalogue = try top.string("catalogue")
            if let url = result.catalogue, !url.hasPrefix("postgres://"), !url.hasPrefix("postgresql://") {
                // Not quoted: it may hold a password.
                throw top.error("catalogue", "must be a URL like postgres://user@host:5432/database")
            }
            result.keepFree = try top.bytes("keep_free")
            result.metrics =
                try top.mapping("metrics") { (reader) throws(ConfigurationError) in
                    try MetricsSettings(reader)
                } ?? result.metrics
            try top.mapping("defaults") { (defaults) throws(ConfigurationError) in
                result.scope = try defaults.scope() ?? result.scope
                result.sizeLimit = try defaults.bytes("size_limit")
            }
            result.hosts = try top.named("hosts") { (name, host) throws(ConfigurationError) in
                if let problem = HostName.problem(name) {
                    throw ConfigurationError(file: file, line: host.line, "`\(name)`: \(problem)")
                }
                return HostSettings(scope: try host.scope(), sizeLimit: try host.bytes("size_limit"))
            }
            return result
        }
    }

    /// What counts for `host`, whether or not the file names it.
    package func policy(of host: String) -> HostPolicy {
        var policy = HostPolicy()
        policy.scope = scope(of: host)
        policy.sizeLimit = sizeLimit(of: host)
        return policy
    }

    /// What is captured of `host`.
    package func scope(of host: String) -> Scope { hosts[host]?.scope ?? scope }

    /// The most bytes that the repository of `host` may hold; nil for no limit.
    package func sizeLimit(of host: String) -> Int64? { hosts[host]?.sizeLimit ?? sizeLimit }

    /// Bytes that stay free on a file system of `total` bytes.
    package func reserve(ofTotal total: UInt64) -> UInt64 {
        keepFree.map { UInt64(max(0, $0)) } ?? min(1 << 30, total / 50)
    }

    /// The folder of a host's repository.
    package func repository(of host: String) -> String { "\(repositories)/\(host)" }
}

extension MappingReader {
    fileprivate func scope() throws(ConfigurationError) -> Scope? {
        try value("scope", expected: "originals or everything") { Scope(name: $0) }
    }

    fileprivate func bytes(_ key: String) throws(ConfigurationError) -> Int64? {
        try value(key, expected: "a size like 500 GB or 20 GiB") { Units.bytes($0) }
    }

    /// An absolute path without slashes at its end.
    fileprivate func folder(_ key: String) throws(ConfigurationError) -> String? {
        try value(key, expected: "a path that starts with /") { text in
            guard text.hasPrefix("/") else { return nil }
            var path = text[...]
            while path.count > 1 && path.hasSuffix("/") { path = path.dropLast() }
            return String(path)
        }
    }
}
