import Glibc
import Posix

/// A private PostgreSQL server for tests: a Unix socket in a temporary folder, no durability. It ends and its
/// folder goes when the test process ends, however that happens, because a shell beside it waits for the end of
/// a pipe.
///
/// PostgreSQL refuses to run as root; then it runs as `postgres`.
package final class PostgresServer: Sendable {
    /// Holds the socket and the data; readable by all.
    package let folder: String
    /// Of the programs: `initdb`, `psql`, `pg_dump` and the others.
    package let programs: String
    /// Major version, 15 for one.
    package let version: Int
    private let lifeline: Int32
    private let shell: pid_t

    /// One server for all tests of a process. Tests take databases of their own from it.
    package static let shared = Result { try PostgresServer() }

    package struct Missing: Error, CustomStringConvertible {
        package let description: String
    }

    /// Makes and starts a server of the newest installed version.
    ///
    /// - Parameter settings: Lines for `postgresql.conf`.
    package init(settings: [String] = []) throws {
        Host.ignoreBrokenPipes()
        let (version, programs) = try Self.installed()
        self.version = version
        self.programs = programs
        folder = "/tmp/holdfast-pg-\(randomHex(4))"
        if mkdir(folder, 0o755) != 0 { throw SystemCallError("mkdir", errno: errno, folder) }
        chmod(folder, 0o755)
        let asUser: [String]
        if getuid() == 0 {
            guard let postgres = getpwnam("postgres") else {
                throw Missing(
                    description: "PostgreSQL refuses root and there is no user postgres to run it as"
                )
            }
            chown(folder, postgres.pointee.pw_uid, postgres.pointee.pw_gid)
            asUser = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        } else {
            asUser = []
        }
        let data = "\(folder)/data"
        let made = try ChildProcess.run(
            asUser + [
                "\(programs)/initdb", "-D", data, "-U", "holdfast", "-A", "trust", "-E", "UTF8", "--locale=C",
                "--no-sync",
            ]
        )
        guard made.end == .exit(0) else {
            throw Missing(description: "initdb: \(String(decoding: made.error, as: UTF8.self))")
        }
        let fixed = [
            "listen_addresses=", "unix_socket_directories=\(folder)", "fsync=off", "full_page_writes=off",
            "synchronous_commit=off", "max_connections=60", "shared_buffers=16MB", "log_statement=none",
            "dynamic_shared_memory_type=mmap",
        ]
        let options = (fixed + settings).map { "-c '\($0)'" }.joined(separator: " ")
        let script = """
            cd / && \(asUser.joined(separator: " ")) '\(programs)/postgres' -D '\(data)' \(options) \
              >'\(folder)/log' 2>&1 </dev/null &
            server=$!
            trap '' HUP INT TERM
            read -r nothing
            kill -QUIT $server
            wait $server
            rm -rf '\(folder)'
            """
        let pipe = try FileDescriptor.pipe()
        let readEnd = FileDescriptor(owning: pipe.read)
        lifeline = pipe.write
        shell = try ChildProcess(["/bin/sh", "-c", script], input: .descriptor(readEnd.raw)).pid
        for _ in 0..<200 {
            if try psql("SELECT 1", quiet: true) == "1" { return }
            Time.sleep(seconds: 0.05)
        }
        let log = (try? Files.read("\(folder)/log")) ?? []
        throw Missing(description: "PostgreSQL did not start: \(String(decoding: log, as: UTF8.self))")
    }

    deinit {
        close(lifeline)
        // A child that nobody waits for keeps Swift Testing from seeing the end of its exit tests.
        waitpid(shell, nil, 0)
    }

    /// A connection string for `database`.
    package func address(_ database: String = "postgres") -> String {
        "host=\(folder) port=5432 user=holdfast dbname=\(database)"
    }

    /// Makes an empty database and gives its connection string.
    package func newDatabase() throws -> String {
        let name = "t\(randomHex(6))"
        try psql("CREATE DATABASE \(name) TEMPLATE template0")
        return address(name)
    }

    /// Runs SQL with psql, stopping at the first error, and gives its unaligned output without headings and
    /// without the last newline.
    @discardableResult
    package func psql(_ sql: String, database: String = "postgres", quiet: Bool = false) throws -> String {
        let run = try ChildProcess.run(
            ["\(programs)/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", address(database)],
            input: Array(sql.utf8)
        )
        if run.end != .exit(0) && !quiet {
            throw Missing(description: "psql: \(String(decoding: run.error, as: UTF8.self))")
        }
        var output = run.output[...]
        while output.last == UInt8(ascii: "\n") { output = output.dropLast() }
        return String(decoding: output, as: UTF8.self)
    }

    private static func installed() throws -> (version: Int, programs: String) {
        for version in stride(from: 18, through: 14, by: -1) {
            let folder = "/usr/lib/postgresql/\(version)/bin"
            if Files.exists("\(folder)/initdb") && Files.exists("\(folder)/postgres") {
                return (version, folder)
            }
        }
        throw Missing(description: "no PostgreSQL 14 to 18 below /usr/lib/postgresql: apt install postgresql")
    }
}
