import Catalogue
import Glibc
import Posix
import Postgres
import TestSupport
import Testing

/// A pgbouncer in front of the tests' server; it ends with this value.
private final class Pooler: Sendable {
    let folder: String
    private let lifeline: Int32
    private let shell: pid_t

    static let program = "/usr/sbin/pgbouncer"

    init(mode: String, settings: String = "") throws {
        let server = try PostgresServer.shared.get()
        folder = "/tmp/holdfast-pooler-\(randomHex(4))"
        try Files.makeDirectories(folder, mode: 0o755)
        let users = "\(folder)/users.txt"
        try Files.writeAtomically(Array("\"holdfast\" \"\"\n".utf8), to: users, mode: 0o644)
        let configuration = """
            [databases]
            * = host=\(server.folder) port=5432
            [pgbouncer]
            listen_addr =
            unix_socket_dir = \(folder)
            listen_port = 6432
            auth_type = trust
            auth_file = \(users)
            logfile = \(folder)/log
            pool_mode = \(mode)
            \(settings)

            """
        try Files.writeAtomically(Array(configuration.utf8), to: "\(folder)/ini", mode: 0o644)
        var asUser: [String] = []
        if getuid() == 0 {
            asUser = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
            _ = try ChildProcess.run(["chown", "postgres", folder])
        }
        let script = """
            \(asUser.joined(separator: " ")) \(Self.program) -q '\(folder)/ini' >/dev/null 2>&1 </dev/null &
            pooler=$!
            read -r nothing
            kill -TERM $pooler
            wait $pooler
            rm -rf '\(folder)'
            """
        let pipe = try FileDescriptor.pipe()
        let readEnd = FileDescriptor(owning: pipe.read)
        lifeline = pipe.write
        shell = try ChildProcess(["/bin/sh", "-c", script], input: .descriptor(readEnd.raw)).pid
        let address = "host=\(folder) port=6432 user=holdfast dbname=postgres"
        waitUntil { (try? PostgresConnection(address, applicationName: "test")) != nil }
    }

    deinit {
        close(lifeline)
        // A child that nobody waits for keeps Swift Testing from seeing the end of its exit tests.
        waitpid(shell, nil, 0)
    }

    /// The address of a database of the tests' server, through this pooler.
    func address(_ direct: String) throws -> String {
        let name = try #require(direct.split(separator: " ").last { $0.hasPrefix("dbname=") })
        return "host=\(folder) port=6432 user=holdfast \(name)"
    }
}

@Suite(
    .enabled(if: Files.exists(Pooler.program), "pgbouncer is not installed: apt install pgbouncer"),
    .serialized
)
struct PoolerTests {
    @Test(arguments: [
        ("transaction", ""), ("transaction", "server_round_robin = 1\nmin_pool_size = 5"),
        ("transaction", "default_pool_size = 1\nquery_wait_timeout = 3"), ("statement", ""),
    ])
    func `a pooler that shares connections is refused`(_ mode: String, _ settings: String) throws {
        let direct = try PostgresServer.shared.get().newDatabase()
        let pooler = try Pooler(mode: mode, settings: settings)
        let address = try pooler.address(direct)
        for _ in 0..<3 {
            #expect(
                refusal { _ = try Catalogue(address: address) }.contains("pooler that shares connections")
            )
        }
    }

    @Test(arguments: ["", "default_pool_size = 1"])
    func `a pooler in session mode serves`(_ settings: String) throws {
        let direct = try PostgresServer.shared.get().newDatabase()
        let pooler = try Pooler(mode: "session", settings: settings)
        let address = try pooler.address(direct)
        let catalogue = try Catalogue(address: address)
        let host = try catalogue.addHost("porto")
        catalogue.close()
        let lease = try HostLease(host, .capture, server: address)
        try lease.publish(snapshot("aa")) {}
        lease.release()
        let after = try Catalogue(address: direct)
        waitUntil { (try? after.holders().isEmpty) == true }
        // The pooler may keep the connection and its name; the lease is over all the same.
        #expect(try after.liveLeases().isEmpty)
        #expect(try after.snapshots(of: host).count == 1)
    }
}
