import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

@Suite("A catalogue that is lost", .serialized)
struct CatalogueRebuildTests {
    /// Everything that a rebuild must bring back, a line for each row, without the numbers that the catalogue makes up
    /// itself and without what is said to be lost: runs, events, tokens, leases, revoked keys, the last contact.
    private static let dump = """
        SELECT 'host ' || name || ' ' || added || ' ' || coalesce(removed::text, '-') || ' ' || epoch FROM holdfast.hosts
        UNION ALL SELECT 'key ' || h.name || ' ' || fingerprint || ' ' || encode(public_key, 'hex') || ' ' || k.added
            FROM holdfast.agent_keys k JOIN holdfast.hosts h ON h.id = host_id WHERE revoked IS NULL
        UNION ALL SELECT concat_ws(' ', 'snapshot', h.name, s.id, time, tree, s.epoch, scope, dump_name, dump_bytes,
            immich_version, postgres_version, files, bytes, stored_bytes, incomplete, state)
            FROM holdfast.snapshots s JOIN holdfast.hosts h ON h.id = host_id
        UNION ALL SELECT concat_ws(' ', 'pin', h.name, snapshot, why, by_whom, time)
            FROM holdfast.pins JOIN holdfast.hosts h ON h.id = host_id
        UNION ALL SELECT concat_ws(' ', 'proof', h.name, snapshot, level, time, figures)
            FROM holdfast.proofs JOIN holdfast.hosts h ON h.id = host_id
        ORDER BY 1
        """

    /// The rows while `serve` keeps the private cluster up.
    private func rows(_ installation: Installation, _ sql: String = dump) throws -> [String] {
        let socket = installation.folder + "/state/catalogue/socket"
        let programs = try PostgresServer.shared.get().programs
        let run = try Outcome.of(
            [
                "\(programs)/psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql,
                "host=\(socket) port=5432 user=holdfast dbname=holdfast",
            ]
        )
        guard run.status == 0 else { throw Unexpected(run) }
        return run.output.split(separator: "\n").map(String.init)
    }

    private func host(_ outcome: Outcome, _ name: String) -> JSON? {
        outcome.json?["hosts"]?.array?.first { $0["host"]?.string == name }
    }

    @Test
    func
        `a catalogue that was deleted comes back from the repositories, and the next backup is an increment`()
        throws
    {
        let joined = try MainJobTests.Joined(SampleHost())
        let installation = joined.installation
        _ = try joined.backup()
        try joined.sample.addPhotos(2, seed: 501)
        let second = try joined.backup()
        let snapshot = try #require(second["snapshot"]?.string)
        // A host that was added and never joined, and one that was taken out again.
        _ = try installation.addHost("madrid")
        _ = try installation.addHost("porto")
        #expect(try installation.coordinator("host", "remove", "porto").status == 0)
        // Records of pins and proofs as their commands will write them: the side file, then the row.
        let repository = try Repository.open(
            at: installation.repository("lisbon"),
            password: installation.password("lisbon")
        )
        let id = try #require(BlobID(hex: snapshot))
        try repository.writePin(
            PinRecord(
                snapshot: id,
                why: "the wedding, \"all\" of it",
                by: "anna",
                time: 1_700_000_000_123_456_789
            )
        )
        try repository.writeProof(
            ProofRecord(
                snapshot: id,
                level: .proved,
                time: 1_700_000_001_000_000_000,
                figures: ["originals": 24, "bytes": 4_800_000]
            )
        )
        let sql = "INSERT INTO holdfast."
        _ = try rows(
            installation,
            sql + "pins SELECT id, '\(snapshot)', 'the wedding, \"all\" of it', 'anna', 1700000000123456789 "
                + "FROM holdfast.hosts WHERE name = 'lisbon'"
        )
        _ = try rows(
            installation,
            sql
                + "proofs SELECT id, '\(snapshot)', 'proved', 1700000001000000000, '{\"originals\": 24, \"bytes\": 4800000}' "
                + "FROM holdfast.hosts WHERE name = 'lisbon'"
        )
        let before = try rows(installation)
        #expect(before.count == 3 + 1 + 2 + 2, "\(before)")
        let epoch = try #require(
            Int(try rows(installation, "SELECT epoch FROM holdfast.hosts WHERE name = 'lisbon'")[0])
        )

        // Over a catalogue that is there it changes nothing.
        let needless = try installation.coordinator("catalogue", "rebuild", "--json")
        #expect(needless.status == 0 && needless.json?["rows_made"]?.int == 0, "\(needless)")
        #expect(try rows(installation) == before)

        joined.installation.stop()
        try Files.removeTree(installation.folder + "/state/catalogue")
        let start = Time.monotonic()
        let rebuilt = try installation.coordinator("catalogue", "rebuild")
        let seconds = Double(Time.monotonic() - start) / 1e9
        #expect(rebuilt.status == 0, "\(rebuilt)")
        for word in ["lisbon", "madrid", "porto", "removed", "Lost", "runs"] {
            #expect(rebuilt.output.contains(word), "\(rebuilt)")
        }
        let again = try installation.coordinator("catalogue", "rebuild", "--json")
        #expect(again.status == 0 && again.json?["rows_made"]?.int == 0, "\(again)")
        #expect(host(again, "lisbon")?["snapshots"]?.array?.count == 2)
        #expect(host(again, "lisbon")?["pins"]?.int == 1 && host(again, "lisbon")?["proofs"]?.int == 1)

        try installation.serve()
        let after = try rows(installation)
        #expect(
            after == before,
            "lost: \(Set(before).subtracting(after)); new: \(Set(after).subtracting(before))"
        )
        print(
            "catalogue rebuild: \(after.count) rows of 3 hosts the same as before, \(seconds) s with making the cluster"
        )

        // The agent comes back by itself, and all the rest works as before.
        try joined.sample.addPhotos(1, seed: 502)
        let run = try joined.backup()
        #expect((run["files_sent"]?.int ?? 99) < 15 && (run["files_read"]?.int ?? 99) < 5, "\(run.text())")
        let newer = try #require(Int(try rows(installation, "SELECT max(epoch) FROM holdfast.snapshots")[0]))
        #expect(newer > epoch)
        let status = try installation.coordinator("status", "--json")
        #expect(host(status, "lisbon")?["state"]?.string == "ok" && host(status, "porto") == nil, "\(status)")
        let listed = try installation.coordinator("snapshots", "lisbon", "--json")
        #expect(listed.json?["snapshots"]?.array?.count == 3, "\(listed)")
        let target = installation.folder + "/restored"
        #expect(
            try installation.coordinator("restore", "lisbon", "--snapshot", snapshot, "--to", target).status
                == 0
        )
        #expect(Files.exists(target + "/immich/backups"))
        #expect(try joined.restic("check", "--read-data").status == 0)
    }

    @Test func `a lost password file, a damaged and a missing repository do not stop the others`() throws {
        let joined = try MainJobTests.Joined()
        let installation = joined.installation
        _ = try joined.backup()
        for name in ["madrid", "porto", "paris"] { _ = try installation.addHost(name) }
        installation.stop()
        let state = installation.folder + "/state"
        try Files.removeTree(state + "/catalogue")
        // Opens with what the state folder keeps of the recovery passphrase.
        try Files.remove(state + "/passwords/madrid")
        try Files.removeTree(installation.repository("porto"))
        let parisHost = installation.repository("paris") + "/holdfast/host"
        try Files.writeAtomically(Array(Files.read(parisHost).reversed()), to: parisHost)

        let rebuilt = try installation.coordinator("catalogue", "rebuild", "--json")
        #expect(rebuilt.status == 3, "\(rebuilt)")
        #expect(host(rebuilt, "lisbon")?["state"]?.string == "ok")
        #expect(host(rebuilt, "madrid")?["state"]?.string == "ok")
        let remarks = host(rebuilt, "madrid")?["remarks"]?.strings ?? []
        #expect(remarks.contains { $0.contains("password file") }, "\(remarks)")
        #expect(host(rebuilt, "porto")?["state"]?.string == "not read")
        #expect(host(rebuilt, "paris")?["state"]?.string == "damaged in part")
        let damage = host(rebuilt, "paris")?["damage"]?.strings ?? []
        #expect(damage.contains { $0.contains("holdfast/host") }, "\(damage)")
        // The new password opens the repository, for stock restic too.
        let password = try installation.password("madrid")
        let opened = try Outcome.of(
            ["restic", "--no-cache", "-r", installation.repository("madrid"), "snapshots"],
            environment: ["RESTIC_PASSWORD": password]
        )
        #expect(opened.status == 0, "\(opened)")
        try installation.serve()
        _ = try joined.backup()
    }

    @Test func `with nothing left but the repositories the recovery passphrase brings them back`() throws {
        let joined = try MainJobTests.Joined()
        let installation = joined.installation
        _ = try joined.backup()
        let passphrase = installation.recoveryPassphrase
        installation.stop()
        try Files.removeTree(installation.folder + "/state")
        try installation.initialise()
        let arguments = [
            Programs.coordinator, "--config", installation.configuration, "catalogue", "rebuild", "--json",
        ]
        let silent = try ChildProcess.run(arguments)
        #expect(silent.end == .exit(3))
        let wrong = try ChildProcess.run(arguments, input: Array("not it\n".utf8))
        #expect(wrong.end == .exit(3))
        let right = try ChildProcess.run(arguments, input: Array("not it\n\(passphrase)\n".utf8))
        #expect(right.end == .exit(0), "\(String(decoding: right.error + right.output, as: UTF8.self))")
        let listed = try installation.coordinator("snapshots", "lisbon", "--json")
        #expect(listed.json?["snapshots"]?.array?.count == 1, "\(listed)")
        // Both passphrases open it now, the one on paper and the one that init just printed.
        for word in [passphrase, installation.recoveryPassphrase, try installation.password("lisbon")] {
            let opened = try Outcome.of(
                ["restic", "--no-cache", "-r", installation.repository("lisbon"), "snapshots"],
                environment: ["RESTIC_PASSWORD": word]
            )
            #expect(opened.status == 0, "\(opened)")
        }
        #expect(try installation.coordinator("check", "lisbon", "--read-data").status == 0)
    }

    @Test func `a catalogue with rows of its own, and a host that is being backed up, are left alone`() throws
    {
        let joined = try MainJobTests.Joined(SampleHost())
        let installation = joined.installation
        _ = try joined.backup()
        let before = try rows(installation)
        // Half of what it would make is completed; what it would not make stops it.
        _ = try rows(installation, "DELETE FROM holdfast.snapshots")
        let completed = try installation.coordinator("catalogue", "rebuild", "--json")
        #expect(completed.status == 0 && completed.json?["rows_made"]?.int == 1, "\(completed)")
        #expect(try rows(installation) == before)
        _ = try rows(installation, "INSERT INTO holdfast.hosts (name, added) VALUES ('rome', 7)")
        _ = try rows(installation, "UPDATE holdfast.snapshots SET files = files + 1")
        let refused = try installation.coordinator("catalogue", "rebuild")
        #expect(
            refused.status == 1 && refused.error.contains("rome") && refused.error.contains("snapshot"),
            "\(refused)"
        )
        #expect(refused.error.contains("nothing was changed"))
        _ = try rows(installation, "DELETE FROM holdfast.hosts WHERE name = 'rome'")
        _ = try rows(installation, "UPDATE holdfast.snapshots SET files = files - 1")

        // While somebody holds the host, by the catalogue's lock and by a stock client's.
        try joined.sample.addPhotos(60, seed: 503)
        let backup = try ChildProcess(
            [Programs.coordinator, "--config", installation.configuration, "backup", "lisbon"],
            output: .nothing,
            error: .nothing
        )
        _ = try eventually("a capture holds the host") {
            try installation.coordinator("locks", "--json").json?["holders"]?.array?.isEmpty == false
                ? true : nil
        }
        let busy = try installation.coordinator("catalogue", "rebuild")
        let ended = try backup.wait()
        #expect(busy.status == 11 && busy.error.contains("lisbon"), "\(busy)")
        #expect(ended == .exit(0))
        // The same without a row that says so: the lock file of a process that lives counts.
        let repository = try Repository.open(
            at: installation.repository("lisbon"),
            password: installation.password("lisbon")
        )
        let lock = JSON([
            ("time", JSON(Time.rfc3339(Time.now()))), ("exclusive", JSON(false)),
            ("hostname", JSON(Host.name)),
            ("username", "holdfast:00000000-0000-4000-8000-000000000000"), ("pid", JSON(Int(getpid()))),
        ])
        let lockFile = try repository.write(lock.encoded(), to: .locks)
        // Of no living lease, but of a process that lives: it may still work with the catalogue that was lost.
        try #require(Files.exists(repository.filePath(.locks, lockFile)))
        let locked = try installation.coordinator("catalogue", "rebuild")
        #expect(locked.status == 11 && locked.error.contains("\(getpid())"), "\(locked)")
    }
}
