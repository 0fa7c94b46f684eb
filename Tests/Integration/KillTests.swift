import Glibc
import JSON
import Posix
import TestSupport
import Testing

/// Each program is killed at points of a run that are told by the run's own figures; after each kill the next run
/// is whole without anybody's help, older snapshots are unharmed, and a stock restic finds nothing to complain
/// about and nothing to unlock.
@Suite("Killed programs", .serialized)
struct KillTests {
    /// When to kill: as soon as the running capture has come this far.
    struct Moment: CustomTestStringConvertible, Sendable {
        let name: String
        let phase: String
        let sent: Int
        var testDescription: String { name }
    }

    static let moments = [
        Moment(name: "as soon as it runs", phase: "start", sent: 0),
        Moment(name: "at the first files", phase: "files", sent: 1),
        Moment(name: "after a fifth", phase: "files", sent: 20_000_000),
        Moment(name: "after a half", phase: "files", sent: 50_000_000),
        Moment(name: "near the end", phase: "files", sent: 90_000_000),
    ]

    /// About 100 MB of photos.
    private static let sample = Result { try SampleHost(photos: 200, photoSize: 500_000) }

    private func joined() throws -> MainJobTests.Joined { try MainJobTests.Joined(Self.sample.get()) }

    /// Starts a backup and waits until it has come to `moment`, or has ended.
    private func start(_ joined: MainJobTests.Joined, until moment: Moment) throws {
        let watcher = try ChildProcess(
            [Programs.coordinator, "--config", joined.installation.configuration, "backup", "lisbon"],
            output: .nothing,
            error: .nothing
        )
        let pid = watcher.pid
        defer {
            kill(pid, SIGKILL)
            var status: Int32 = 0
            waitpid(pid, &status, 0)
        }
        let runs = ["start": 0, "dump": 1, "files": 2, "publish": 3]
        _ = try eventually("the capture comes to \(moment.name)") { () -> Bool? in
            let status = try joined.installation.coordinator("status", "--json")
            guard let run = status.json?["hosts"]?.array?.first?["run"], let state = run["state"]?.string,
                state != "queued"
            else { return nil }
            if state != "running" { return true }
            let phase = runs[run["phase"]?.string ?? ""] ?? 0
            if phase > runs[moment.phase] ?? 0 { return true }
            return phase == runs[moment.phase] ?? 0 && run["bytes_sent"]?.int ?? 0 >= moment.sent ? true : nil
        }
    }

    /// Waits until the run of the killed process is over: its session may still be putting things in order.
    private func settle(_ joined: MainJobTests.Joined) throws {
        _ = try eventually("the killed run is over") { () -> Bool? in
            let status = try joined.installation.coordinator("status", "--json")
            let state = status.json?["hosts"]?.array?.first?["run"]?["state"]?.string
            return state == "running" ? nil : true
        }
    }

    private func verify(_ joined: MainJobTests.Joined) throws {
        try settle(joined)
        let run = try joined.backup()
        #expect(run["state"]?.string == "done", "\(run.text())")
        // No unlock in between: nothing that a killed process left may stand in a stock client's way.
        let check = try joined.restic("check", "--read-data")
        #expect(check.status == 0, "\(check)")
        let ours = try joined.installation.coordinator("check", "lisbon", "--read-data", "--json")
        #expect(ours.json?["verdict"]?.string == "passed", "\(ours)")
        let target = joined.installation.folder + "/restored"
        #expect(try joined.installation.coordinator("restore", "lisbon", "--to", target).status == 0)
        let differences = try TreeListing(joined.sample.uploadLocation + "/upload").differences(
            to: TreeListing(target + "/immich/upload")
        )
        #expect(differences == [])
        let leftovers = try Outcome.of(["find", joined.installation.repository("lisbon"), "-name", "*tmp*"])
        #expect(leftovers.output == "")
    }

    @Test(arguments: moments)
    func `a killed agent costs nothing but the time`(moment: Moment) throws {
        let joined = try joined()
        try start(joined, until: moment)
        joined.agent.stop(SIGKILL)
        try joined.agent.run()
        try verify(joined)
    }

    @Test(arguments: moments)
    func `a killed coordinator costs nothing but the time`(moment: Moment) throws {
        let joined = try joined()
        try start(joined, until: moment)
        joined.installation.stop(SIGKILL)
        try joined.installation.serve()
        try verify(joined)
    }

    @Test func `a run that was cut off is not sent again`() throws {
        let joined = try joined()
        try start(joined, until: Self.moments[3])
        joined.agent.stop(SIGKILL)
        try settle(joined)
        try joined.agent.run()
        let run = try joined.backup()
        // About 100 MB in all, of which a half had come.
        #expect(run["bytes_sent"]?.int ?? .max < 60_000_000, "\(run.text())")
    }

    @Test func `an older snapshot is unharmed by a run that was killed`() throws {
        let joined = try joined()
        let older = try #require(try joined.backup()["snapshot"]?.string)
        let library = try TreeListing(joined.sample.uploadLocation + "/upload")
        try joined.sample.addPhotos(20, seed: 99)
        try start(joined, until: Self.moments[1])
        joined.installation.stop(SIGKILL)
        joined.agent.stop(SIGKILL)
        let target = joined.installation.folder + "/restored"
        let restored = try joined.installation.coordinator(
            "restore",
            "lisbon",
            "--snapshot",
            older,
            "--to",
            target,
            "--include",
            "immich/upload"
        )
        #expect(restored.status == 0, "\(restored)")
        #expect(try library.differences(to: TreeListing(target + "/immich/upload")) == [])
    }
}
