import Arguments
import Catalogue
import Fleet
import Glibc
import Posix
import Postgres
import SSH
import Synchronization
import Wire

/// `--idle N`: N agents that wait for work on one coordinator. They are threads of this process, each with a
/// connection of its own from an address of its own (127.…), and come again after a restart as real agents do.
struct IdleBench {
    private let programs: String
    private let folder: String
    private let count: Int

    init(_ settings: Settings, agents: Int) throws {
        programs = settings.programs
        folder = settings.folder ?? "/tmp/holdfast-benchmark-\(randomHex(4))"
        count = agents
        try Files.makeDirectories(folder, mode: 0o755)
    }

    private func coordinator(_ arguments: String...) -> [String] {
        ["\(programs)/holdfast-coordinator", "--config", "\(folder)/fleet.yaml"] + arguments
    }

    func execute() throws {
        Host.raiseDescriptorLimit()
        let port = try freePort()
        let fleet = """
            state: \(folder)/state
            repositories: \(folder)/repositories
            listen: 127.0.0.1:\(port)
            address: 127.0.0.1:\(port)
            defaults: { schedule: { full: never, database: never, prune: never } }

            """
        try Files.writeAtomically(Array(fleet.utf8), to: "\(folder)/fleet.yaml")
        defer { try? Files.removeTree(folder) }
        _ = try run(coordinator("init"))
        var service = try serve()
        defer { end(service) }
        say("adding \(count) hosts")
        // The first is whole, with a repository; the others only wait.
        _ = try run(coordinator("host", "add", "first"))
        let server = try CatalogueServer(FleetConfiguration(path: "\(folder)/fleet.yaml"))
        defer { try? server.end() }
        let catalogue = try server.open()
        defer { catalogue.close() }
        let hostKey = try KeyPair.load("\(folder)/state/host_key").publicKey.fingerprint
        let agents = Agents(port: port, hostKey: hostKey)
        for number in 0..<count {
            let host = number == 0 ? try catalogue.host(named: "first") : try catalogue.addHost("h\(number)")
            let key = try KeyPair.generate()
            _ = try catalogue.join(
                token: try catalogue.makeToken(for: host),
                publicKey: key.publicKey.blob,
                fingerprint: key.publicKey.fingerprint.text
            )
            try agents.add(key)
        }
        let postgres = try postmaster()
        let first = try agents.untilAllWait(count)
        put("\(count) agents connected in \(seconds(first)) s, all at once\n")
        Time.sleep(seconds: 3)

        let sessions = ProcessTree().members(below: [service]).subtracting([service])
        let tree = ProcessTree()
        let idle = tree.memory(below: [service])
        let alone = idle - sessions.reduce(0) { $0 + tree.memory(of: $1) }
        put(
            "memory: \(mebibytes(idle)) in all, \(kibibytes((idle - alone) / max(1, count))) for each agent, "
                + "\(mebibytes(alone)) `serve` itself, \(mebibytes(tree.memory(below: [postgres]))) PostgreSQL; "
                + "an agent's session: \(tree.makeup(of: sessions.first ?? service))\n"
        )
        let connections = try catalogue.connection.query(
            "SELECT count(*)::int AS n FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).single().int32("n")
        put("connections to PostgreSQL: \(connections)\n")
        let before = ProcessTree()
        Time.sleep(seconds: 30)
        let after = ProcessTree()
        let used = after.seconds(below: [service]) - before.seconds(below: [service])
        let database = after.seconds(below: [postgres]) - before.seconds(below: [postgres])
        put("processor time in 30 s of idleness: \(seconds(used)) s, PostgreSQL \(seconds(database)) s\n")

        var wakes: [Double] = []
        for _ in 0..<7 { wakes.append(try wake(agents)) }
        wakes.sort()
        put(
            "from `backup first` to the agent that hears of it: \(Int(wakes[3] * 1000)) ms (median of 7, "
                + "\(Int(wakes[0] * 1000)) to \(Int(wakes[6] * 1000)))\n"
        )

        end(service)
        try agents.untilNoneWaits()
        say("starting the coordinator again")
        let start = Time.monotonic()
        service = try serve()
        let listening = Double(Time.monotonic() - start) / 1e9
        let again = try agents.untilAllWait(count)
        put(
            "after a restart all are connected again in \(seconds(again + listening)) s; attempts that failed "
                + "meanwhile: \(agents.failures)\n"
        )
        agents.stop()
    }

    private func serve() throws -> Int32 {
        let log = try FileDescriptor(open: "\(folder)/serve.log", O_WRONLY | O_CREAT | O_TRUNC)
        let child = try ChildProcess(
            coordinator("serve"),
            output: .descriptor(log.raw),
            error: .descriptor(log.raw)
        )
        let pid = child.pid
        for _ in 0..<200 {
            let text = String(decoding: (try? Files.read("\(folder)/serve.log")) ?? [], as: UTF8.self)
            if text.contains("listening") { return pid }
            Time.sleep(seconds: 0.05)
        }
        throw CommandFailed(description: "serve did not start; see \(folder)/serve.log")
    }

    private func postmaster() throws -> Int32 {
        let text = try Files.read("\(folder)/state/catalogue/data/postmaster.pid")
        return Int32(String(decoding: text.prefix { $0 != 0x0A }, as: UTF8.self)) ?? 0
    }

    /// Seconds from the start of `backup` to the frame that the agent gets.
    private func wake(_ agents: Agents) throws -> Double {
        let heard = agents.heard
        let start = Time.monotonic()
        let child = try ChildProcess(coordinator("backup", "first"), output: .nothing, error: .nothing)
        while agents.heard == heard, Time.monotonic() - start < 20_000_000_000 { Time.sleep(seconds: 0.0005) }
        let end = Time.monotonic()
        _ = try child.wait()
        // Until it waits again.
        Time.sleep(seconds: 1)
        return Double(end - start) / 1e9
    }

    private func say(_ text: String) { put("\(text)\n", to: STDERR_FILENO) }
    private func seconds(_ value: Double) -> String { Human.fixed(value, 2) }
    private func mebibytes(_ bytes: Int) -> String { "\(Human.fixed(Double(bytes) / 1_048_576, 1)) MiB" }
    private func kibibytes(_ bytes: Int) -> String { "\(bytes >> 10) KiB" }
}

/// The agents, a thread each.
private final class Agents: Sendable {
    private let port: UInt16
    private let hostKey: Fingerprint
    private let waiting = Atomic(0)
    private let failed = Atomic(0)
    private let captures = Atomic(0)
    private let stopping = Atomic(false)
    private let numbers = Atomic(0)

    init(port: UInt16, hostKey: Fingerprint) {
        self.port = port
        self.hostKey = hostKey
    }

    var failures: Int { failed.load(ordering: .relaxed) }
    /// Captures that were begun.
    var heard: Int { captures.load(ordering: .sequentiallyConsistent) }
    func stop() { stopping.store(true, ordering: .relaxed) }

    /// Starts one, with the pauses of `holdfast-agent run`.
    func add(_ key: KeyPair) throws {
        let number = numbers.add(1, ordering: .relaxed).oldValue
        let thread = try Thread("agent") { [self] in
            var pause = 1.0
            while !stopping.load(ordering: .relaxed) {
                var greeted = false
                do { try serve(key, number) { greeted = true } } catch {
                    if greeted { pause = 1 } else { failed.add(1, ordering: .relaxed) }
                }
                Time.sleep(seconds: pause * (1 + Double(randomBytes(1)[0]) / 512))
                pause = min(60, pause * 2)
            }
        }
        thread.detach()
    }

    private func serve(_ key: KeyPair, _ number: Int, _ greeted: () -> Void) throws {
        let socket = try dial(from: number)
        let channel = try SSHClient.connect(
            socket,
            address: "the coordinator",
            expectedHostKey: hostKey,
            key: key,
            seconds: 30
        )
        let stream = FrameStream(channel)
        try stream.send(AgentMessage.hello(version: protocolVersion, program: "benchmark"))
        guard case .welcome = try stream.receiveFromCoordinator() else { return }
        try stream.send(AgentMessage.clock(Time.now()))
        greeted()
        waiting.add(1, ordering: .sequentiallyConsistent)
        defer { waiting.subtract(1, ordering: .sequentiallyConsistent) }
        while true {
            try stream.send(AgentMessage.wait)
            var answer = try stream.receiveFromCoordinator()
            while case .coordinators = answer { answer = try stream.receiveFromCoordinator() }
            switch answer {
            case .capture:
                try stream.send(AgentMessage.clock(Time.now()))
                captures.add(1, ordering: .sequentiallyConsistent)
                try stream.send(AgentMessage.failed(message: "this is a benchmark"))
            default: return
            }
        }
    }

    /// A connection from an address of its own, because the coordinator lets few strangers of one address in at once.
    private func dial(from number: Int) throws -> FileDescriptor {
        let raw = try retryingOnInterrupt("socket") {
            socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        }
        let result = FileDescriptor(owning: raw)
        func address(_ host: UInt32, _ port: UInt16) -> sockaddr_in {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = host.bigEndian
            return address
        }
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        var own = address(0x7F01_0001 + UInt32(number), 0)
        var theirs = address(0x7F00_0001, port)
        try withUnsafePointer(to: &own) { own in
            try own.withMemoryRebound(to: sockaddr.self, capacity: 1) { own in
                _ = try retryingOnInterrupt("bind") { bind(raw, own, size) }
            }
        }
        try withUnsafePointer(to: &theirs) { theirs in
            try theirs.withMemoryRebound(to: sockaddr.self, capacity: 1) { theirs in
                _ = try retryingOnInterrupt("connect") { connect(raw, theirs, size) }
            }
        }
        return result
    }

    /// Seconds until so many wait.
    func untilAllWait(_ count: Int) throws -> Double {
        let start = Time.monotonic()
        while waiting.load(ordering: .sequentiallyConsistent) < count {
            guard Time.monotonic() - start < 600_000_000_000 else {
                let now = waiting.load(ordering: .sequentiallyConsistent)
                throw CommandFailed(description: "after ten minutes \(now) of \(count) agents are connected")
            }
            Time.sleep(seconds: 0.01)
        }
        return Double(Time.monotonic() - start) / 1e9
    }

    func untilNoneWaits() throws {
        while waiting.load(ordering: .sequentiallyConsistent) > 0 { Time.sleep(seconds: 0.01) }
    }
}

extension ProcessTree {
    /// Bytes of one process, shared pages divided among those who share them.
    func memory(of pid: Int32) -> Int { field("Pss:", of: pid) }

    /// What a process's memory is made of.
    func makeup(of pid: Int32) -> String {
        let parts = [
            ("resident", "Rss:"), ("proportional", "Pss:"), ("private, written", "Private_Dirty:"),
            ("private, clean", "Private_Clean:"),
        ]
        return parts.map { "\($0.0) \(field($0.1, of: pid) >> 10) KiB" }.joined(separator: ", ")
    }

    private func field(_ name: String, of pid: Int32) -> Int {
        for line in ((try? Files.read("/proc/\(pid)/smaps_rollup")) ?? []).split(separator: 0x0A)
        where line.starts(with: name.utf8) {
            let number = line.split(separator: 0x20).compactMap { Int(String(decoding: $0, as: UTF8.self)) }
                .first
            return (number ?? 0) * 1024
        }
        return 0
    }
}
