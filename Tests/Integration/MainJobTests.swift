import Glibc
import JSON
import Posix
import TestSupport
import Testing

@Suite("The main job", .serialized)
struct MainJobTests {
    /// A sample host that is joined and whose agent waits for work.
    struct Joined {
        let sample: SampleHost
        let installation: Installation
        let agent: AgentProcess

        /// A host for tests that only read it, of whatever suite: starting one takes longer than backing it up, and
        /// suites run at the same time, so that nobody may add to it.
        static let sharedSample = Result { try SampleHost() }

        /// - Parameter sample: The host; the shared one unless the test changes it.
        init(_ own: SampleHost? = nil, extra: String = "", prepare: (String) throws -> Void = { _ in }) throws
        {
            sample = try own ?? Self.sharedSample.get()
            installation = try Installation(extra: extra, prepare: prepare)
            agent = try AgentProcess(sample)
            try installation.initialise()
            try installation.serve()
            try agent.join(installation, token: installation.addHost("lisbon"))
            try agent.run()
        }

        func backup() throws -> JSON {
            let outcome = try installation.coordinator("backup", "lisbon", "--json")
            guard outcome.status == 0, let json = outcome.json else {
                throw Unexpected(
                    Outcome(
                        status: outcome.status,
                        output: outcome.output,
                        error: outcome.error + installation.serveLog + agent.log
                    )
                )
            }
            return json
        }

        func restic(_ arguments: String...) throws -> Outcome {
            try Outcome.of(
                ["restic", "--no-cache", "-r", installation.repository("lisbon")] + arguments,
                environment: ["RESTIC_PASSWORD": try installation.password("lisbon")]
            )
        }
    }

    @Test func `a host is joined, backed up, listed, checked and restored whole`() throws {
        let joined = try Joined(extra: "defaults: {scope: everything}")
        let run = try joined.backup()
        #expect(run["state"]?.string == "done")
        let snapshot = try #require(run["snapshot"]?.string)

        let status = try #require(joined.installation.coordinator("status", "--json").json)
        #expect(status["hosts"]?.array?.first?["host"]?.string == "lisbon")
        #expect(status["hosts"]?.array?.first?["state"]?.string == "ok")
        let listed = try #require(joined.installation.coordinator("snapshots", "lisbon", "--json").json)
        #expect(listed["snapshots"]?.array?.first?["id"]?.string == snapshot)

        let check = try joined.installation.coordinator("check", "lisbon", "--read-data", "--json")
        #expect(check.status == 0, "\(check)")
        #expect(check.json?["verdict"]?.string == "passed")
        let restic = try joined.restic("check", "--read-data")
        #expect(restic.status == 0, "\(restic)")
        #expect(try joined.restic("snapshots", "--json").output.contains(snapshot))

        let target = joined.installation.folder + "/restored"
        let restored = try joined.installation.coordinator("restore", "lisbon", "--to", target, "--json")
        #expect(restored.status == 0, "\(restored)")
        let source = try TreeListing(joined.sample.uploadLocation)
        let copy = try TreeListing(target + "/immich")
        let dump = "extra: backups/immich-db-backup-"
        let differences = source.differences(to: copy).filter { !$0.hasPrefix(dump) }
        #expect(differences == [])

        try compareDump(joined, in: target)
    }

    /// Loads the restored dump into a fresh PostgreSQL: every table has as many rows as its source.
    private func compareDump(_ joined: Joined, in target: String) throws {
        let backups = try Directory.names(target + "/immich/backups").map {
            String(decoding: $0, as: UTF8.self)
        }
        let dump = try #require(backups.first { $0.hasPrefix("immich-db-backup-") && $0.hasSuffix(".sql") })
        let server = try PostgresServer.shared.get()
        if try server.psql("SELECT 1 FROM pg_roles WHERE rolname = 'postgres'").isEmpty {
            try server.psql("CREATE ROLE postgres SUPERUSER")
        }
        let database = "restored_\(randomHex(4))"
        try server.psql("CREATE DATABASE \(database) TEMPLATE template0")
        let text = try Files.read("\(target)/immich/backups/\(dump)")
        try server.psql(String(decoding: text, as: UTF8.self), database: database)
        for (table, rows) in try joined.sample.rowCounts() {
            let name = table.split(separator: ".").map { "\"\($0)\"" }.joined(separator: ".")
            let counted = try server.psql("SELECT count(*) FROM \(name)", database: database)
            #expect(counted == "\(rows)", "\(table)")
        }
    }

    @Test func `a second run without change reads no file, also after the agent was replaced`() throws {
        let joined = try Joined()
        let first = try joined.backup()
        #expect((first["files_sent"]?.int ?? 0) > 20)
        let second = try joined.backup()
        // What the agent makes itself (facts.json) is not read from a disk.
        #expect(second["files_read"]?.int == 0, "\(second.text())")

        joined.agent.stop()
        let agent = try AgentProcess(joined.sample)
        let token = try joined.installation.coordinator("host", "token", "lisbon", "--json")
        try agent.join(joined.installation, token: try #require(token.json?["token"]?.string))
        try agent.run()
        let third = try joined.backup()
        #expect(third["files_read"]?.int == 0, "\(third.text())")
        // The key of the machine that was replaced is worth nothing any more.
        let old = try joined.agent.command("backup")
        #expect(old.status != 0 && old.error.contains("join"), "\(old)")
    }

    @Test func `new photos are all that a later run sends`() throws {
        let joined = try Joined(SampleHost())
        _ = try joined.backup()
        try joined.sample.addPhotos(3, seed: 77)
        let run = try joined.backup()
        let sent = try #require(run["files_sent"]?.int)
        #expect(sent >= 3 && sent < 20, "\(run.text())")
        #expect(try joined.restic("check", "--read-data").status == 0)
    }

    @Test func `scope originals leaves out what Immich makes again, but not the markers`() throws {
        let joined = try Joined()
        _ = try joined.backup()
        let target = joined.installation.folder + "/restored"
        #expect(try joined.installation.coordinator("restore", "lisbon", "--to", target).status == 0)
        #expect(try Directory.names(target + "/immich/thumbs") == [Array(".immich".utf8)])
        let differences = try TreeListing(joined.sample.uploadLocation + "/upload").differences(
            to: TreeListing(target + "/immich/upload")
        )
        #expect(differences == [])
    }
}
