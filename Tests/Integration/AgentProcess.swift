import Glibc
import Posix
import TestSupport

/// An agent of its own in a scratch folder, joined to an installation and running against a sample host.
final class AgentProcess {
    let folder: String
    private let dockerHost: String
    private let within: [String]
    private var process: pid_t?

    /// - Parameter within: A command that runs it elsewhere.
    init(_ sample: SampleHost, within: [String] = []) throws {
        self.within = within
        folder = "/tmp/holdfast-agent-\(randomHex(4))"
        dockerHost = sample.dockerHost
        try Files.makeDirectories(folder)
    }

    deinit {
        stop(SIGKILL)
        try? Files.removeTree(folder)
    }

    func command(_ arguments: String..., environment: [String: String?] = [:]) throws -> Outcome {
        try Outcome.of(
            within + [Programs.agent, "--config", folder] + arguments,
            environment: ["DOCKER_HOST": dockerHost].merging(environment) { $1 }
        )
    }

    /// The same without waiting for its end.
    func start(_ arguments: String..., environment: [String: String?] = [:]) throws -> ChildProcess {
        try ChildProcess(
            within + [Programs.agent, "--config", folder] + arguments,
            environment: ["DOCKER_HOST": dockerHost].merging(environment) { $1 },
            output: .nothing,
            error: .nothing
        )
    }

    func join(_ installation: Installation, token: String) throws {
        let outcome = try command("join", "127.0.0.1:\(installation.port)", token)
        guard outcome.status == 0 else { throw Unexpected(outcome) }
    }

    /// Starts `run`.
    func run(environment: [String: String?] = [:]) throws {
        let log = try FileDescriptor(open: folder + "/agent.log", O_WRONLY | O_CREAT | O_APPEND, mode: 0o644)
        let child = try ChildProcess(
            within + [Programs.agent, "--config", folder, "run"],
            environment: ["DOCKER_HOST": dockerHost].merging(environment) { $1 },
            output: .descriptor(log.raw),
            error: .descriptor(log.raw)
        )
        process = child.pid
    }

    var pid: pid_t? { process }

    var log: String { String(decoding: (try? Files.read(folder + "/agent.log")) ?? [], as: UTF8.self) }

    func stop(_ signal: Int32 = SIGTERM) {
        guard let pid = process else { return }
        process = nil
        kill(pid, signal)
        var status: Int32 = 0
        waitpid(pid, &status, 0)
    }

    /// Forgets what the agent knows apart from its identity, as a lost disk of a VM would.
    func settings() throws -> String {
        String(decoding: try Files.read(folder + "/agent.yaml"), as: UTF8.self)
    }
}
