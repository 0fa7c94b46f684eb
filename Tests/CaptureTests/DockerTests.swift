import Capture
import Glibc
import Immich
import JSON
import Posix
import TestSupport
import Testing
import Wire

/// Captures of a real PostgreSQL in a real Docker Engine.
@Suite("A capture through Docker", .serialized)
struct DockerTests {
    private static let shared = Result { try SampleHost(photos: 8, photoSize: 40_000, places: 3_000) }

    private let host: SampleHost
    private let folder: String
    private var settings = Settings()

    init() throws {
        host = try Self.shared.get()
        // DOCKER_HOST for these tests alone.
        folder = "/tmp/holdfast-docker-\(randomHex(4))"
        try Files.makeDirectories(folder)
        let script = "#!/bin/sh\nDOCKER_HOST='\(host.dockerHost)' exec docker \"$@\"\n"
        try Files.writeAtomically(Array(script.utf8), to: "\(folder)/docker", mode: 0o755)
        settings.docker = "\(folder)/docker"
    }

    private func capture(_ prepare: (FakeCoordinator) -> Void) throws -> (
        Conversation.Outcome, FakeCoordinator
    ) {
        let (ours, theirs) = SocketChannel.pair()
        let coordinator = FakeCoordinator(theirs)
        prepare(coordinator)
        let thread = try Posix.Thread("coordinator") {
            defer { theirs.cut() }
            try coordinator.run()
        }
        defer { try? Files.removeTree(folder) }
        let conversation = Conversation(FrameStream(ours), settings: settings, stop: StopFlag())
        let outcome = Result { try conversation.next(request: .full) }
        ours.cut()
        try? thread.join()
        return (try outcome.get(), coordinator)
    }

    @Test func `the dump is whole, the files are the library's, the deployment comes along`() throws {
        let (outcome, coordinator) = try capture { _ in }
        #expect(outcome.isCommitted, "\(outcome)")
        #expect(coordinator.problem == nil)
        var tail = DumpTail(.database)
        coordinator.dump.withUnsafeBytes { tail.add($0) }
        #expect(throws: Never.self) { try tail.check() }
        #expect(String(decoding: coordinator.dump, as: UTF8.self).contains("COPY public.geodata_places"))
        #expect(coordinator.dumpName.contains("-v3.1.0-pg15"))
        let photos = coordinator.files.filter { $0.key.hasPrefix("immich/") && $0.key.hasSuffix(".jpg") }
        #expect(photos.count >= 8)
        for (path, file) in photos {
            #expect(file.bytes == (try Files.read(host.uploadLocation + path.dropFirst(6))), "\(path)")
        }
        #expect(
            coordinator.files["deployment/docker-compose.yml"]?.bytes
                == (try Files.read("\(host.project)/docker-compose.yml"))
        )
        #expect(coordinator.files["deployment/.env"] != nil)
        let facts = try JSON(parsing: coordinator.files["deployment/facts.json"]?.bytes ?? [])
        #expect(facts["immich"]?["version"]?.string == "3.1.0")
        #expect(facts["postgres"]?["container"]?["name"]?.string == "immich_postgres")
    }

    /// Waits until nothing of a capture's dump is left: no process in the container, no backend in the server.
    private func nothingLingers() throws -> Bool {
        for _ in 0..<100 {
            let processes = try host.docker("top", "immich_postgres", "-eo", "pid,args")
            let backends = try host.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'holdfast run%'"
            )
            if !processes.contains("pg_dump") && !processes.contains("holdfast-dump") && backends == "0" {
                return true
            }
            Time.sleep(seconds: 0.1)
        }
        return false
    }

    /// Holds a lock that makes pg_dump wait while `body` runs.
    private func lockingATable<R>(_ body: () throws -> R) throws -> R {
        let input = try FileDescriptor.pipe()
        let (read, write) = (input.read, input.write)
        let child = try ChildProcess(
            ["\(folder)/docker", "exec", "-i", "immich_postgres", "psql", "-q", "-U", "postgres", "immich"],
            input: .descriptor(read),
            output: .nothing
        )
        close(read)
        let end = FileDescriptor(owning: write)
        try end.writeAll(Array("BEGIN; LOCK TABLE geodata_places IN ACCESS EXCLUSIVE MODE;\n".utf8))
        while try host.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted")
            == "0"
        {
            Time.sleep(seconds: 0.05)
        }
        let result = Result { try body() }
        try end.close()
        _ = try child.wait()
        return try result.get()
    }

    private func dumpWaits() throws {
        for _ in 0..<100 {
            let waiting = try host.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast run-1' AND wait_event_type = 'Lock'"
            )
            if waiting == "1" { return }
            Time.sleep(seconds: 0.1)
        }
        Issue.record("the dump does not wait for the lock")
    }

    @Test func `an abort leaves nothing of a waiting dump in container and server`() throws {
        let start = Time.monotonic()
        let outcome = try lockingATable {
            let (outcome, _) = try capture { coordinator in
                coordinator.abortsAt = { _ in
                    try? dumpWaits()
                    return true
                }
            }
            #expect(try nothingLingers())
            return outcome
        }
        guard case .aborted = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(Time.monotonic() - start < 20_000_000_000)
    }

    @Test func `no end of a dump makes the server throw out everybody`() throws {
        for round in 0..<8 {
            _ = try capture { coordinator in
                coordinator.abortsAt = { _ in
                    if round % 4 == 1 { killDockerExec() }
                    return round % 2 == 0
                }
            }
        }
        Time.sleep(seconds: 1)
        let logs = try ChildProcess.run(
            ["docker", "logs", "immich_postgres"],
            environment: ["DOCKER_HOST": host.dockerHost]
        )
        let said = String(decoding: logs.error + logs.output, as: UTF8.self)
        #expect(said.contains("ready to accept connections"))
        let crashes = said.split(separator: "\n").filter { $0.contains("terminated by signal") }
        #expect(crashes == [])
    }

    @Test func `a killed docker command fails the capture and leaves nothing either`() throws {
        let outcome = try lockingATable {
            let (outcome, coordinator) = try capture { coordinator in
                coordinator.abortsAt = { _ in
                    try? dumpWaits()
                    killDockerExec()
                    return false
                }
            }
            #expect(!coordinator.dumpEnded)
            #expect(try nothingLingers())
            return outcome
        }
        #expect(
            outcome.failure?.contains("the dump program failed (ended by signal 9)") == true,
            "\(outcome)"
        )
    }

    /// Kills the docker commands of this test that run a dump, as the out-of-memory killer might.
    private func killDockerExec() {
        for name in (try? Directory.names("/proc")) ?? [] {
            guard let pid = pid_t(String(decoding: name, as: UTF8.self)),
                let raw = try? Files.read("/proc/\(pid)/cmdline")
            else { continue }
            let line = String(decoding: raw.map { $0 == 0 ? 0x20 : $0 }, as: UTF8.self)
            let environment = String(decoding: (try? Files.read("/proc/\(pid)/environ")) ?? [], as: UTF8.self)
            if line.contains("holdfast-dump"), environment.contains(host.dockerHost) { kill(pid, SIGKILL) }
        }
    }

    @Test func `a paused container is a failure with its reason`() throws {
        try host.docker("pause", "immich_postgres")
        defer { _ = try? host.docker("unpause", "immich_postgres") }
        let (outcome, _) = try capture { _ in }
        #expect(outcome.failure?.contains("'immich_postgres' is not running (paused)") == true, "\(outcome)")
    }

    @Test func `a wrong database name says what the server said`() throws {
        var other = self
        other.settings.database = "nothing"
        let (outcome, _) = try other.capture { _ in }
        #expect(outcome.failure?.contains("database \"nothing\" does not exist") == true, "\(outcome)")
    }

    @Test func `passwords show in no list of processes`() throws {
        var seen = ""
        _ = try lockingATable {
            try capture { coordinator in
                coordinator.abortsAt = { _ in
                    try? dumpWaits()
                    seen = (try? host.docker("top", "immich_postgres", "-eo", "pid,args")) ?? ""
                    let own = try? ChildProcess.run(["ps", "-eo", "args"])
                    seen += String(decoding: own?.output ?? [], as: UTF8.self)
                    return true
                }
            }
        }
        #expect(seen.contains("holdfast-dump"))
        #expect(!seen.contains("PASSWORD=postgres"))
    }
}
