import Glibc
import Posix

/// The database of the VM: a PostgreSQL with Immich's tables on a Unix socket, without Docker, so that the
/// figures are those of the programs under test.
final class SourceDatabase {
    /// libpq's connection string.
    let connection: String
    private let folder: String
    private let programs: String
    private let asOwner: [String]

    /// - Parameter places: Rows of place names; 20,000 make a dump of about 4 MB.
    init(places: Int) throws {
        // Sockets have short paths.
        folder = "/tmp/holdfast-source-\(randomHex(4))"
        let majors = ((try? Directory.names("/usr/lib/postgresql")) ?? []).compactMap {
            Int(String(decoding: $0, as: UTF8.self))
        }
        guard let major = majors.max() else {
            throw CommandFailed(description: "no PostgreSQL server is installed: install postgresql-15")
        }
        programs = "/usr/lib/postgresql/\(major)/bin"
        try Files.makeDirectories(folder, mode: 0o755)
        // PostgreSQL refuses to run as root.
        if getuid() == 0 {
            try run(["chown", "postgres:", folder])
            asOwner = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
        } else {
            asOwner = []
        }
        connection = "postgresql:///immich?host=\(folder)&user=postgres"
        let data = "\(folder)/data"
        try run(
            asOwner + [
                "\(programs)/initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale",
                "C.UTF-8", "--no-sync",
            ]
        )
        let options = "-c listen_addresses='' -c unix_socket_directories=\(folder) -c fsync=off"
        try run(
            asOwner + [
                "\(programs)/pg_ctl", "-D", data, "-w", "-s", "-l", "\(folder)/log", "-o", options, "start",
            ]
        )
        try run(["\(programs)/createdb", "-h", folder, "-U", "postgres", "immich"])
        let fixtures = Files.parent(Files.parent(#filePath)) + "/Fixtures/sample-host"
        try run([
            "\(programs)/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "version=v3.1.0", "-v",
            "places=\(places)", "-d", connection, "-f", "\(fixtures)/schema.sql", "-f",
            "\(fixtures)/instance.sql",
        ])
    }

    /// Dumps the way Immich does, to nowhere.
    func dump(log: String) throws -> Measurement {
        let dump = "\(programs)/pg_dump --clean --if-exists --dbname '\(connection)' >/dev/null"
        return try measure(["sh", "-c", dump], on: .vm, ends: Ends(), log: log)
    }

    func dumpedBytes() throws -> Int {
        let dump = "\(programs)/pg_dump --clean --if-exists --dbname '\(connection)' | wc -c"
        return Int(try run(["sh", "-c", dump]).split(whereSeparator: \.isWhitespace).first ?? "") ?? 0
    }

    func execute(_ sql: String) throws {
        try run(["\(programs)/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", connection, "-c", sql])
    }

    func stop() {
        _ = try? run(
            asOwner + ["\(programs)/pg_ctl", "-D", "\(folder)/data", "-s", "-m", "immediate", "stop"]
        )
        try? Files.removeTree(folder)
    }
}
