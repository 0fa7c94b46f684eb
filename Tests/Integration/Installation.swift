import Glibc
import JSON
import Posix
import TestSupport

/// A coordinator of its own in a scratch folder, started and stopped with the real program.
final class Installation {
    let folder: String
    let configuration: String
    let port: UInt16
    private(set) var recoveryPassphrase = ""
    private var service: pid_t?

    /// - Parameter extra: Lines added to fleet.yaml. Nothing is scheduled unless they say it.
    /// - Parameter prepare: Called with the folder before anything is in it.
    /// - Parameter address: Where it listens.
    /// - Parameter repositories: Where they lie; in the folder unless another coordinator has them.
    init(
        extra: String = "",
        address: String = "127.0.0.1",
        repositories: String? = nil,
        prepare: (String) throws -> Void = { _ in }
    ) throws {
        Host.ignoreBrokenPipes()
        folder = "/tmp/holdfast-it-\(randomHex(4))"
        try Files.makeDirectories(folder, mode: 0o755)
        try prepare(folder)
        configuration = folder + "/fleet.yaml"
        port = try TCPListener(address: address, port: 0).port
        let text = """
            state: \(folder)/state
            repositories: \(repositories ?? folder + "/repositories")
            listen: \(address):\(port)
            address: \(address):\(port)
            \(Self.unscheduled(extra))

            """
        try Files.writeAtomically(Array(text.utf8), to: configuration, mode: 0o644)
    }

    /// Lines of fleet.yaml with all schedules off, unless there is one in them.
    static func unscheduled(_ lines: String) -> String {
        if lines.contains("schedule:") { return lines }
        let never = "schedule: { full: never, database: never, prune: never }"
        guard let start = lines.firstRange(of: "defaults:") else { return "defaults: { \(never) }\n\(lines)" }
        let rest = lines[start.upperBound...].drop { $0 == " " }
        guard rest.first == "{" else { return lines }
        return lines[..<start.upperBound] + " { \(never), " + rest.dropFirst()
    }

    /// Adds a line to fleet.yaml, which a running `serve` takes up.
    func configure(_ line: String) throws {
        try configure { $0 + "\(line)\n" }
    }

    /// Changes fleet.yaml, which a running `serve` takes up.
    func configure(_ change: (String) -> String) throws {
        let text = change(String(decoding: try Files.read(configuration), as: UTF8.self))
        try Files.writeAtomically(Array(text.utf8), to: configuration, mode: 0o644)
        guard service != nil else { return }
        let outcome = try coordinator("reload")
        guard outcome.status == 0 else { throw Unexpected(outcome) }
    }

    deinit {
        stop()
        // Whoever still uses the private catalogue was killed by a test; the server goes with the folder.
        if let pid = try? Files.read(folder + "/state/catalogue/data/postmaster.pid"),
            let number = pid_t(String(decoding: pid.prefix { $0 != 0x0A }, as: UTF8.self))
        {
            kill(number, SIGQUIT)
            Time.sleep(seconds: 0.2)
        }
        try? Files.removeTree(folder)
    }

    func coordinator(_ arguments: String..., environment: [String: String?] = [:]) throws -> Outcome {
        try Outcome.of(
            [Programs.coordinator, "--config", configuration] + arguments,
            environment: environment
        )
    }

    /// Sets up the state folder.
    func initialise() throws {
        let outcome = try coordinator("init", "--json")
        guard outcome.status == 0, let passphrase = outcome.json?["recovery_passphrase"]?.string else {
            throw Unexpected(outcome)
        }
        recoveryPassphrase = passphrase
    }

    /// Starts `serve` and waits until it listens.
    ///
    /// - Parameter wrapper: A command that runs what follows it.
    func serve(environment: [String: String?] = [:], wrapper: [String] = [], seconds: Double = 30) throws {
        let log = try FileDescriptor(open: folder + "/serve.log", O_WRONLY | O_CREAT | O_APPEND, mode: 0o644)
        let child = try ChildProcess(
            wrapper + [Programs.coordinator, "--config", configuration, "serve"],
            environment: environment,
            output: .descriptor(log.raw),
            error: .descriptor(log.raw)
        )
        service = child.pid
        _ = try eventually("serve listens; its log:\n\(serveLog)", seconds: seconds) {
            serveLog.split(separator: "\n").last { $0.contains("listening") }
        }
    }

    /// The process of `serve`.
    var servePID: pid_t { service ?? 0 }

    /// The server of the private catalogue.
    var postmaster: pid_t {
        let file = (try? Files.read(folder + "/state/catalogue/data/postmaster.pid")) ?? []
        return pid_t(String(decoding: file.prefix { $0 != 0x0A }, as: UTF8.self)) ?? 0
    }

    /// Asks the private catalogue.
    @discardableResult
    func sql(_ statement: String) throws -> String {
        let outcome = try Outcome.of([
            "psql", "-X", "-q", "-A", "-t", "-h", folder + "/state/catalogue/socket", "-U", "holdfast", "-d",
            "holdfast", "-c", statement,
        ])
        guard outcome.status == 0 else { throw Unexpected(outcome) }
        return outcome.output
    }

    var serveLog: String {
        String(decoding: (try? Files.read(folder + "/serve.log")) ?? [], as: UTF8.self)
    }

    /// Ends `serve` and its sessions: politely, or as a power cut would.
    func stop(_ signal: Int32 = SIGTERM) {
        guard let pid = service else { return }
        service = nil
        if signal == SIGKILL {
            for session in sessions() { kill(session, SIGKILL) }
            kill(pid, SIGKILL)
        } else {
            kill(pid, signal)
        }
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        try? Files.remove(folder + "/serve.log")
    }

    /// The session processes of this coordinator.
    func sessions() -> [pid_t] { Self.sessions(of: folder) }

    static func sessions(of folder: String) -> [pid_t] {
        // What serve has accepted is what it gives to sessions.
        let configuration = folder + "/state/fleet.accepted.yaml"
        return ((try? Directory.names("/proc")) ?? []).compactMap { name in
            guard let pid = pid_t(String(decoding: name, as: UTF8.self)),
                let line = try? Files.read("/proc/\(pid)/cmdline")
            else { return nil }
            let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            return words.contains("session") && words.contains(configuration) ? pid : nil
        }
    }

    /// Adds a host and gives the token of its join line.
    func addHost(_ name: String) throws -> String {
        let outcome = try coordinator("host", "add", name, "--json")
        guard outcome.status == 0, let token = outcome.json?["token"]?.string else {
            throw Unexpected(outcome)
        }
        return token
    }

    func repository(_ host: String) -> String { folder + "/repositories/" + host }

    func password(_ host: String) throws -> String {
        let outcome = try coordinator("password", host, "--json")
        guard outcome.status == 0, let password = outcome.json?["password"]?.string else {
            throw Unexpected(outcome)
        }
        return password
    }
}

struct Unexpected: Error, CustomStringConvertible {
    let outcome: Outcome
    init(_ outcome: Outcome) { self.outcome = outcome }
    var description: String { outcome.description }
}
