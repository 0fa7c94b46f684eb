package import Postgres
import Posix

/// An open catalogue: one connection with the schema in place. One thread at a time may use it.
///
/// Opening is cheap (a few milliseconds), so a process that only waits closes it meanwhile.
package final class Catalogue {
    package let connection: PostgresConnection

    /// Channels of NOTIFY. `jobs` carries the host's id when a run was queued for it, `runs` the run's id when its
    /// state changed, `cancel` the run's id when somebody asked for its end, `schedule`
    /// that something came which jobs may wait for. On `reload` a service is asked to take up its
    /// inventory, on `reloaded` it answers, and `inventory` says that another one may be in force
    /// (`Catalogue+Inventory.swift`). `findings` says that a finding was opened or closed.
    package enum Channel {
        package static let jobs = "holdfast_jobs"
        package static let runs = "holdfast_runs"
        package static let cancel = "holdfast_cancel"
        package static let reload = "holdfast_reload"
        package static let reloaded = "holdfast_reloaded"
        package static let inventory = "holdfast_inventory"
        package static let schedule = "holdfast_schedule"
        package static let findings = "holdfast_findings"
    }

    /// Connects, refuses what cannot serve, and brings the schema up to date.
    ///
    /// - Parameters:
    ///   - address: libpq's connection string.
    ///   - applicationName: What `pg_stat_activity` shows.
    ///   - migrations: The schema's steps; only tests bring their own.
    /// - Throws: `PostgresError`, or `CatalogueError` for an unsuitable server or a newer schema.
    package convenience init(address: String, applicationName: String = "holdfast") throws {
        try self.init(address: address, applicationName: applicationName, migrations: Migrations.all)
    }

    package init(address: String, applicationName: String, migrations: [String]) throws {
        connection = try PostgresConnection(address, applicationName: applicationName)
        let version = connection.serverVersion
        guard PostgresPrograms.versions.contains(Int(version / 10000)) else {
            throw CatalogueError.unsuitable(
                "the catalogue's server is PostgreSQL \(version / 10000), and Holdfast needs "
                    + "\(PostgresPrograms.versions.lowerBound) to \(PostgresPrograms.versions.upperBound)"
            )
        }
        // A server of one's own may end idle sessions or slow statements, and a lock would go with them.
        let row = try connection.query(
            """
            SELECT pg_backend_pid() AS pid, set_config('search_path', 'holdfast', false),
                set_config('idle_session_timeout', '0', false),
                set_config('idle_in_transaction_session_timeout', '0', false),
                set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false),
                set_config('default_transaction_isolation', 'read committed', false)
            """
        ).single()
        // A pooler makes up the number in its greeting, so nothing more is asked of a server without one.
        if try row.int32("pid") != connection.greetedPID { try refuseSharedBackends(address) }
        try migrate(migrations)
    }

    package func close() { connection.close() }

    // MARK: - Schema

    private func migrate(_ migrations: [String]) throws {
        if try appliedMigrations(known: migrations.count) == migrations.count { return }
        try connection.lock(class: LockClass.schema, object: 0)
        try connection.transaction {
            try connection.script(
                """
                CREATE SCHEMA IF NOT EXISTS holdfast;
                CREATE TABLE IF NOT EXISTS holdfast.migrations (
                    number integer PRIMARY KEY,
                    sha256 bytea NOT NULL,
                    applied bigint NOT NULL
                );
                """
            )
        }
        let applied = try appliedMigrations(known: migrations.count)
        for (index, sql) in migrations.enumerated() {
            let number = index + 1
            if number <= applied {
                let same = try connection.query(
                    "SELECT sha256 = sha256($2::bytea) AS same FROM migrations WHERE number = $1",
                    [number, Array(sql.utf8)]
                )
                guard try same.first?.bool("same") == true else {
                    throw CatalogueError.alteredMigration(number)
                }
            } else {
                try connection.transaction {
                    try connection.script(sql)
                    try connection.execute(
                        "INSERT INTO migrations VALUES ($1, sha256($2::bytea), $3)",
                        [number, Array(sql.utf8), Time.now()]
                    )
                }
            }
        }
        try connection.unlock(class: LockClass.schema, object: 0)
    }

    /// The number of the newest migration that was applied; 0 when there is no catalogue here.
    private func appliedMigrations(known: Int) throws -> Int {
        let applied: Int
        do {
            applied = try connection.query("SELECT coalesce(max(number), 0) AS newest FROM migrations")
                .single()
                .int("newest")
        } catch {
            // undefined_table
            if error.sqlstate == "42P01" { return 0 }
            throw error
        }
        if applied > known { throw CatalogueError.newer(found: applied, known: known) }
        return applied
    }

    // MARK: - Poolers

    /// A pooler in transaction mode gives every transaction another backend: session locks stay behind with the
    /// one, and belong to whoever comes next. Called when there is a pooler; one in session mode passes.
    private func refuseSharedBackends(_ address: String) throws {
        let refusal = CatalogueError.unsuitable(
            "the address in `catalogue:` is a pooler that shares connections between its clients (pool_mode "
                + "transaction or statement), and locks cannot be held through it: use pool_mode session or "
                + "the server's own address"
        )
        let mark = randomHex(16)
        let ask = "SELECT pg_backend_pid() AS pid, current_setting('holdfast.mark', true) AS mark"
        let mine = try connection.query(
            "SELECT pg_backend_pid() AS pid, set_config('holdfast.mark', $1, false)",
            [mark]
        ).single().int32("pid")
        // Ours is idle now. A shared one is handed to one of these, each of which keeps its own busy; more than
        // this many idle connections a pooler seldom has.
        var others: [PostgresConnection] = []
        for _ in 0..<12 {
            let other = try PostgresConnection(address, applicationName: "holdfast pooler test")
            do {
                _ = try other.query("BEGIN", timeout: 5)
                let row = try other.query(ask, timeout: 5).single()
                if try row.int32("pid") == mine || row.text("mark") == mark { throw refusal }
            } catch let error as PostgresError {
                // One that makes us wait keeps ours for us; one that knows no transactions is in statement mode.
                if case .timeout = error { break }
                throw refusal
            }
            others.append(other)
            let row = try connection.query(ask).single()
            if try row.int32("pid") != mine || row.text("mark") != mark { throw refusal }
        }
    }
}

/// A new random UUID (RFC 9562, version 4).
package func newUUID() -> String {
    var bytes = randomBytes(16)
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    let digits = hex(bytes)
    var result = ""
    for (index, digit) in digits.enumerated() {
        if [8, 12, 16, 20].contains(index) { result.append("-") }
        result.append(digit)
    }
    return result
}
