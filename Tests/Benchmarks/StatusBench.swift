import Arguments
import Catalogue
import Fleet
import Glibc
import Posix
import Postgres

/// `--status N`: how long `status` takes, from the start of the process to its end, with N hosts of which a year of runs
/// and 60 snapshots each are known, each with a word of its own in the inventory.
struct StatusBench {
    private let programs: String
    private let folder: String
    private let count: Int
    private let rounds = 9

    init(_ settings: Settings, hosts: Int) throws {
        programs = settings.programs
        folder = settings.folder ?? "/tmp/holdfast-benchmark-\(randomHex(4))"
        count = hosts
        try Files.makeDirectories(folder, mode: 0o755)
    }

    private func coordinator(_ arguments: String...) -> [String] {
        ["\(programs)/holdfast-coordinator", "--config", "\(folder)/fleet.yaml"] + arguments
    }

    func execute() throws {
        defer { try? Files.removeTree(folder) }
        var fleet = """
            state: \(folder)/state
            repositories: \(folder)/repositories
            listen: 127.0.0.1:\(try freePort())
            hosts:

            """
        for number in 1...count { fleet += "  \(name(number)): { scope: everything, size_limit: 2 TB }\n" }
        try Files.writeAtomically(Array(fleet.utf8), to: "\(folder)/fleet.yaml")
        _ = try run(coordinator("init"))
        let log = try FileDescriptor(open: "\(folder)/serve.log", O_WRONLY | O_CREAT | O_TRUNC)
        let child = try ChildProcess(
            coordinator("serve"),
            output: .descriptor(log.raw),
            error: .descriptor(log.raw)
        )
        defer { end(child.pid) }
        let server = try CatalogueServer(FleetConfiguration(path: "\(folder)/fleet.yaml"))
        defer { try? server.end() }
        let catalogue = try server.open()
        defer { catalogue.close() }
        put("writing the rows of \(count) hosts\n", to: STDERR_FILENO)
        try fill(catalogue.connection)
        let rows = try catalogue.connection.query(
            "SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM snapshots) AS snapshots"
        ).single()
        put("\(count) hosts, \(try rows.int("runs")) runs, \(try rows.int("snapshots")) snapshots\n")
        for arguments in [["status"], ["status", "--json"], ["status", "--nagios"], ["status", name(1)]] {
            var seconds: [Double] = []
            for _ in 0..<rounds {
                let start = Time.monotonic()
                let (exit, output, error) = try ChildProcess.run(coordinator() + arguments)
                seconds.append(Double(Time.monotonic() - start) / 1e9)
                // Some hosts of this fleet are late, which nagios is told by the exit status.
                guard exit == .exit(0) || exit == .exit(2), !output.isEmpty else {
                    throw CommandFailed(description: String(decoding: error, as: UTF8.self))
                }
            }
            seconds.sort()
            let spread = "\(milliseconds(seconds[0])) to \(milliseconds(seconds[rounds - 1])))"
            put(
                "\(arguments.joined(separator: " ")): \(milliseconds(seconds[rounds / 2])) ms (median of \(rounds), \(spread)\n"
            )
        }
    }

    private func milliseconds(_ seconds: Double) -> String { Human.fixed(seconds * 1000, 0) }

    private func name(_ number: Int) -> String { "host-\(number)" }

    /// A full run a day for a year and 40 of the database alone, snapshots as seven weeks of days and the months before leave
    /// them. Every 20th host has not been backed up for two days.
    private func fill(_ connection: PostgresConnection) throws {
        let day: Int64 = 86_400_000_000_000
        let now = Time.now()
        try connection.execute(
            """
            INSERT INTO hosts (name, added, last_contact)
            SELECT 'host-' || n, $1::bigint - 370 * $2::bigint, $1::bigint - 60000000000 FROM generate_series(1, $3::int) n
            """,
            [now, day, count]
        )
        try connection.execute(
            """
            INSERT INTO agent_keys SELECT 'SHA256:' || name, id, sha256(name::bytea), added FROM hosts
            """
        )
        try connection.execute(
            """
            INSERT INTO runs (id, host_id, kind, state, requested, started, ended, files_seen, bytes_seen, snapshot,
                error)
            SELECT gen_random_uuid(), h.id, CASE WHEN n % 10 = 9 THEN 'database' ELSE 'full' END,
                CASE WHEN n % 50 = 49 THEN 'failed' ELSE 'done' END, t, t, t + 1800000000000, 400000, 1800000000000,
                md5(h.id || ' ' || n) || md5(n::text),
                CASE WHEN n % 50 = 49 THEN 'the connection to the agent ended' END
            FROM hosts h CROSS JOIN generate_series(0, 399) n
            CROSS JOIN LATERAL (SELECT $1::bigint - n * ($2::bigint / 400 * 365) - 3600000000000 * (h.id % 20)
                - CASE WHEN h.id % 20 = 0 THEN 2 * $2::bigint ELSE 0 END AS t) t
            """,
            [now, day]
        )
        try connection.execute(
            """
            INSERT INTO snapshots (host_id, id, run_id, time, tree, epoch, scope, dump_name, dump_bytes, immich_version,
                postgres_version, files, bytes, stored_bytes, incomplete, state, kind)
            SELECT host_id, snapshot, id, requested, snapshot, 1, 'everything', 'immich-db-backup.sql', 3000000000, 'v3.1.0',
                '15.18', 400000 - n, 1800000000000 - n * 1000000000, 5000000000, false, 'present', kind
            FROM (SELECT *, row_number() OVER (PARTITION BY host_id ORDER BY requested DESC) AS n FROM runs
                WHERE state = 'done') r
            WHERE n <= 50 OR n % 30 = 0
            """
        )
        // As the server does by itself within a minute.
        try connection.execute("ANALYZE")
    }
}
