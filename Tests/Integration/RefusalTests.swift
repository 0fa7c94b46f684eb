import Glibc
import JSON
import Posix
import TestSupport
import Testing

@Suite("Refusals and their messages", .serialized)
struct RefusalTests {
    @Test func `a token works once and only for an hour`() throws {
        let sample = try MainJobTests.Joined.sharedSample.get()
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        let token = try installation.addHost("lisbon")

        let stranger = try AgentProcess(sample)
        let wrong = try stranger.command("join", "127.0.0.1:\(installation.port)", "hf1.AAAA")
        #expect(wrong.status == 64, "\(wrong)")
        try stranger.join(installation, token: token)
        let second = try AgentProcess(sample).command("join", "127.0.0.1:\(installation.port)", token)
        #expect(second.status == 1 && second.error.contains("used"), "\(second)")
    }

    @Test func `a coordinator with another host key is not spoken to`() throws {
        let sample = try MainJobTests.Joined.sharedSample.get()
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        let agent = try AgentProcess(sample)
        try agent.join(installation, token: installation.addHost("lisbon"))
        installation.stop()
        try Files.remove(installation.folder + "/state/host_key")
        // Agents trust no other key, so a new one is not made behind the admin's back.
        let careless = try installation.coordinator("init")
        #expect(careless.status == 1 && careless.error.contains("host_key"), "\(careless)")
        try Files.remove(installation.folder + "/state/recovery.json")
        try installation.initialise()
        try installation.serve()
        let refused = try agent.command("backup")
        #expect(refused.status == 20 && refused.error.contains("SHA256:"), "\(refused)")
    }

    @Test func `an unknown key that sends no token is cut off`() throws {
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        let key = installation.folder + "/stranger"
        _ = try Outcome.of(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
        let start = Time.monotonic()
        let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"]
        // A pipe that nobody writes into keeps ssh connected until the other side ends it.
        let silence = try FileDescriptor.pipe()
        let keep = FileDescriptor(owning: silence.write)
        let input = FileDescriptor(owning: silence.read)
        let client = try ChildProcess(
            ["ssh", "-F", "none", "-i", key, "-p", "\(installation.port)"] + options.flatMap { ["-o", $0] }
                + ["-s", "agent@127.0.0.1", "holdfast"],
            input: .descriptor(input.raw),
            output: .nothing,
            error: .nothing
        )
        _ = try client.wait()
        try keep.close()
        let seconds = Double(Time.monotonic() - start) / 1e9
        #expect(seconds > 15 && seconds < 45, "\(seconds) s")
    }

    @Test func `a machine that was replaced gets no more work on its old connection`() throws {
        let joined = try MainJobTests.Joined()
        _ = try joined.backup()
        let token = try joined.installation.coordinator("host", "token", "lisbon", "--json")
        let successor = try AgentProcess(joined.sample)
        try successor.join(joined.installation, token: try #require(token.json?["token"]?.string))
        // Only the old agent is connected.
        let backup = try ChildProcess(
            [Programs.coordinator, "--config", joined.installation.configuration, "backup", "lisbon"],
            output: .nothing,
            error: .nothing
        )
        _ = try eventually("the old agent is refused") {
            joined.agent.log.contains("not accepted") || joined.agent.log.contains("join") ? true : nil
        }
        try successor.run()
        #expect(try backup.wait() == .exit(0))
    }

    @Test func `a port in use is named`() throws {
        let installation = try Installation()
        try installation.initialise()
        let taken = try TCPListener(address: "127.0.0.1", port: installation.port)
        let outcome = try installation.coordinator("serve")
        #expect(outcome.status == 1 && outcome.error.contains("\(taken.port)"), "\(outcome)")
    }

    @Test func `without serve a backup says how to start it, and the rest works`() throws {
        let installation = try Installation()
        try installation.initialise()
        #expect(try installation.coordinator("host", "add", "lisbon").status == 0)
        let backup = try installation.coordinator("backup", "lisbon")
        #expect(backup.status == 20 && backup.error.contains("serve"), "\(backup)")
        let status = try installation.coordinator("status")
        #expect(status.status == 0 && status.output.contains("lisbon"), "\(status)")
        // A check that found nothing to look at has not passed.
        let check = try installation.coordinator("check", "lisbon", "--json")
        #expect(check.status == 1 && check.json?["verdict"]?.string == "could not run", "\(check)")
    }

    @Test func `a failed dump publishes nothing`() throws {
        let joined = try MainJobTests.Joined(SampleHost(photos: 2, photoSize: 2000))
        // Away from PATH in the container, so that the dump program is not found.
        try joined.sample.docker("stop", "immich_postgres")
        let backup = try joined.installation.coordinator("backup", "lisbon")
        #expect(backup.status == 21 || backup.status == 1, "\(backup)")
        #expect(backup.error.contains("immich_postgres"), "\(backup)")
        let listed = try joined.installation.coordinator("snapshots", "lisbon", "--json")
        #expect(listed.json?["snapshots"]?.array?.isEmpty == true, "\(listed)")
    }

    @Test func `a missing marker publishes nothing`() throws {
        let joined = try MainJobTests.Joined(SampleHost(photos: 2, photoSize: 2000))
        try Files.remove(joined.sample.uploadLocation + "/library/.immich")
        let backup = try joined.installation.coordinator("backup", "lisbon")
        #expect(backup.status == 1 && backup.error.contains("library"), "\(backup)")
        let listed = try joined.installation.coordinator("snapshots", "lisbon", "--json")
        #expect(listed.json?["snapshots"]?.array?.isEmpty == true, "\(listed)")
    }

    @Test func `a foreign exclusive lock stops a run and is named with the command to type`() throws {
        let joined = try MainJobTests.Joined()
        _ = try joined.backup()
        let lock = try ChildProcess(
            [
                "restic", "--no-cache", "-r", joined.installation.repository("lisbon"), "prune",
                "--max-unused", "0",
            ],
            environment: ["RESTIC_PASSWORD": try joined.installation.password("lisbon")],
            output: .nothing,
            error: .nothing
        )
        let locks = joined.installation.repository("lisbon") + "/locks"
        _ = try eventually("restic locks") {
            try Directory.names(locks).contains { $0.count == 64 } ? true : nil
        }
        lock.signal(SIGKILL)
        _ = try lock.wait()
        let backup = try joined.installation.coordinator("backup", "lisbon")
        #expect(backup.status == 11 && backup.error.contains("unlock"), "\(backup)")
        let listed = try joined.installation.coordinator("locks")
        #expect(listed.output.contains("restic"), "\(listed)")
        #expect(try joined.restic("unlock").status == 0)
        _ = try joined.backup()
    }

    @Test func `an unknown host, a missing repository and a wrong password are told apart`() throws {
        let installation = try Installation()
        try installation.initialise()
        let unknown = try installation.coordinator("snapshots", "porto")
        #expect(unknown.status == 1 && unknown.error.contains("porto"), "\(unknown)")
        #expect(try installation.coordinator("host", "add", "lisbon").status == 0)
        let password = installation.folder + "/state/passwords/lisbon"
        try Files.writeAtomically(Array("wrong\n".utf8), to: password)
        let wrong = try installation.coordinator("check", "lisbon")
        #expect(wrong.status == 12, "\(wrong)")
        try Files.removeTree(installation.repository("lisbon"))
        let missing = try installation.coordinator("check", "lisbon")
        #expect(missing.status == 10, "\(missing)")
    }
}
