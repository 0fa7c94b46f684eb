import Glibc
import Posix

/// The coordinator's own PostgreSQL, in `STATE/catalogue`, on a Unix socket and nothing else:
///
///     catalogue/            mode 700, of the user that PostgreSQL runs as
///       data/               the cluster; making-… while it is being made
///       socket/             mode 700; root and the owner connect as role `holdfast`
///       log                 what PostgreSQL has to say; log.old before it
///       users, start        empty files that are locked with flock(2)
///
/// Every process that needs the catalogue holds a shared lock on `users` meanwhile. Whoever comes first starts the
/// server, whoever leaves last stops it, so the command line works without `serve`. A process that is killed leaves
/// the server running for the next one; the kernel has dropped its lock.
package final class PrivateCluster {
    /// libpq's connection string, without any secret.
    package let address: String
    /// `STATE/catalogue`.
    package let folder: String
    private let owner: ClusterOwner
    private let searching: [String]
    private var users: FileDescriptor?

    /// Seconds that PostgreSQL gets to start or to stop.
    private static let patience = 60.0

    /// Makes the cluster if there is none, starts its server if it does not run, and counts this process as a
    /// user of it until `end` or `deinit`.
    ///
    /// - Parameters:
    ///   - state: The coordinator's state folder. One that root owns is opened for passing through (mode o+x),
    ///     because the server runs as `postgres` then.
    ///   - searching: Folders that may hold PostgreSQL's programs.
    /// - Throws: `CatalogueError.cluster` with what to do.
    package static func use(state: String, searching: [String] = PostgresPrograms.usualFolders) throws
        -> PrivateCluster
    {
        do { return try PrivateCluster(state: state, searching: searching) } catch let error
            as SystemCallError
        {
            throw CatalogueError.cluster("the catalogue's server cannot be used: \(error)")
        }
    }

    private init(state: String, searching: [String]) throws {
        folder = "\(state)/catalogue"
        self.searching = searching
        let socket = "\(folder)/socket"
        let length = "\(socket)/.s.PGSQL.5432".utf8.count
        guard length <= 107 else {
            throw CatalogueError.cluster(
                "the path of the catalogue's socket below \(state) has \(length) bytes, and Linux allows 107: "
                    + "choose a shorter `state:` folder"
            )
        }
        address =
            "host=\(quoted(socket)) hostaddr='' port=5432 user=holdfast dbname=holdfast options='' sslmode=disable"
        if !Files.exists(state) {
            try Files.makeDirectories(Files.parent(state), mode: 0o755)
            try Files.makeDirectories(state, mode: geteuid() == 0 ? 0o711 : 0o700)
        }
        owner = try ClusterOwner.of(state: state)
        try Self.prepare(folder, state: state, owner: owner)
        let users = try Self.open("\(folder)/users", owner)
        _ = try retryingOnInterrupt("flock", "\(folder)/users") { flock(users.raw, LOCK_SH) }
        self.users = consume users
        try start()
    }

    /// Starts the server unless it runs.
    func start() throws {
        if condition() == .ready { return }
        let start = try Self.open("\(folder)/start", owner)
        defer { withExtendedLifetime(start) {} }
        _ = try retryingOnInterrupt("flock", "\(folder)/start") { flock(start.raw, LOCK_EX) }
        try bringUp()
    }

    deinit { try? end() }

    /// Stops being a user, and stops the server if nobody else is one. Doing it twice does no harm.
    package func end() throws {
        guard let users = self.users.take() else { return }
        // Changing a lock drops it first, so of two that leave at once the later one always succeeds.
        guard flock(users.raw, LOCK_EX | LOCK_NB) == 0 else { return }
        defer { withExtendedLifetime(users) {} }
        guard let pid = serverPID() else { return }
        kill(pid, SIGINT)
        try wait("stop") { serverPID() == nil }
    }

    // MARK: - Files

    private static func prepare(_ folder: String, state: String, owner: ClusterOwner) throws {
        if owner.uid != geteuid() {
            let mode = try FileStatus(path: state).mode & 0o7777
            if try FileStatus(path: state).uid == 0, mode & 0o001 == 0,
                chmod(state, mode_t(mode | 0o001)) != 0
            {
                throw SystemCallError("chmod", errno: errno, state)
            }
            // Only what root closed on the way is named here; the owner itself meets the rest as its own error.
            var above = Files.parent(state)
            while above != "/" && above != "." {
                let status = try FileStatus(path: above)
                if status.mode & 0o001 == 0 && status.uid != owner.uid && status.gid != owner.gid {
                    throw CatalogueError.cluster(
                        "the catalogue's server runs as \(owner.name), which cannot pass through \(above): "
                            + "chmod o+x \(above), or choose another `state:` folder"
                    )
                }
                above = Files.parent(above)
            }
        }
        if !Files.exists(folder) {
            try Files.makeDirectories(folder, mode: 0o700)
            try owner.take(folder)
        }
        if !Files.exists("\(folder)/socket") {
            try Files.makeDirectories("\(folder)/socket", mode: 0o700)
            try owner.take("\(folder)/socket")
        }
    }

    private static func open(_ path: String, _ owner: ClusterOwner) throws -> FileDescriptor {
        let file = try FileDescriptor(open: path, O_RDWR | O_CREAT, mode: 0o600)
        if try file.status().uid != owner.uid { try owner.take(path) }
        return file
    }

    // MARK: - The server

    private enum Condition { case down, changing, ready }

    private func condition() -> Condition {
        guard let pidFile = try? Files.read("\(folder)/data/postmaster.pid", limit: 4096) else {
            return .down
        }
        let lines = String(decoding: pidFile, as: UTF8.self).split(
            separator: "\n",
            omittingEmptySubsequences: false
        )
        if answers(), lines.count > 7, lines[7].hasPrefix("ready") { return .ready }
        return serverPID() == nil ? .down : .changing
    }

    /// The process id in `postmaster.pid` if that is a PostgreSQL: after the machine went down, the number may
    /// belong to anything.
    private func serverPID() -> pid_t? {
        guard let pidFile = try? Files.read("\(folder)/data/postmaster.pid", limit: 4096),
            let pid = pid_t(String(decoding: pidFile.prefix { $0 != 0x0A }, as: UTF8.self)), pid > 1,
            let status = try? Files.read("/proc/\(pid)/stat", limit: 4096)
        else { return nil }
        // A zombie that nobody reaps, as in a container without an init, is dead as well.
        let text = String(decoding: status, as: UTF8.self)
        return text.hasPrefix("\(pid) (postgres) ") && !text.hasPrefix("\(pid) (postgres) Z") ? pid : nil
    }

    /// Whether something listens on the socket.
    private func answers() -> Bool {
        let raw = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { return false }
        let descriptor = FileDescriptor(owning: raw)
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) {
            $0.copyBytes(from: "\(folder)/socket/.s.PGSQL.5432".utf8)
        }
        return withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor.raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
    }

    /// Called by one process at a time.
    private func bringUp() throws {
        try wait("start") { condition() != .changing }
        if condition() == .ready { return }
        let data = "\(folder)/data"
        let version: Int?
        if Files.exists(data) {
            let text = String(decoding: try Files.read("\(data)/PG_VERSION", limit: 64), as: UTF8.self)
            version = Int(text.prefix { $0.isNumber })
        } else {
            version = nil
        }
        let programs = try PostgresPrograms.find(in: searching, version: version)
        let maker = ClusterMaker(folder: folder, owner: owner, programs: programs)
        if version == nil { try maker.make() }
        try maker.configure()
        let log = "\(folder)/log"
        if let size = try? FileStatus(path: log).size, size > 1 << 20 {
            try Files.rename(log, to: log + ".old")
        }
        // After a crash the last processes of the old server may take a moment to end.
        var attempts = Files.exists("\(data)/postmaster.pid") ? 5 : 1
        while true {
            // PostgreSQL believes the numbers in these files when by chance they are living processes.
            if serverPID() == nil {
                try Files.remove("\(data)/postmaster.pid")
                try Files.remove("\(folder)/socket/.s.PGSQL.5432.lock")
            }
            // pg_ctl puts the server into a session of its own, where no signal of this terminal comes.
            let started = try maker.run(
                "pg_ctl",
                ["start", "-D", data, "-l", log, "-s", "-w", "-t", String(Int(Self.patience))]
            )
            if started.end == .exit(0), condition() == .ready { return }
            attempts -= 1
            if attempts == 0 {
                // What it says lies on the same disk, and may be cut off where that is full: below two segments of its
                // write-ahead log it can't work.
                let free = (try? Files.space(folder))?.free ?? .max
                let full = free < 32 << 20 ? "no space is left on its disk, free some space; it says: " : ""
                throw CatalogueError.cluster(
                    "the catalogue's server in \(folder) does not start: \(full)"
                        + lastLines(of: log, or: started.error)
                )
            }
            Time.sleep(seconds: 1)
        }
    }

    private func wait(_ what: String, until done: () -> Bool) throws {
        let deadline = Time.monotonic() + Int64(Self.patience * 1e9)
        while !done() {
            if Time.monotonic() > deadline {
                throw CatalogueError.cluster(
                    "the catalogue's server in \(folder) did not \(what) in \(Int(Self.patience)) s: see \(folder)/log"
                )
            }
            Time.sleep(seconds: 0.01)
        }
    }
}

/// The end of a log, or what a program printed, in one line.
func lastLines(of log: String?, or printed: [UInt8]) -> String {
    let bytes = log.flatMap { try? Files.read($0) } ?? []
    let lines = String(decoding: bytes.isEmpty ? printed : bytes, as: UTF8.self).split(separator: "\n")
    return lines.suffix(4).joined(separator: "; ")
}

/// A value of a libpq connection string.
func quoted(_ value: String) -> String {
    "'" + value.replacing("\\", with: "\\\\").replacing("'", with: "\\'") + "'"
}
