import Glibc
import JSON
import Posix
import TestSupport
import Testing

@Suite("Restoring to another machine", .serialized)
struct RemoteRestoreTests {
    /// A joined host with one backup, and a folder for a machine that never joined.
    private final class Case {
        let joined: MainJobTests.Joined
        let machine: String

        init(_ own: SampleHost? = nil) throws {
            joined = try MainJobTests.Joined(own)
            _ = try joined.backup()
            machine = joined.installation.folder + "/new-machine"
        }

        func grant(_ more: String...) throws -> (address: String, token: String) {
            let outcome = try Outcome.of(
                [
                    Programs.coordinator, "--config", joined.installation.configuration, "restore", "lisbon",
                    "--remote", "--json",
                ] + more
            )
            guard outcome.status == 0, let json = outcome.json, let address = json["address"]?.string,
                let token = json["token"]?.string
            else { throw Unexpected(outcome) }
            return (address, token)
        }

        func fetch(_ grant: (address: String, token: String), to target: String, key: String? = nil) throws
            -> Outcome
        {
            try Outcome.of([
                Programs.agent, "--config", key ?? machine, "restore", grant.address, grant.token, "--to",
                target, "--json",
            ])
        }

        func requireSame(_ target: String) throws {
            let differences = try TreeListing(joined.sample.uploadLocation + "/upload").differences(
                to: TreeListing(target + "/immich/upload")
            )
            #expect(differences == [])
            #expect(!Files.exists(target + "/.holdfast-restore"))
        }
    }

    @Test func `a machine that never joined fetches what was granted, both roads bring the same`() throws {
        let it = try Case()
        let folder = it.joined.installation.folder
        let outcome = try it.fetch(it.grant(), to: folder + "/fetched")
        #expect(outcome.status == 0, "\(outcome) \(it.joined.installation.serveLog)")
        #expect(outcome.json?["whole"]?.bool == true)
        try it.requireSame(folder + "/fetched")
        let local = try it.joined.installation.coordinator("restore", "lisbon", "--to", folder + "/local")
        #expect(local.status == 0, "\(local)")
        let differences = try TreeListing(folder + "/fetched").differences(
            to: TreeListing(folder + "/local"),
            ignoring: [[]]
        )
        #expect(differences == [])

        // Only a part, and a path that is not there.
        let part = try it.fetch(it.grant("--include", "deployment"), to: folder + "/part")
        #expect(part.status == 0, "\(part)")
        #expect(try Directory.names(folder + "/part") == [Array("deployment".utf8)])
        #expect(throws: Unexpected.self) { try it.grant("--include", "nowhere") }
    }

    @Test func `a token is one machine's, and good again for the same one`() throws {
        let it = try Case()
        let folder = it.joined.installation.folder
        let grant = try it.grant()
        #expect(try it.fetch(grant, to: folder + "/one").status == 0)
        #expect(try it.fetch(grant, to: folder + "/two").status == 0)
        let other = try it.fetch(grant, to: folder + "/three", key: folder + "/other-machine")
        #expect(other.status == 1 && other.error.contains("another machine"), "\(other)")
        #expect(!Files.exists(folder + "/three"))

        // Neither kind of token does the other's work.
        let join = try Outcome.of([
            Programs.agent, "--config", it.machine, "join", grant.address, grant.token,
        ])
        #expect(join.status == 64 && join.error.contains("holdfast-agent restore"), "\(join)")
        let joining = try it.joined.installation.coordinator("host", "token", "lisbon", "--json")
        let token = try #require(joining.json?["token"]?.string)
        #expect(try it.fetch((grant.address, token), to: folder + "/four").status == 64)

        // A folder that holds something else stays as it is.
        try Files.makeDirectories(folder + "/used")
        try Files.writeAtomically([1], to: folder + "/used/photo.jpg")
        let used = try it.fetch(grant, to: folder + "/used")
        #expect(used.status == 1 && used.error.contains("is not empty"), "\(used)")
        #expect(try Directory.names(folder + "/used") == [Array("photo.jpg".utf8)])
        // No secret stands in the log.
        #expect(!it.joined.installation.serveLog.contains(grant.token))
        #expect(!it.joined.installation.serveLog.contains(String(grant.token.dropFirst(5).prefix(20))))
    }

    @Test func `an agent that is killed goes on with the same line, a session that is killed by itself`()
        throws
    {
        let it = try Case(SampleHost(photos: 60, photoSize: 2_000_000))
        let folder = it.joined.installation.folder
        let grant = try it.grant()
        let rounds = isLong ? 20 : 3
        var cut = 0
        for round in 0..<rounds {
            let target = folder + "/target-\(round)"
            for victim in ["agent", "session"] {
                let log = try FileDescriptor(open: folder + "/restore.log", O_WRONLY | O_CREAT | O_APPEND)
                let child = try ChildProcess(
                    [
                        Programs.agent, "--config", it.machine, "restore", grant.address, grant.token, "--to",
                        target,
                    ],
                    output: .descriptor(log.raw),
                    error: .descriptor(log.raw)
                )
                Time.sleep(seconds: Double.random(in: 0.05...0.8))
                let known = Set(it.joined.installation.sessions())
                if victim == "agent" {
                    kill(child.pid, SIGKILL)
                } else {
                    // The waiting agent's session goes too, and comes again.
                    for session in known { kill(session, SIGKILL) }
                }
                var status: Int32 = 0
                waitpid(child.pid, &status, 0)
                if victim == "agent", Files.exists(target + "/.holdfast-restore") { cut += 1 }
            }
            let outcome = try it.fetch(grant, to: target)
            // The second was whole already when it was not cut at all; then the folder is no restore's any more.
            if outcome.status != 0 {
                #expect(outcome.error.contains("is not empty"), "\(outcome)")
            }
            try it.requireSame(target)
            try Files.removeTree(target)
        }
        print("restores killed: \(rounds) rounds, \(cut) cut before their end")
    }

    @Test func `a token that has expired is refused, and says where the next one comes from`() throws {
        let it = try Case()
        let target = it.joined.installation.folder + "/late"
        let grant = try it.grant()
        try it.joined.installation.sql("UPDATE restore_grants SET expires = 1")
        let outcome = try it.fetch(grant, to: target)
        #expect(outcome.status == 1, "\(outcome)")
        #expect(
            outcome.error.contains("expired") && outcome.error.contains("restore lisbon --remote"),
            "\(outcome)"
        )
        #expect(!Files.exists(target))
        #expect(try it.fetch(it.grant(), to: target).status == 0)
    }

    @Test(arguments: [SIGINT, SIGTERM, SIGKILL])
    func `a restore on the NAS that is ended goes on with the same command`(signal: Int32) throws {
        let it = try Case(SampleHost(photos: 60, photoSize: 2_000_000))
        let folder = it.joined.installation.folder
        let command = [
            Programs.coordinator, "--config", it.joined.installation.configuration, "restore", "lisbon",
            "--to",
            folder + "/target",
        ]
        let log = try FileDescriptor(open: folder + "/restore.log", O_WRONLY | O_CREAT | O_APPEND)
        let child = try ChildProcess(command, output: .descriptor(log.raw), error: .descriptor(log.raw))
        // Its first files are on their way.
        _ = try eventually("the restore began") {
            Files.exists(folder + "/target/.holdfast-restore") ? true : nil
        }
        child.signal(signal)
        let end = try child.wait()
        let said = String(decoding: try Files.read(folder + "/restore.log"), as: UTF8.self)
        #expect(end == (signal == SIGKILL ? .signal(SIGKILL) : .exit(130)), "\(end) \(said)")
        if signal != SIGKILL { #expect(said.contains("the same command"), "\(said)") }
        #expect(Files.exists(folder + "/target/.holdfast-restore"))
        let outcome = try Outcome.of(command)
        #expect(outcome.status == 0, "\(outcome)")
        try it.requireSame(folder + "/target")
    }
}
