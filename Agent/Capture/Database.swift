import Immich
import Posix

/// The way to Immich's database, and what it says of itself.
package struct Database: Sendable {
    /// Where PostgreSQL's programs run.
    enum Place: Sendable {
        case container(Docker, id: String)
        /// On this machine; PATH is searched behind these folders.
        case local
    }

    let place: Place
    /// How messages call it: `container 'immich_postgres'`.
    package let shown: String
    package let name: String
    package let user: String
    /// libpq's variables, PGPASSWORD among them; they travel in environments alone, never in arguments.
    let environment: [String: String]

    package struct Facts: Equatable, Sendable {
        /// `server_version`: `14.19 (Debian 14.19-1.pgdg120+1)`.
        package var postgres = ""
        /// From `version_history`, the newest.
        package var immich: String?
        /// Immich's own idea of its media location, a path in its container.
        package var mediaLocation: String?
        package var extensions: [String: String] = [:]
        /// Bytes on disk.
        package var bytes: UInt64?
        var holdsImmich = false

        package var postgresMajor: Int { Int(postgres.prefix { $0.isNumber }) ?? 0 }
    }

    /// The database in a container, entered through its Unix socket as the superuser of its image, else as Immich does.
    package init(in container: Container, docker: Docker, server: Container?, settings: Settings) {
        let own = container.environment
        let immich = server?.environment ?? [:]
        let url = immich["DB_URL"].flatMap { try? Connection(parsing: $0) }
        place = .container(docker, id: container.id)
        shown = "container '\(container.name)'"
        name =
            settings.database ?? immich["DB_DATABASE_NAME"] ?? url?.variables["PGDATABASE"] ?? own[
                "POSTGRES_DB"
            ]
            ?? "immich"
        var password: String?
        if let superuser = own["POSTGRES_USER"] {
            user = superuser
            password = own["POSTGRES_PASSWORD"]
        } else if own["POSTGRES_PASSWORD"] == nil, own["POSTGRES_PASSWORD_FILE"] == nil,
            let theirs = immich["DB_USERNAME"] ?? url?.variables["PGUSER"]
        {
            user = theirs
            password = immich["DB_PASSWORD"] ?? url?.variables["PGPASSWORD"]
        } else {
            user = "postgres"
            password = own["POSTGRES_PASSWORD"]
        }
        var variables = ["PGUSER": user, "PGDATABASE": name]
        if let password { variables["PGPASSWORD"] = password }
        environment = variables
    }

    /// The database behind a connection string.
    package init(connection: String) throws(CaptureFailure) {
        let parsed = try Connection(parsing: connection)
        place = .local
        name = parsed.variables["PGDATABASE"] ?? parsed.variables["PGUSER"] ?? "postgres"
        user = parsed.variables["PGUSER"] ?? "postgres"
        shown = "the server at \(parsed.variables["PGHOST"] ?? "the local socket")"
        environment = parsed.variables
    }

    /// Asks the server; the password, the network, a wrong name show here.
    package func facts() throws(CaptureFailure) -> Facts {
        let script = """
            SELECT 'postgres', current_setting('server_version');
            SELECT 'tables' WHERE to_regclass('public.asset') IS NOT NULL OR to_regclass('public.assets') IS NOT NULL;
            SELECT 'bytes', pg_database_size(current_database());
            SELECT 'extension', extname, extversion FROM pg_extension ORDER BY extname;
            SELECT to_regclass('public.version_history') IS NOT NULL AS versions,
                to_regclass('public.system_metadata') IS NOT NULL AS metadata \\gset
            \\if :versions
            SELECT 'immich', version FROM public.version_history ORDER BY "createdAt" DESC LIMIT 1;
            \\endif
            \\if :metadata
            SELECT 'media', value->>'location' FROM public.system_metadata WHERE key = 'MediaLocation';
            \\endif

            """
        let result = try query(script, session: "holdfast facts")
        var facts = Facts()
        for line in String(decoding: result.output, as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            switch (fields[0], fields.count) {
            case ("postgres", 2): facts.postgres = fields[1]
            case ("tables", 1): facts.holdsImmich = true
            case ("immich", 2): facts.immich = fields[1]
            case ("media", 2): facts.mediaLocation = fields[1].isEmpty ? nil : fields[1]
            case ("extension", 3): facts.extensions[fields[1]] = fields[2]
            case ("bytes", 2): facts.bytes = UInt64(fields[1])
            default: break
            }
        }
        guard facts.postgresMajor > 0 else {
            throw CaptureFailure(
                .dump,
                "cannot ask database '\(name)' in \(shown) as user '\(user)': \(redact(lastLines(result.error)))"
                    + (result.end == .exit(0) ? "" : " (\(result.end))")
            )
        }
        guard facts.holdsImmich else {
            throw CaptureFailure(
                .dump,
                "database '\(name)' in \(shown) holds no tables of Immich: name the right one with 'database:', "
                    + "'postgres_container:' or 'postgres:' in agent.yaml"
            )
        }
        return facts
    }

    /// Ends what a dump of this session left behind in the server, a backend that waits for a lock for one.
    func endSessions(named session: String) {
        let script = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = '\(session.filter { $0 != "'" && $0 != "\\" })' AND pid <> pg_backend_pid();

            """
        _ = try? query(script, session: "holdfast end", seconds: 10)
    }

    private func query(_ script: String, session: String, seconds: Int = 30) throws(CaptureFailure)
        -> Command.Result
    {
        let variables = environment.merging(
            ["PGAPPNAME": session, "PGOPTIONS": "-c statement_timeout=\(seconds * 1000)"]
        ) { $1 }
        let prepare = "\(Self.findPrograms)exec psql -XAtq -F \"$(printf '\\t')\""
        do {
            return try Command.run(
                arguments(["sh", "-c", prepare], variables),
                environment: variables,
                input: Array(script.utf8),
                seconds: seconds + 10
            )
        } catch { throw explain(error) }
    }

    func explain(_ error: any Error) -> CaptureFailure {
        if case .container(let docker, _) = place { return docker.explain(error) }
        if error is Command.TimedOut {
            return CaptureFailure(.dump, "\(shown) did not answer in time: is it up and reachable?")
        }
        return CaptureFailure(.dump, "cannot run PostgreSQL's programs: \(error)")
    }

    /// The whole command line that runs `inner` where the programs are; `variables` must be in its environment.
    func arguments(_ inner: [String], _ variables: [String: String]) -> [String] {
        guard case .container(let docker, let id) = place else { return inner }
        // `-e NAME` without a value takes it from the environment of the docker command, so nothing shows in
        // argument lists. Never `-t`: a terminal would mix stderr into the dump and change its lines.
        return [docker.command, "exec", "-i"] + variables.keys.sorted().flatMap { ["-e", $0] } + [id] + inner
    }

    /// A message without the password, should a program ever print it.
    func redact(_ text: String) -> String {
        guard let secret = environment["PGPASSWORD"], secret.utf8.count >= 4 else { return text }
        var result: [UInt8] = []
        var rest = Array(text.utf8)[...]
        let needle = Array(secret.utf8)
        while !rest.isEmpty {
            if rest.starts(with: needle) {
                result.append(contentsOf: "***".utf8)
                rest = rest.dropFirst(needle.count)
            } else if let byte = rest.popFirst() {
                result.append(byte)
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Shell: finds PostgreSQL's programs where PATH lacks them, the newest first, and the password where the image
    /// has it in a file.
    static let findPrograms = """
        found=
        for folder in /usr/lib/postgresql/*/bin /usr/local/pgsql/bin /opt/bitnami/postgresql/bin; do
            [ -d "$folder" ] && found=":$folder$found"
        done
        PATH="$PATH$found"
        if [ -z "${PGPASSWORD:-}" ] && [ -r "${POSTGRES_PASSWORD_FILE:-}" ]; then
            PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
            export PGPASSWORD
        fi

        """
}
