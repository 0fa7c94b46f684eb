import Glibc
import JSON
import Posix
import TestSupport
import Testing

/// A session is stopped for so long that its locks are gone, just before it would publish; then it goes on.
@Suite("A holder that was stopped", .serialized)
struct FenceTests {
    enum Moment: String, CaseIterable { case beforeRename, beforeCommit }

    @Test(arguments: Moment.allCases, [true, false])
    func `it publishes nothing once its locks are gone`(moment: Moment, isTakenOver: Bool) throws {
        let rig = try FaultRig()
        try rig.backup()
        let steps = try rig.record(.init(.session, FaultLayer.Kind.files))
        let repository = rig.installation.repository("lisbon")
        let last = steps.last { step in
            moment == .beforeRename
                ? step.kind == .rename && step.path.contains("/snapshots/")
                : step.kind == .sync && step.path.hasSuffix("/snapshots")
        }
        var order = FaultLayer.Order(.session, FaultLayer.Kind.files, .stop, at: try #require(last).number)
        order.after = moment == .beforeCommit
        try rig.change()
        try rig.layer.set(order)
        let stopped = try rig.start()
        let session = try eventually("the session is stopped") { rig.layer.fired }
        #expect(try rig.layer.steps().last?.path.contains("/snapshots") == true)
        let run = try rig.installation.sql("SELECT id FROM runs WHERE state = 'running'").filter {
            $0 != "\n"
        }
        try rig.layer.clear()

        // As a server that lost the connection would.
        try rig.installation.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'holdfast ________-%'"
        )
        _ = try eventually("the lock is gone") { () -> Bool? in
            try rig.installation.sql(
                "SELECT count(*) FROM pg_locks WHERE classid IN (\(0x484F_0001), \(0x484F_0002)) AND granted"
            )
            .hasPrefix("0") ? true : nil
        }
        if isTakenOver { try rig.backup() }
        let before = try Directory.names(repository + "/snapshots").count
        let packs = try Outcome.of(["find", repository + "/data", "-type", "f"]).output
        kill(session, SIGCONT)
        let end = try stopped.wait()
        #expect(end != .exit(0))
        _ = try eventually("the session has ended what it did") { () -> Bool? in
            let running = try rig.installation.sql("SELECT count(*) FROM runs WHERE state = 'running'")
            return running.hasPrefix("0") ? true : nil
        }
        Time.sleep(seconds: 0.5)

        let state = try rig.installation.sql("SELECT state FROM runs WHERE id = '\(run)'")
        #expect(!state.contains("done"), "\(state)")
        if isTakenOver {
            #expect(try Directory.names(repository + "/snapshots").count == before)
        }
        #expect(try Outcome.of(["find", repository + "/data", "-type", "f"]).output == packs)
        #expect(!Files.exists(repository + "/holdfast/interrupted"))
        try rig.verify("stopped \(moment), \(isTakenOver ? "taken over" : "not taken over")")
        // What the catalogue lists is what a stock client sees.
        let rows = try rig.installation.sql("SELECT count(*) FROM snapshots WHERE state = 'present'")
        #expect(rows.hasPrefix("\(try Directory.names(repository + "/snapshots").count)\n"), "\(rows)")
        try rig.conclude("stopped \(moment)")
    }
}
