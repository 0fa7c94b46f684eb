import Glibc
import JSON
import Posix
import SSH
import Synchronization
import TestSupport
import Testing
import Wire

/// Secrets are planted wherever Holdfast is given some; then everything is done that it does, and things go wrong.
/// None of them may show in a log, in what the programs print, in an argument list, in the catalogue, or in what
/// the other side is told.
@Suite("Secrets", .serialized)
struct SecretTests {
    /// What was looked at already.
    private final class Looked: Sendable {
        private let marks = Mutex<[pid_t: String]>([:])
        /// Whether the process had another mark, or none, the last time.
        func isNew(_ pid: pid_t, _ mark: String) -> Bool {
            marks.withLock { $0.updateValue(mark, forKey: pid) } != mark
        }
    }

    private final class Watch: Sendable {
        private let found = Results<String>()
        private let looked = Looked()
        private let thread: Posix.Thread.Running
        let samples = Posix.Thread.Peak()

        /// Looks at every process's arguments, and at the environment of ours, again and again.
        init(_ secrets: Results<(name: String, value: String)>) throws {
            let found = self.found
            let samples = self.samples
            let looked = self.looked
            thread = try Posix.Thread.Running(every: 0.02) {
                let known = secrets.values
                for name in (try? Directory.names("/proc")) ?? [] {
                    guard let pid = pid_t(String(decoding: name, as: UTF8.self)), pid != getpid(),
                        let line = try? Files.read("/proc/\(pid)/cmdline"), !line.isEmpty
                    else { continue }
                    // Each process once, and again when there are more secrets or it became another program.
                    guard looked.isNew(pid, "\(line.count) \(known.count)") else { continue }
                    samples.note(samples.value + 1)
                    let ours = line.firstRange(of: Array("holdfast-".utf8)) != nil
                    let environment = ours ? (try? Files.read("/proc/\(pid)/environ")) ?? [] : []
                    for secret in known {
                        // The agent is given its token as an argument, by the line that a person pastes.
                        if secret.name == "join token" && line.firstRange(of: Array("join".utf8)) != nil {
                            continue
                        }
                        let needle = Array(secret.value.utf8)
                        if line.firstRange(of: needle) != nil || environment.firstRange(of: needle) != nil {
                            let text = String(
                                decoding: line.map { $0 == 0 ? 0x20 : $0 }.prefix(200),
                                as: UTF8.self
                            )
                            found.add("\(secret.name) in process \(text)")
                        }
                    }
                }
            }
        }

        func end() -> Set<String> {
            thread.end()
            return Set(found.values)
        }
    }

    @Test func `none of them shows where it has no business`() throws {
        let secrets = Results<(name: String, value: String)>()
        func plant(_ name: String) -> String {
            let value = "pLaNt\(randomHex(10))"
            secrets.add((name, value))
            return value
        }
        let sample = try SampleHost(photos: 3, photoSize: 20_000)
        let environment = sample.project + "/.env"
        var lines = String(decoding: try Files.read(environment), as: UTF8.self)
        lines += "\nSECRET_OF_ENV=\(plant("secret of .env"))\n"
        try Files.writeAtomically(Array(lines.utf8), to: environment)

        // A catalogue of one's own, with a password in its URL.
        let server = try PostgresServer.shared.get()
        let database = "secrets_\(randomHex(4))"
        let role = "role_\(randomHex(4))"
        let password = plant("catalogue's password")
        try server.psql("CREATE ROLE \(role) LOGIN SUPERUSER PASSWORD '\(password)'")
        try server.psql("CREATE DATABASE \(database) TEMPLATE template0")
        let url = "postgres://\(role):\(password)@/\(database)?host=\(server.folder)&port=5432"
        // Channels that refuse, and repeat what they were given.
        let web = try OutwardServer(.http)
        let mail = try OutwardServer(.smtp)
        let tokens = ["ntfy's token", "Discord's address", "the mail's password", "a ping", "a host's ping"]
            .map(plant)
        try web.answer(#"{"status": 404, "echo": true}"#)
        let place = "http://127.0.0.1:\(web.port)"
        let installation = try Installation(
            extra: """
                catalogue: \(url)
                alarms:
                  ntfy: { ntfy: { url: '\(place)/topic', token_file: \(try web.file("token", tokens[0])) } }
                  chat: { discord: { url_file: \(try web.file("url", "\(place)/\(tokens[1])")) } }
                  mail:
                    email: { server: 'smtp://127.0.0.1:\(mail.port)', from: a@example.org, to: b@example.org,
                      user: holdfast, password_file: \(try web.file("password", tokens[2])) }
                pings: { url: '\(place)/\(tokens[3])' }
                hosts: { lisbon: { ping: '\(place)/\(tokens[4])' } }
                """
        )
        let watch = try Watch(secrets)
        var said: [(from: String, text: String)] = []
        func note(_ name: String, _ outcome: Outcome) {
            said.append((name, outcome.output))
            said.append((name, outcome.error))
        }

        try installation.initialise()
        secrets.add(("recovery passphrase", installation.recoveryPassphrase))
        try installation.serve()
        let agent = try AgentProcess(sample)
        let token = try installation.addHost("lisbon")
        secrets.add(("join token", token))
        note("join", try agent.command("join", "127.0.0.1:\(installation.port)", token))
        let stranger = try AgentProcess(sample)
        // A second use, and a token with a wrong end.
        note("join again", try stranger.command("join", "127.0.0.1:\(installation.port)", token))
        note(
            "join wrong",
            try stranger.command("join", "127.0.0.1:\(installation.port)", String(token.dropLast(3)))
        )
        secrets.add(("repository's password", try installation.password("lisbon")))
        for (name, path) in [
            ("agent's key", agent.folder + "/agent.key"),
            ("host key", installation.folder + "/state/host_key"),
        ] {
            let text = String(decoding: try Files.read(path), as: UTF8.self)
            // From the middle of OpenSSH's format, where the private half begins.
            let body = Array(text.split(separator: "\n").dropFirst().dropLast().joined())
            secrets.add((name, String(body[(body.count / 2)...].prefix(40))))
        }

        note("alarm test", try installation.coordinator("alarm", "test"))
        note("config show", try installation.coordinator("config", "show", "lisbon"))
        note("doctor", try agent.command("doctor"))
        try agent.run()
        note("backup", try installation.coordinator("backup", "lisbon"))
        for command in ["status", "snapshots", "locks"] {
            note(command, try installation.coordinator(command))
        }
        note("host list", try installation.coordinator("host", "list", "--json"))
        note("host show", try installation.coordinator("host", "show", "lisbon", "--json"))
        note("check", try installation.coordinator("check", "lisbon", "--read-data"))
        note("ls", try installation.coordinator("ls", "lisbon", "deployment"))
        let target = installation.folder + "/restored"
        note("restore", try installation.coordinator("restore", "lisbon", "--to", target))
        let restored = try Files.read(target + "/deployment/.env")
        #expect(
            restored.firstRange(of: Array("SECRET_OF_ENV".utf8)) != nil,
            "the snapshot keeps .env on purpose"
        )

        // Failures of several kinds: the database, its password, the repository's password, the disk, the catalogue.
        let other = try AgentProcess(sample)
        note(
            "join other",
            try other.command("join", "127.0.0.1:\(installation.port)", installation.addHost("porto"))
        )
        let connection = "postgresql://immich:\(plant("database's password"))@127.0.0.1:1/immich"
        let settings =
            try other.settings() + "postgres: \(connection)\nupload_location: \(sample.uploadLocation)\n"
        try Files.writeAtomically(Array(settings.utf8), to: other.folder + "/agent.yaml")
        note("backup without database", try other.command("backup"))
        note("doctor without database", try other.command("doctor"))
        try Files.writeAtomically(Array((settings + "oops: [\n").utf8), to: other.folder + "/agent.yaml")
        note("a broken agent.yaml", try other.command("backup"))
        let passwordFile = installation.folder + "/state/passwords/lisbon"
        let right = try Files.read(passwordFile)
        try Files.writeAtomically(Array("\(plant("a wrong password"))\n".utf8), to: passwordFile)
        note("check with a wrong password", try installation.coordinator("check", "lisbon"))
        note("backup with a wrong password", try agent.command("backup"))
        try Files.writeAtomically(right, to: passwordFile)
        try installation.configure("keep_free: 100000 TB")
        note("backup without space", try installation.coordinator("backup", "lisbon"))
        let broken = installation.folder + "/broken.yaml"
        let lost = String(decoding: try Files.read(installation.configuration), as: UTF8.self)
            .split(separator: "\n").map {
                $0.hasPrefix("catalogue")
                    ? "catalogue: postgres://\(role):\(password)@127.0.0.1:1/x" : String($0)
            }
        try Files.writeAtomically(Array(lost.joined(separator: "\n").utf8), to: broken)
        note("no catalogue", try Outcome.of([Programs.coordinator, "--config", broken, "status"]))
        try Files.writeAtomically(Array("catalogue: \(password)\n".utf8), to: broken)
        note("a broken fleet.yaml", try Outcome.of([Programs.coordinator, "--config", broken, "status"]))

        // A message that no channel takes.
        try server.psql(
            """
            INSERT INTO holdfast.findings (kind, severity, message, opened, seen) VALUES ('test', 'critical', 'x', 1, 1);
            NOTIFY holdfast_findings
            """,
            database: database
        )
        let attempts = "SELECT count(DISTINCT alarm) FROM holdfast.alarm_messages WHERE attempts > 0"
        _ = try eventually("three attempts; \(installation.serveLog)") {
            try server.psql(attempts, database: database) == "3" ? true : nil
        }
        #expect(
            web.requests.contains { $0["path"]?.string?.contains(tokens[4]) == true },
            "the host's check was pinged"
        )
        note("alarm list", try installation.coordinator("alarm", "list", "--json"))

        // What a session and an agent say to whoever is at the other end.
        let listener = try ScriptedAgent(installation, host: "listener")
        try listener.connect()
        try Files.writeAtomically(
            Array("\(plant("another wrong password"))\n".utf8),
            to: installation.folder + "/state/passwords/listener"
        )
        try listener.stream.send(AgentMessage.request(.full))
        try listener.stream.flush()
        said.append(("message to an agent", "\(try listener.hear())"))
        listener.channel.close(seconds: 1)

        // No core of a process that knows something.
        for pid in installation.sessions() + [agent.pid].compactMap({ $0 }) {
            let limits = String(decoding: (try? Files.read("/proc/\(pid)/limits")) ?? [], as: UTF8.self)
            let core = limits.split(separator: "\n").first { $0.hasPrefix("Max core file size") } ?? ""
            #expect(core.split(separator: " ").contains("0"), "\(core)")
        }

        said.append(("serve.log", installation.serveLog))
        said.append(("agent.log", agent.log))
        installation.stop()
        agent.stop()
        let dump = try Outcome.of(["\(server.programs)/pg_dump", "-d", server.address(database)])
        #expect(dump.status == 0 && dump.output.contains("agent_keys"), "\(dump.error)")
        said.append(("the catalogue", dump.output))

        let shown = watch.end()
        #expect(shown == [])
        for (from, text) in said {
            for secret in secrets.values
            where text.contains(secret.value) || text.contains(hex(Array(secret.value.utf8))) {
                Issue.record("\(secret.name) in \(from)")
            }
        }
        print(
            "\(secrets.values.count) secrets looked for in \(said.count) texts of \(said.reduce(0) { $0 + $1.text.utf8.count }) bytes and "
                + "\(watch.samples.value) looks at a process"
        )
    }
}
