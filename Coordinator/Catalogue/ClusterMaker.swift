import Posix

/// Makes the files of a private cluster: initdb once, our configuration at every start.
struct ClusterMaker {
    let folder: String
    let owner: ClusterOwner
    let programs: PostgresPrograms

    /// Makes `data`, which is there whole or not at all: whatever interrupts this leaves a folder `making-…` that
    /// the next one removes.
    func make() throws {
        for name in try Directory.names(folder) where name.starts(with: "making-".utf8) {
            // An initdb that outlived its parent may still be writing there.
            try? Files.removeTree("\(folder)/\(String(decoding: name, as: UTF8.self))")
        }
        let making = "\(folder)/making-\(randomHex(8))"
        do {
            try check(
                run(
                    "initdb",
                    [
                        "-D", making, "-U", "holdfast", "-E", "UTF8", "--locale=C", "--data-checksums",
                        "--auth-local=peer", "--auth-host=reject",
                    ]
                ),
                "initdb"
            )
            try check(
                run("postgres", ["--single", "-D", making, "postgres"], input: "CREATE DATABASE holdfast\n"),
                "the first start of PostgreSQL"
            )
            try Files.rename(making, to: "\(folder)/data")
            try Files.syncDirectory(folder)
        } catch {
            try? Files.removeTree(making)
            throw error
        }
    }

    /// Writes the three files that say how the server runs and who may connect.
    func configure() throws {
        try write(
            "postgresql.conf",
            """
            # Holdfast writes this file at every start. ALTER SYSTEM, in postgresql.auto.conf, wins over it.
            listen_addresses = ''
            unix_socket_directories = '\(literal("\"\(folder)/socket\""))'
            unix_socket_permissions = 0700
            port = 5432
            max_connections = 100
            shared_buffers = 32MB
            # Not in /dev/shm: a container has little of it, and logind empties it when the owner logs out.
            dynamic_shared_memory_type = mmap
            max_parallel_workers_per_gather = 0
            max_logical_replication_workers = 0
            max_wal_size = 128MB
            min_wal_size = 32MB
            jit = off
            fsync = on
            synchronous_commit = on
            full_page_writes = on
            timezone = 'UTC'
            log_timezone = 'UTC'
            log_line_prefix = '%m [%p] %a '
            log_checkpoints = off
            # Statements stay out of the log.
            log_min_error_statement = panic

            """
        )
        try write(
            "pg_hba.conf",
            "# Written by Holdfast at every start.\nlocal all holdfast peer map=holdfast\n"
        )
        let name = owner.name.replacing("\"", with: "\"\"")
        try write(
            "pg_ident.conf",
            "# Written by Holdfast at every start.\nholdfast root holdfast\nholdfast \"\(name)\" holdfast\n"
        )
    }

    /// Runs one of PostgreSQL's programs as the owner of the cluster.
    func run(_ program: String, _ arguments: [String], input: String = "") throws
        -> (end: ChildProcess.End, output: [UInt8], error: [UInt8])
    {
        // PGDATA, PGOPTIONS and the like are the admin's, for other servers.
        var environment: [String: String?] = ["LC_ALL": "C"]
        for name in environmentVariables().keys where name.hasPrefix("PG") { environment[name] = .some(nil) }
        return try ChildProcess.run(
            owner.arguments(["\(programs.folder)/\(program)"] + arguments),
            environment: environment,
            input: Array(input.utf8)
        )
    }

    private func check(_ run: (end: ChildProcess.End, output: [UInt8], error: [UInt8]), _ what: String) throws
    {
        guard run.end == .exit(0) else {
            let printed = lastLines(of: nil, or: run.error)
            throw CatalogueError.cluster(
                "the catalogue's cluster cannot be made in \(folder): \(what): \(run.end)\(printed.isEmpty ? "" : ": ")\(printed)"
            )
        }
    }

    private func write(_ name: String, _ text: String) throws {
        let path = "\(folder)/data/\(name)"
        try Files.writeAtomically(Array(text.utf8), to: path)
        try owner.take(path)
    }

    /// The inside of a quoted value in postgresql.conf.
    private func literal(_ text: String) -> String {
        text.replacing("\\", with: "\\\\").replacing("'", with: "''")
    }
}
