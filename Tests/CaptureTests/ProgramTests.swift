import Capture
import Glibc
import Posix
import SSH
import Testing
import Wire

/// `holdfast-agent` as it is built, against an SSH server of the test's own.
@Suite("The agent's program")
struct ProgramTests {
    @Test func `mistakes on the command line are status 64 and never repeat a token`() throws {
        for arguments in [[], ["nothing"], ["run", "x"], ["doctor", "--jsno"], ["join", "nas"]] {
            let result = try agent(arguments)
            #expect(result.status == 64, "\(arguments)")
            #expect(result.error.contains("holdfast-agent join ADDRESS TOKEN"))
        }
        let cut = try agent(["join", "nas.lan", "hf1.abcdef"])
        #expect(cut.status == 64)
        #expect(cut.error.contains("the token is not whole") && !cut.error.contains("abcdef"))
        #expect(try agent(["--version"]).output.hasPrefix("holdfast-agent "))
        #expect(try agent(["--help"]).status == 0)
    }

    @Test func `without joining, run and backup are status 78 and say what to do`() throws {
        for command in ["run", "backup"] {
            let result = try agent(["--config", "/tmp/holdfast-none", command])
            #expect(result.status == 78)
            #expect(result.error.contains("holdfast-coordinator host add"))
        }
    }

    @Test func `a mistake in agent.yaml is named with its line`() throws {
        let host = try FakeHost()
        try Files.writeAtomically(
            Array("coordinator: nas:2222\nhost_key: x\n".utf8),
            to: "\(host.folder)/agent.yaml"
        )
        let result = try agent(["--config", host.folder, "run"])
        #expect(result.status == 78)
        #expect(result.error.contains("agent.yaml:2"), "\(result.error)")
    }

    @Test func `join, backup, and the exit statuses that tell how it went`() throws {
        let host = try FakeHost()
        try host.write("photo", "upload/u/1.jpg")
        let server = try AgentServer()
        try #require(try join(host, server) == 0)
        for name in ["agent.yaml", "agent.key"] {
            #expect(try FileStatus(path: "\(host.folder)/\(name)").mode & 0o7777 == 0o600)
        }
        server.work = .capture { _ in }
        let done = try agent(["--config", host.folder, "backup"])
        #expect(done.status == 0, "\(done.error)")
        #expect(done.output.hasPrefix("snapshot abc123 in "))
        #expect(server.last?.files["immich/upload/u/1.jpg"]?.bytes == Array("photo".utf8))

        server.work = .busy("held by backup since 10:00")
        let busy = try agent(["--config", host.folder, "backup"])
        #expect(busy.status == 11)
        #expect(busy.error.contains("held by backup since 10:00"))

        server.work = .capture { _ in }
        try host.dump(FakeHost.wholeDump, then: "echo 'pg_dump: no' >&2; exit 1")
        #expect(try agent(["--config", host.folder, "backup"]).status == 21)
        try host.dump(FakeHost.wholeDump)

        server.work = .capture { coordinator in
            coordinator.want = { path, _ in
                // Turned into a folder: opening it works, reading does not.
                path == "immich/upload/u/1.jpg" ? 0 : nil
            }
            coordinator.abortsAt = { $0 > 2 }
        }
        let aborted = try agent(["--config", host.folder, "backup"])
        #expect(aborted.status == 1)
        #expect(aborted.error.contains("the coordinator ended the capture: stop it"))

        server.stop()
        let gone = try agent(["--config", host.folder, "backup"])
        #expect(gone.status == 20)
        #expect(gone.error.contains("connection refused"), "\(gone.error)")
    }

    @Test func `a token that is refused leaves nothing behind, and joining again keeps what a person wrote`()
        throws
    {
        let host = try FakeHost()
        let server = try AgentServer()
        server.refusesTokens = true
        #expect(try join(host, server) == 1)
        #expect(!Files.exists("\(host.folder)/agent.key.new"))
        #expect(!Files.exists("\(host.folder)/agent.key"))
        server.refusesTokens = false
        #expect(try join(host, server) == 0)
        let before = try Files.read("\(host.folder)/agent.key")
        #expect(try join(host, server) == 0)
        #expect(try Files.read("\(host.folder)/agent.key") != before)
        let text = String(decoding: try Files.read("\(host.folder)/agent.yaml"), as: UTF8.self)
        #expect(text.contains("docker: \(host.folder)/bin/docker\n"))
        #expect(text.components("coordinators:") == 1)
    }

    @Test func `another host key than the token's is refused`() throws {
        let host = try FakeHost()
        let server = try AgentServer()
        let other = try KeyPair.generate().publicKey.fingerprint
        let token = try #require(JoinToken(secret: randomBytes(16), fingerprint: other.bytes))
        let result = try agent(["--config", host.folder, "join", "127.0.0.1:\(server.port)", token.text])
        #expect(result.status == 20)
        #expect(result.error.contains("is not the coordinator"), "\(result.error)")
    }

    @Test func `waiting costs under 20 MB, and SIGTERM ends it at once`() throws {
        let host = try FakeHost()
        let server = try AgentServer()
        try #require(try join(host, server) == 0)
        server.work = .wait
        let child = try ChildProcess([program, "--config", host.folder, "run"], error: .nothing)
        try server.untilWaiting()
        Time.sleep(seconds: 0.3)
        #expect(kilobytes(of: child.pid, "VmRSS:") < 20_000)
        let start = Time.monotonic()
        child.signal(SIGTERM)
        #expect(try child.wait() == .exit(0))
        #expect(Time.monotonic() - start < 2_000_000_000)
    }

    @Test func `a folder of 100,000 files costs the agent little memory`() throws {
        let host = try FakeHost()
        let folder = "\(host.media)/upload/wide"
        try Files.makeDirectories(folder)
        let made = try ChildProcess.run([
            "sh", "-c",
            "cd '\(folder)' && seq -f 'PXL_20261121_%06.0f_with-a-long-name.jpg' 100000 | xargs touch",
        ])
        try #require(made.end == .exit(0))
        let server = try AgentServer()
        try #require(try join(host, server) == 0)
        let pid = Found<pid_t>()
        let peak = Found<Int>()
        server.work = .capture { coordinator in
            var agent: pid_t?
            var seen = 0
            coordinator.want = { _, _ in
                seen += 1
                agent = agent ?? pid.take()
                if seen > 99_000, seen % 100 == 0, let agent { peak.put(kilobytes(of: agent, "VmHWM:")) }
                return seen % 50 == 0 ? 0 : nil
            }
        }
        let child = try ChildProcess(
            [program, "--config", host.folder, "backup"],
            output: .nothing,
            error: .nothing
        )
        pid.put(child.pid)
        #expect(try child.wait() == .exit(0))
        #expect((server.last?.paths.count ?? 0) > 100_000)
        #expect((server.last?.files.count ?? 0) > 1_900)
        #expect((peak.take() ?? .max) < 50_000)
        _ = try ChildProcess.run(["rm", "-rf", folder])
    }

    @Test func `SIGTERM during a capture ends it between two frames and tells the coordinator`() throws {
        let host = try FakeHost()
        try host.write(String(repeating: "x", count: 40_000_000), "upload/large.mov")
        let server = try AgentServer()
        try #require(try join(host, server) == 0)
        let pid = Found<pid_t>()
        server.work = .capture { coordinator in
            coordinator.keepsBytes = false
            coordinator.onData = { path in
                if path.hasSuffix("large.mov"), let found = pid.take() { kill(found, SIGTERM) }
            }
        }
        let child = try ChildProcess([program, "--config", host.folder, "run"], error: .nothing)
        pid.put(child.pid)
        #expect(try child.wait() == .exit(0))
        server.stop()
        #expect(server.last?.failure == "the agent was stopped")
    }

    @Test func `an agent whose coordinator is away tries again until it is there`() throws {
        let host = try FakeHost()
        let first = try AgentServer()
        try #require(try join(host, first) == 0)
        first.stop()
        let child = try ChildProcess([program, "--config", host.folder, "run"], error: .nothing)
        Time.sleep(seconds: 0.5)
        let second = try AgentServer(port: first.port, hostKey: first.hostKey)
        second.work = .capture { _ in }
        for _ in 0..<100 where !second.hasCommitted { Time.sleep(seconds: 0.1) }
        #expect(second.hasCommitted)
        child.signal(SIGTERM)
        _ = try child.wait()
    }

    @Test
    func
        `an agent goes to another coordinator of the fleet when its own is gone, and back to the last that worked`()
        throws
    {
        let host = try FakeHost()
        let first = try AgentServer()
        let second = try AgentServer()
        func place(_ server: AgentServer) -> CoordinatorPlace {
            CoordinatorPlace(
                address: "127.0.0.1:\(server.port)",
                hostKey: server.hostKey.publicKey.fingerprint.text
            )
        }
        func list() throws -> String {
            let text = String(decoding: try Files.read("\(host.folder)/agent.yaml"), as: UTF8.self)
            #expect(text.components("coordinators:") == 1 && text.contains("docker: "))
            return text.split(separator: "\n").first { $0.hasPrefix("coordinators:") }.map(String.init) ?? ""
        }
        func entry(_ server: AgentServer) -> String { "\(place(server).address) \(place(server).hostKey)" }
        try #require(try join(host, first) == 0)
        #expect(try list() == "coordinators: [\"\(entry(first))\"]")
        // What it is told counts from then on; what is no address is left out.
        let nonsense = CoordinatorPlace(address: "::: no address", hostKey: place(second).hostKey)
        first.coordinators = [nonsense, place(second), place(first)]
        first.work = .capture { _ in }
        #expect(try agent(["--config", host.folder, "backup"]).status == 0)
        #expect(try list() == "coordinators: [\"\(entry(first))\", \"\(entry(second))\"]")

        second.work = .capture { $0.kind = .database }
        first.stop()
        let doctor = try agent(["--config", host.folder, "doctor"]).output
        #expect(
            doctor.contains("note     coordinator: ") && doctor.contains("connection refused"),
            "\(doctor)"
        )
        #expect(
            doctor.contains("ok       coordinator: \(place(second).address) accepts this machine"),
            "\(doctor)"
        )
        let moved = try agent(["--config", host.folder, "backup", "--database-only"])
        #expect(moved.status == 0, "\(moved)")
        #expect(second.last?.paths.contains("immich/upload") == false)
        // The one that told is no longer of the fleet: what nobody shows a key for any more goes.
        second.coordinators = [place(second)]
        second.work = .capture { _ in }
        #expect(try agent(["--config", host.folder, "backup"]).status == 0)
        #expect(try list() == "coordinators: [\"\(entry(second))\"]")
        second.stop()

        // A file of a person, in another shape, and of an agent that knew one.
        let block = "coordinators:\n  - \(entry(first))\n  - \(entry(second))\nhost: test\ndocker: none\n"
        try Files.writeAtomically(Array(block.utf8), to: "\(host.folder)/agent.yaml")
        let gone = try agent(["--config", host.folder, "backup"])
        #expect(gone.status == 20)
        #expect(gone.error.contains("none of the 2 coordinators can be reached"), "\(gone.error)")
        let third = try AgentServer()
        try #require(try join(host, third) == 0)
        let text = String(decoding: try Files.read("\(host.folder)/agent.yaml"), as: UTF8.self)
        #expect(text == "coordinators: [\"\(entry(third))\"]\nhost: \"test\"\ndocker: none\n")
        let old = "coordinator: \(place(third).address)\nhost_key: \(place(third).hostKey)\n"
        try Files.writeAtomically(Array(old.utf8), to: "\(host.folder)/agent.yaml")
        third.work = .busy("not now")
        #expect(try agent(["--config", host.folder, "backup"]).status == 11)
        for wrong in [
            "coordinators: [nas]\n",
            "coordinators: [\"\(entry(first))\"]\nhost_key: \(place(first).hostKey)\n",
        ] {
            try Files.writeAtomically(Array(wrong.utf8), to: "\(host.folder)/agent.yaml")
            let refused = try agent(["--config", host.folder, "backup"])
            #expect(refused.status == 78 && refused.error.contains("agent.yaml:1"), "\(refused.error)")
        }
    }

    // MARK: Helpers

    private var program: String {
        let own = (try? Files.linkTarget(at: AT_FDCWD, Array("/proc/self/exe".utf8))) ?? []
        return Files.parent(String(decoding: own, as: UTF8.self)) + "/holdfast-agent"
    }

    private func agent(_ arguments: [String]) throws -> (status: Int32, output: String, error: String) {
        let result = try ChildProcess.run([program] + arguments)
        guard case .exit(let status) = result.end else { return (-1, "", "\(result.end)") }
        return (
            status, String(decoding: result.output, as: UTF8.self),
            String(decoding: result.error, as: UTF8.self)
        )
    }

    private func join(_ host: FakeHost, _ server: AgentServer) throws -> Int32 {
        if !Files.exists("\(host.folder)/agent.yaml") {
            let text = "# Ours.\ndocker: \(host.folder)/bin/docker\n"
            try Files.writeAtomically(Array(text.utf8), to: "\(host.folder)/agent.yaml")
        }
        let token = try #require(
            JoinToken(secret: randomBytes(16), fingerprint: server.hostKey.publicKey.fingerprint.bytes)
        )
        return try agent(["--config", host.folder, "join", "127.0.0.1:\(server.port)", token.text]).status
    }
}

/// A line of /proc/PID/status: `VmRSS:`, what is resident, or `VmHWM:`, the most that ever was.
private func kilobytes(of pid: pid_t, _ name: String) -> Int {
    let status = String(decoding: (try? Files.read("/proc/\(pid)/status")) ?? [], as: UTF8.self)
    let line = status.split(separator: "\n").first { $0.hasPrefix(name) } ?? ""
    return Int(line.filter(\.isNumber)) ?? .max
}

extension String {
    /// How often `part` stands in it at the beginning of a line.
    fileprivate func components(_ part: String) -> Int { split(separator: "\n").count { $0.hasPrefix(part) } }
}
