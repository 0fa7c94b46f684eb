import Glibc
import JSON
import Posix
import TestSupport
import Testing

/// Programs are killed at every step that the recording layer knows. After each kill the next run is whole without
/// anybody's help, older snapshots are unharmed, and a stock restic finds nothing to complain about and nothing to
/// unlock.
@Suite("Killed at a durable step", .serialized)
struct KilledAtStepTests {
    /// Kills the session before and after steps of a backup.
    private func killAtSteps(_ rig: FaultRig, _ order: FaultLayer.Order, _ name: String) throws {
        let steps = try rig.record(order)
        let moments = steps.flatMap { [(step: $0, after: false), (step: $0, after: true)] }
        let chosen = rig.random.share(of: moments)
        var hits = 0
        let start = Time.monotonic()
        for moment in chosen {
            var order = order
            order.action = .kill
            order.at = moment.step.number
            order.after = moment.after
            if try rig.strike(order) != nil { hits += 1 }
            try rig.verify("killed \(moment.after ? "after" : "before") \(moment.step)")
        }
        let seconds = Double(Time.monotonic() - start) / 1e9
        print(
            "\(name): \(steps.count) durable steps, \(chosen.count) of \(moments.count) kills tried, \(hits) hit, "
                + "\(Int(seconds)) s"
        )
        #expect(hits >= chosen.count / 2)
        try rig.conclude(name)
    }

    @Test func `a session killed before and after every durable step costs nothing but the time`() throws {
        try killAtSteps(FaultRig(), .init(.session, FaultLayer.Kind.durable), "session")
    }

    @Test func `so does one that had listed packs early and left a checkpoint`() throws {
        let rig = try FaultRig()
        try rig.change(photos: 20)
        var order = FaultLayer.Order(.session, FaultLayer.Kind.durable)
        // A checkpoint is due at the next file.
        order.jump = 400
        let steps = try rig.record(order)
        #expect(steps.contains { $0.kind == .rename && $0.path.hasSuffix("/holdfast/interrupted") })
        #expect(steps.count { $0.kind == .rename && $0.path.contains("/index/") } == 2)
        try killAtSteps(rig, order, "session with a checkpoint")
    }
}

@Suite("Killed at a message", .serialized)
struct KilledAtMessageTests {
    enum Victim: String, CaseIterable { case agent, session, coordinator }

    @Test(arguments: Victim.allCases)
    func `a program killed at every message boundary costs nothing but the time`(victim: Victim) throws {
        let rig = try FaultRig()
        let order = FaultLayer.Order(victim == .agent ? .agent : .session, FaultLayer.Kind.messages)
        let steps = try rig.record(order)
        let moments = steps.flatMap { step in
            // Between libssh's having a message and the program's there is one moment.
            (step.kind == .send ? [false, true] : [false]).map { (step: step, after: $0) }
        }
        let chosen = rig.random.share(of: moments, least: 2)
        for moment in chosen {
            var order = order
            order.action = .kill
            order.at = moment.step.number
            order.after = moment.after
            if victim == .coordinator { order.victim = rig.installation.servePID }
            // The same bytes may come in fewer reads than when these were counted: then an earlier one is hit.
            while try rig.strike(order) == nil {
                try #require(order.at > 1)
                order.at /= 2
            }
            if victim == .coordinator { try rig.restart() }
            try rig.verify(
                "\(victim) killed \(moment.after ? "after" : "before") message \(order.at)"
            )
        }
        print("\(victim): \(steps.count) messages, \(chosen.count) of \(moments.count) kills")
        try rig.conclude("\(victim) killed at messages")
    }
}

@Suite("Killed at any moment", .serialized)
struct KilledAtRandomTests {
    @Test(arguments: KilledAtMessageTests.Victim.allCases)
    func `a program killed at any moment costs nothing but the time`(
        victim: KilledAtMessageTests.Victim
    ) throws {
        let rig = try FaultRig()
        let start = Time.monotonic()
        _ = try rig.run()
        let length = Double(Time.monotonic() - start) / 1e9
        let rounds = isLong ? 50 : 3
        var ended = 0
        for round in 0..<rounds {
            try rig.change()
            let moment = Double(rig.random.next() % 1000) / 1000 * length
            let run = try rig.start()
            Time.sleep(seconds: moment)
            switch victim {
            case .agent: run.signal(SIGKILL)
            case .session: for session in rig.installation.sessions() { kill(session, SIGKILL) }
            case .coordinator: try rig.restart()
            }
            if try run.wait() == .exit(0) { ended += 1 }
            try rig.verify("\(victim) killed after \(moment) s, round \(round)")
        }
        print("\(victim): killed at \(rounds) moments of \(length) s, \(ended) runs were over by then")
        try rig.conclude("\(victim) killed at any moment")
    }

    @Test func `an agent that runs as a service is backed up again without anybody's doing`() throws {
        let rig = try FaultRig()
        try rig.agent.run(environment: rig.layer.environment)
        for round in 0..<(isLong ? 10 : 2) {
            try rig.change()
            var order = FaultLayer.Order(.session, FaultLayer.Kind.durable, .kill)
            order.at = 1 + Int(rig.random.next() % 40)
            order.victim = round % 2 == 0 ? rig.installation.servePID : 0
            try rig.layer.set(order)
            let run = try ChildProcess(
                [Programs.coordinator, "--config", rig.installation.configuration, "backup", "lisbon"],
                output: .nothing,
                error: .nothing
            )
            _ = try eventually("the kill") { rig.layer.fired }
            try rig.layer.clear()
            if order.victim != 0 { try rig.restart() }
            _ = try run.wait()
            try rig.verify("killed at \(order.at) while the agent waited for work")
        }
        rig.agent.stop(SIGKILL)
        try rig.conclude("a waiting agent")
    }

    @Test func `a run that was cut off is not sent again`() throws {
        let rig = try FaultRig()
        try rig.change(photos: 100, size: 700_000)
        var order = FaultLayer.Order(.agent, [.send], .kill)
        try rig.layer.set(.init(.agent, [.send]))
        let first = try rig.start()
        // About 70 MB leave in pieces of a quarter of a megabyte.
        _ = try eventually("a half was sent") { rig.layer.count > 120 ? true : nil }
        order.at = rig.layer.count + 1
        try rig.layer.set(
            {
                order.at = 1
                return order
            }()
        )
        #expect(try first.wait() == .signal(SIGKILL))
        try rig.layer.clear()
        let interrupted = try rig.settled()
        #expect(interrupted["run"]?["state"]?.string == "interrupted", "\(interrupted.text())")
        let before = interrupted["run"]?["bytes_sent"]?.int ?? 0
        try rig.backup()
        let after = try rig.settled()["run"]?["bytes_sent"]?.int ?? .max
        print("cut off after \(before) bytes, then \(after) were sent")
        #expect(after < 75_000_000 - before + 8_000_000)
    }
}
