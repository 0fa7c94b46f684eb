package import Configuration
package import Outward
import Posix
package import Wire

/// The coordinator's one inventory file, `fleet.yaml`:
///
/// ```yaml
/// state: /var/lib/holdfast             # the coordinator's own files, its private catalogue among them
/// repositories: /srv/holdfast          # one folder per host; STATE/repositories if left out
/// listen: "[::]:2222"                  # or a list of address:port
/// address: nas.example:2222            # what agents dial, or a list of it, the best first; goes into the line that
///                                      # `host add` prints
/// catalogue: postgres://holdfast@db/holdfast    # only for a PostgreSQL of your own
/// keep_free: 20 GiB                    # no backup goes on with less space there (1 GiB, on small disks 2 %)
/// captures_at_once: 2                  # further ones that are due wait for their turn
/// defaults:                            # of all hosts; what is left out is as it stands here
///   scope: originals                   # or everything
///   schedule:                          # cron expressions (crontab(5)), or never
///     full: "0 4 * * *"
///     database: "0 */6 * * *"
///     prune: "30 10 * * 0"
///     time_zone: Europe/Lisbon         # this machine's if left out
///     window: 6h                       # for so long from when it was due a failed job is tried again
///     spread: 30m                      # jobs begin up to so much later, always the same for one host
///   retention:                         # as restic's --keep-…; a kind that stands here is taken as a whole; or all
///     full: { last: 3, daily: 14, weekly: 8, monthly: 12, yearly: 3, within: 7d }
///     database: { last: 8, daily: 30, weekly: 8, monthly: 12, yearly: 3, within: 7d }
///   grace: 7d                          # for so long what was forgotten can be recalled
///   thresholds:                        # of the age of the last contact, good dump, complete full snapshot
///     contact: { warning: 6h, critical: 26h }
///     database: { warning: 26h, critical: 32h }
///     full: { warning: 26h, critical: 50h }
///     enrolment: 24h                   # for so long a new host without any of these is not critical
///   watch:
///     dump_shrink: 20 %                # of the dump's size, and of the originals, against their own history
///     library_shrink: 10 %
///     slow: 4                          # times as long as usual
///     clock: 5m                        # that an agent's clock may differ
/// hosts:                               # where a host differs: any of the keys of `defaults:`, and usually here
///   lisbon:
///     scope: everything
///     size_limit: 500 GB               # the most that its repository may hold; or none
///     rate_limit: 20 MB/s              # the most that its agent sends; or none
///     priority: 10                     # of hosts due at once the higher number comes first; 0 if left out
///     ping: https://hc-ping.com/…      # a check in the healthchecks protocol, of its full captures; or none
///     outside:                         # backups that others make: path, warning and critical (twice the warning)
///       vm-203: "/mnt/pve/dump/vzdump-qemu-203-*.vma.zst, 26h, 50h"
/// alarms:                              # who is told what, each through one channel, see AlarmSettings
///   phone: { ntfy: { url: https://ntfy.sh/a-topic-nobody-guesses }, severities: [critical] }
/// pings: { url: https://hc-ping.com/… }    # pinged every few minutes while all is well with the coordinator itself
/// ```
package struct FleetConfiguration: Sendable, Equatable {
    package static let defaultPath = "/etc/holdfast/fleet.yaml"

    package var state = "/var/lib/holdfast"
    package var repositories = "/var/lib/holdfast/repositories"
    package var listen = [Endpoint(host: "::", port: Endpoint.defaultPort)]
    /// What agents dial, the best first; empty when the file does not say it.
    package var addresses: [Endpoint] = []
    /// libpq's connection URL; nil for the private cluster. It may hold a password: never print it.
    package var catalogue: String?
    /// Bytes that stay free where the repositories are; nil for the smaller of 1 GiB and 2 % of the disk.
    package var keepFree: Int64?
    package var metrics = MetricsSettings()
    /// So many captures the schedule has under way at the same time, over all hosts.
    package var capturesAtOnce = 2
    /// Of hosts that `hosts` has nothing of.
    package var defaults = HostPolicy.builtIn
    /// Those that the file names, each with the defaults for what it does not say.
    package var hosts: [String: HostPolicy] = [:]
    /// The line of every value in the file, by the keys that lead to it from the top.
    package private(set) var lines: [[String]: Int] = [:]
    /// By name.
    package var alarms: [String: AlarmSettings] = [:]
    /// The check in the healthchecks protocol that hears that the coordinator lives.
    package var pings: WebAddress?

    /// The settings of a fleet without a file.
    package init() {}

    /// Reads the file at `path`.
    package init(path: String = defaultPath) throws(ConfigurationError) {
        try self.init(YAMLNode.bytes(of: path), file: path)
    }

    /// Reads what the file at `path` held.
    package init(_ bytes: [UInt8], file path: String) throws(ConfigurationError) {
        try self.init(YAMLNode.parse(bytes, file: path), file: path)
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
            result.addresses = try top.strings("address").map { (text) throws(ConfigurationError) in
                if let endpoint = Endpoint(text) { return endpoint }
                throw top.error("address", "must be host:port like nas.example:2222, not `\(text)`")
            }
            result.catalogue = try top.string("catalogue")
            if let url = result.catalogue, !url.hasPrefix("postgres://"), !url.hasPrefix("postgresql://") {
                // Not quoted: it may hold a password.
                throw top.error("catalogue", "must be a URL like postgres://user@host:5432/database")
            }
            result.keepFree = try top.value(
                "keep_free",
                expected: "a size like 500 GB or 20 GiB",
                Units.bytes
            )
            result.capturesAtOnce = try top.int("captures_at_once", in: 1...1000) ?? result.capturesAtOnce
            result.metrics =
                try top.mapping("metrics") { (reader) throws(ConfigurationError) in
                    try MetricsSettings(reader)
                } ?? result.metrics
            // Before the hosts, wherever it stands.
            _ = try top.mapping("defaults") { (reader) throws(ConfigurationError) in
                try result.defaults.read(reader)
            }
            result.hosts = try top.named("hosts") { (name, reader) throws(ConfigurationError) in
                if let problem = HostName.problem(name) {
                    throw ConfigurationError(file: file, line: reader.line, "`\(name)`: \(problem)")
                }
                var policy = result.defaults
                try policy.read(reader)
                return policy
            }
            result.alarms = try top.alarms()
            result.pings = try top.pings()
            result.lines = top.lines
            return result
        }
    }

    /// What counts for `host`, whether or not the file names it.
    package func policy(of host: String) -> HostPolicy { hosts[host] ?? defaults }

    /// What is captured of `host`.
    package func scope(of host: String) -> Scope { policy(of: host).scope }

    /// The most bytes that the repository of `host` may hold; nil for no limit.
    package func sizeLimit(of host: String) -> Int64? { policy(of: host).sizeLimit }

    /// Bytes that stay free on a file system of `total` bytes.
    package func reserve(ofTotal total: UInt64) -> UInt64 {
        keepFree.map { UInt64(max(0, $0)) } ?? min(1 << 30, total / 50)
    }

    /// The folder of a host's repository.
    package func repository(of host: String) -> String { "\(repositories)/\(host)" }
}

extension MappingReader {
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
