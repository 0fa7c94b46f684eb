import Glibc
import Posix

/// Holdfast itself: a coordinator that serves for the NAS, and an agent per library for the VM.
final class Holdfast: Tool {
    let name = "holdfast"
    let note =
        "with the database's dump in every run; the agent stays connected, so a run opens no connection;"
        + " it works at idle priority, so only a machine with nothing else to do shows its wall time"

    private let settings: Settings
    private let server: SSHServer
    let folder: String
    private let log: String
    let database: SourceDatabase
    private let coordinator: Int32
    private var agents: [String: Int32] = [:]
    private var round = 0
    private var hosts: [String: String] = [:]

    init(_ settings: Settings, server: SSHServer, folder: String) throws {
        self.settings = settings
        self.server = server
        self.folder = folder
        log = "\(folder)/log"
        try Files.makeDirectories("\(folder)/nas", mode: 0o755)
        let database = try SourceDatabase(places: settings.places)
        self.database = database
        let port = try freePort()
        let fleet = """
            state: \(folder)/nas/state
            repositories: \(folder)/nas/repositories
            listen: 127.0.0.1:\(port)
            address: 127.0.0.1:\(port)
            defaults: { scope: everything, schedule: { full: never, database: never, prune: never } }

            """
        do {
            try Files.writeAtomically(Array(fleet.utf8), to: "\(folder)/nas/fleet.yaml")
            let program = [
                "\(settings.programs)/holdfast-coordinator", "--config", "\(folder)/nas/fleet.yaml",
            ]
            _ = try run(program + ["init"])
            coordinator = try background(program + ["serve"], log: "\(folder)/coordinator.log")
        } catch {
            database.stop()
            throw error
        }
    }

    private func command(_ arguments: String...) -> [String] {
        ["\(settings.programs)/holdfast-coordinator", "--config", "\(folder)/nas/fleet.yaml"] + arguments
    }

    private func onNAS(_ arguments: [String], agent: Int32? = nil) throws -> Measurement {
        let ends = Ends(vm: agent.map { [$0] } ?? [], nas: nasProcesses())
        return try measure(arguments, on: .nas, ends: ends, log: log)
    }

    /// The coordinator, and the private PostgreSQL's first process where that is not its child.
    func nasProcesses() -> [Int32] {
        guard let path = (try? run(["find", "\(folder)/nas/state", "-name", "postmaster.pid"])),
            let file = path.split(separator: "\n").first, let bytes = try? Files.read(String(file)),
            let pid = Int32(String(decoding: bytes.prefix { $0 != 0x0A }, as: UTF8.self))
        else { return [coordinator] }
        return [coordinator, pid]
    }

    /// The name of the host that has `library` in this round: a new host is a new, empty repository.
    private func host(_ library: Library) -> String { hosts[library.name] ?? library.name }

    func prepare(_ library: Library) throws {
        if let agent = agents[library.name] { end(agent) }
        round += 1
        let host = "\(library.name)-\(round)"
        hosts[library.name] = host
        let line = try run(command("host", "add", host))
        guard
            let words = line.split(separator: "\n").first(where: { $0.contains("holdfast-agent join") })?
                .split(separator: " "), words.count >= 4
        else { throw CommandFailed(description: "host add did not print the line to join: \(line)") }
        let configuration = "\(folder)/vm/\(host)"
        try Files.makeDirectories(configuration)
        let agent = ["\(settings.programs)/holdfast-agent", "--config", configuration]
        _ = try run(agent + ["join", String(words[words.count - 2]), String(words[words.count - 1])])
        let extra = "postgres: \(database.connection)\nupload_location: \(library.folder)\n"
        let file = try FileDescriptor(open: "\(configuration)/agent.yaml", O_WRONLY | O_APPEND)
        try file.writeAll(Array(extra.utf8))
        agents[library.name] = try background(agent + ["run"], log: "\(folder)/agent.log")
    }

    func open(_ library: Library) throws -> Measurement { try onNAS(command("snapshots", host(library))) }

    func backUp(_ library: Library) throws -> Measurement {
        try onNAS(command("backup", host(library)), agent: agents[library.name])
    }

    /// Backs up all of them at the same time.
    func backUpTogether(_ libraries: [Library]) throws -> Measurement {
        let hosts = libraries.map { host($0) }
        let script = "for host; do \"$0\" --config \"\(folder)/nas/fleet.yaml\" backup $host & done; wait"
        let ends = Ends(vm: libraries.compactMap { agents[$0.name] }, nas: nasProcesses())
        let program = "\(settings.programs)/holdfast-coordinator"
        return try measure(["sh", "-c", script, program] + hosts, on: .nas, ends: ends, log: log)
    }

    /// Fetched by the agent over SSH, which is what the others do too; and written on the NAS itself.
    func restore(_ library: Library, to folder: String) throws -> [(part: String, cost: Measurement)] {
        let place = "\(self.folder)/nas/restored-\(randomHex(4))"
        let host = host(library)
        let line = try run(command("restore", host, "--remote"))
        guard
            let words = line.split(separator: "\n").first(where: { $0.contains("holdfast-agent restore") })?
                .split(separator: " "), words.count >= 4
        else { throw CommandFailed(description: "restore --remote did not print its line: \(line)") }
        let fetched = try measure(
            [
                "\(settings.programs)/holdfast-agent", "--config", "\(self.folder)/vm/\(host)", "restore",
                String(words[2]), String(words[3]), "--to", folder,
            ],
            on: .vm,
            ends: Ends(nas: nasProcesses()),
            log: log
        )
        let made = try onNAS(command("restore", host, "--to", place))
        return [("", fetched), ("on the NAS itself", made)]
    }

    func stored(_ library: Library) -> Int { bytes(below: "\(folder)/nas/repositories/\(host(library))") }

    /// The dump by itself, as Immich makes it, without anybody who takes it; and what the programs cost at rest.
    func measureAlone(into report: inout Report) throws {
        let tree = ProcessTree()
        func mebibytes(_ roots: [Int32]) -> String {
            "\((Double(tree.memory(below: roots)) / 1_048_576).rounded()) MiB"
        }
        for agent in agents.values.prefix(1) {
            report.notes.append(
                "at rest: an agent \(mebibytes([agent])), the coordinator with its private PostgreSQL and"
                    + " \(agents.count) connected agents \(mebibytes(nasProcesses()))"
            )
        }
        let size = try database.dumpedBytes()
        for _ in 0..<settings.rounds {
            report.add("the dump alone", "pg_dump", try database.dump(log: log), bytes: size)
        }
    }

    func stop() {
        for agent in agents.values { end(agent) }
        end(coordinator)
        database.stop()
    }
}

private func background(_ arguments: [String], log: String) throws -> Int32 {
    let output = try FileDescriptor(open: log, O_WRONLY | O_CREAT | O_APPEND)
    return try ChildProcess(arguments, output: .descriptor(output.raw), error: .descriptor(output.raw)).pid
}
