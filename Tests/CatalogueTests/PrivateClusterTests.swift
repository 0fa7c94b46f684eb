import Catalogue
import Glibc
import Posix
import Postgres
import TestSupport
import Testing

/// A state folder that goes with this value; whatever server is left in it is stopped.
private final class State: Sendable {
    let path: String

    /// - Parameter owner: Who gets the folder; needs root.
    init(_ name: String = "", owner: uid_t? = nil) throws {
        path = "/tmp/holdfast-state-\(randomHex(4))\(name)"
        try Files.makeDirectories(path, mode: 0o700)
        if let owner, chown(path, owner, owner) != 0 { throw SystemCallError("chown", errno: errno, path) }
    }

    /// A state folder with a cluster in it that was made once, for tests that need one and not its making.
    static func made() throws -> State {
        let state = try State()
        let copied = try ChildProcess.run(["cp", "-a", template.get() + "/.", state.path])
        #expect(copied.end == .exit(0))
        return state
    }

    private static let template = Result {
        // There it goes when the test process ends.
        let folder = "\(try PostgresServer.shared.get().folder)/template"
        try PrivateCluster.use(state: folder).end()
        return folder
    }

    deinit {
        if serverRuns { try? PrivateCluster.use(state: path).end() }
        try? Files.removeTree(path)
    }

    var serverRuns: Bool { Files.exists("\(path)/catalogue/data/postmaster.pid") }

    var serverPID: pid_t? {
        let text = (try? Files.read("\(path)/catalogue/data/postmaster.pid")) ?? []
        return pid_t(String(decoding: text.prefix { $0 != 0x0A }, as: UTF8.self))
    }
}

@Suite(.serialized) struct PrivateClusterTests {
    @Test func `the first use makes and starts the cluster, the last one stops it`() throws {
        let state = try State()
        let begin = Time.monotonic()
        let one = try PrivateCluster.use(state: state.path)
        let made = Time.monotonic()
        let two = try PrivateCluster.use(state: state.path)
        let again = Time.monotonic()
        let catalogue = try Catalogue(address: one.address)
        _ = try catalogue.addHost("porto")
        catalogue.close()
        try one.end()
        try one.end()
        #expect(state.serverRuns)
        let left = Time.monotonic()
        try two.end()
        let stopped = Time.monotonic()
        #expect(!state.serverRuns)
        let three = try PrivateCluster.use(state: state.path)
        let started = Time.monotonic()
        #expect(try Catalogue(address: three.address).hosts().map(\.name) == ["porto"])
        try three.end()
        let figures = [made - begin, again - made, stopped - left, started - stopped].map { $0 / 1_000_000 }
        print("made and started, joined, stopped, started: \(figures) ms")
    }

    @Test func `the server has a session of its own and nothing of ours open`() throws {
        let state = try State.made()
        // A descriptor that a library forgot to close on exec.
        let leaked = open("/etc/hostname", O_RDONLY)
        defer { close(leaked) }
        let use = try PrivateCluster.use(state: state.path)
        let pid = try #require(state.serverPID)
        #expect(getsid(pid) == pid || getsid(pid) != getsid(0))
        #expect(getpgid(pid) != getpgid(0))
        for name in try Directory.names("/proc/\(pid)/fd") {
            let target = try ChildProcess.run([
                "readlink", "/proc/\(pid)/fd/\(String(decoding: name, as: UTF8.self))",
            ])
            #expect(!String(decoding: target.output, as: UTF8.self).contains("hostname"))
        }
        try use.end()
    }

    @Test func `nothing but the socket is opened, checksums and durability are on`() throws {
        let state = try State.made()
        let use = try PrivateCluster.use(state: state.path)
        let connection = try PostgresConnection(use.address, applicationName: "test")
        for (name, value) in [
            ("listen_addresses", ""), ("data_checksums", "on"), ("fsync", "on"), ("synchronous_commit", "on"),
            ("full_page_writes", "on"), ("server_encoding", "UTF8"), ("unix_socket_permissions", "0700"),
        ] {
            #expect(
                try connection.query("SELECT current_setting($1) AS value", [name]).single().string("value")
                    == value
            )
        }
        #expect(try FileStatus(path: "\(state.path)/catalogue/socket").mode & 0o777 == 0o700)
        #expect(try FileStatus(path: "\(state.path)/catalogue").mode & 0o777 == 0o700)
        connection.close()
        try use.end()
    }

    @Test func `a killed user leaves the server to the next, who stops it`() async throws {
        let state = try State.made()
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = state.path as String] in
            let use = try PrivateCluster.use(state: path)
            _ = try Catalogue(address: use.address)
            kill(getpid(), SIGKILL)
        }
        #expect(state.serverRuns)
        let pid = state.serverPID
        let use = try PrivateCluster.use(state: state.path)
        #expect(state.serverPID == pid)
        try use.end()
        #expect(!state.serverRuns)
    }

    @Test func `a killed server starts again and keeps what was committed`() throws {
        let state = try State.made()
        let use = try PrivateCluster.use(state: state.path)
        let catalogue = try Catalogue(address: use.address)
        _ = try catalogue.addHost("porto")
        let pid = try #require(state.serverPID)
        kill(pid, SIGKILL)
        waitUntil { (try? catalogue.hosts()) == nil }
        #expect(throws: PostgresError.self) { try catalogue.hosts() }
        // The file that names the process is still there; now let the number belong to somebody else.
        try Files.writeAtomically(
            Array("\(getpid())\n/x\n1\n5432\n/x\n\n0 0\nready   \n".utf8),
            to: "\(state.path)/catalogue/data/postmaster.pid"
        )
        let next = try PrivateCluster.use(state: state.path)
        #expect(try Catalogue(address: next.address).hosts().map(\.name) == ["porto"])
        try next.end()
        try use.end()
        #expect(!state.serverRuns)
    }

    @Test func `an initdb that was cut off does not trip the next start`() async throws {
        let state = try State()
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = state.path as String] in
            let thread = try Thread("use") { _ = try PrivateCluster.use(state: path) }
            thread.detach()
            for _ in 0..<1000 {
                let names = (try? Directory.names("\(path)/catalogue")) ?? []
                if names.contains(where: { $0.starts(with: "making-".utf8) }) { break }
                Time.sleep(seconds: 0.005)
            }
            Time.sleep(seconds: 0.1)
            kill(getpid(), SIGKILL)
        }
        #expect(!Files.exists("\(state.path)/catalogue/data"))
        let use = try PrivateCluster.use(state: state.path)
        _ = try Catalogue(address: use.address)
        try use.end()
        let third = try PrivateCluster.use(state: state.path)
        try third.end()
        #expect(Files.exists("\(state.path)/catalogue/data/PG_VERSION"))
    }

    @Test func `many that come and go at once never find it down`() throws {
        let state = try State.made()
        let path = state.path
        try inParallel(6) { index in
            for _ in 0..<4 {
                let use = try PrivateCluster.use(state: path)
                let connection = try PostgresConnection(use.address, applicationName: "test \(index)")
                _ = try connection.query("SELECT 1")
                connection.close()
                try use.end()
            }
        }
        #expect(!state.serverRuns)
    }

    @Test func `missing programs are named with what to install`() throws {
        let state = try State()
        #expect(
            refusal {
                _ = try PrivateCluster.use(state: state.path, searching: ["/nonexistent", "/usr/bin"])
            }
                == "no PostgreSQL 14 to 18 is installed, which the catalogue needs: apt install postgresql, "
                + "or set `catalogue:` to a server of your own"
        )
        try Files.makeDirectories("\(state.path)/catalogue/data")
        try Files.writeAtomically(Array("17\n".utf8), to: "\(state.path)/catalogue/data/PG_VERSION")
        #expect(
            refusal { _ = try PrivateCluster.use(state: state.path, searching: ["/nonexistent"]) }
                == "the catalogue was made by PostgreSQL 17, which is not installed: apt install postgresql-17"
        )
        try Files.removeTree("\(state.path)/catalogue/data")
    }

    @Test func `programs of an unknown version are passed by`() throws {
        let state = try State()
        let fake = "\(state.path)/bin"
        try Files.makeDirectories(fake, mode: 0o755)
        for program in ["postgres", "initdb", "pg_ctl"] {
            try Files.writeAtomically(
                Array("#!/bin/sh\necho 'postgres (PostgreSQL) 13.4'\n".utf8),
                to: "\(fake)/\(program)",
                mode: 0o755
            )
        }
        #expect(refusal { _ = try PostgresPrograms.find(in: [fake]) }.contains("no PostgreSQL 14 to 18"))
        try Files.writeAtomically(
            Array("#!/bin/sh\necho 'postgres (PostgreSQL) 18beta1'\n".utf8),
            to: "\(fake)/postgres",
            mode: 0o755
        )
        #expect(try PostgresPrograms.find(in: [fake]) == PostgresPrograms(folder: fake, version: 18))
    }

    @Test func `a state folder whose socket would be too long is refused`() throws {
        let state = try State(String(repeating: "x", count: 70))
        #expect(refusal { _ = try PrivateCluster.use(state: state.path) }.contains("Linux allows 107"))
    }

    @Test func `a server that does not start says why`() throws {
        let state = try State.made()
        let use = try PrivateCluster.use(state: state.path)
        try use.end()
        try Files.writeAtomically(
            Array("shared_buffers = nonsense\n".utf8),
            to: "\(state.path)/catalogue/data/postgresql.auto.conf",
            mode: 0o644
        )
        let text = refusal { _ = try PrivateCluster.use(state: state.path) }
        #expect(text.contains("does not start") && text.contains("shared_buffers"))
    }

    @Test(.enabled(if: getuid() == 0, "needs root"))
    func `root and the owner of the state folder use one cluster, others none`() async throws {
        let nobody: uid_t = 65534
        let state = try State(owner: nobody)
        await #expect(processExitsWith: .success) { [path = state.path as String] in
            setgid(65534)
            setuid(65534)
            let use = try PrivateCluster.use(state: path)
            _ = try Catalogue(address: use.address).addHost("porto")
            // Ends without a word, so the server stays.
            exit(0)
        }
        let pid = try #require(state.serverPID)
        #expect(try FileStatus(path: "/proc/\(pid)").uid == nobody)
        let use = try PrivateCluster.use(state: state.path)
        #expect(try Catalogue(address: use.address).hosts().map(\.name) == ["porto"])
        try use.end()
        #expect(!state.serverRuns)
        // Started by root it runs as the owner too, who can use what root made.
        let second = try PrivateCluster.use(state: state.path)
        #expect(try FileStatus(path: "/proc/\(#require(state.serverPID))").uid == nobody)
        await #expect(processExitsWith: .success) { [path = state.path as String] in
            setgid(65534)
            setuid(65534)
            let use = try PrivateCluster.use(state: path)
            _ = try Catalogue(address: use.address).hosts()
            try use.end()
            exit(0)
        }
        await #expect(processExitsWith: .success) { [path = state.path as String] in
            setuid(1)
            var text = ""
            do { _ = try PrivateCluster.use(state: path) } catch { text = "\(error)" }
            exit(text.contains("belongs to nobody: run this as nobody or as root") ? 0 : 1)
        }
        try second.end()
    }

    @Test(.enabled(if: getuid() == 0, "needs root"))
    func `a folder that the server's user cannot pass through is named`() throws {
        let state = try State()
        let closed = "\(state.path)/closed"
        try Files.makeDirectories(closed, mode: 0o700)
        chown(closed, 1, 1)
        try Files.makeDirectories("\(closed)/state", mode: 0o700)
        chown("\(closed)/state", 0, 0)
        let text = refusal { _ = try PrivateCluster.use(state: "\(closed)/state") }
        #expect(text.contains("cannot pass through \(closed): chmod o+x \(closed)"))
    }
}
