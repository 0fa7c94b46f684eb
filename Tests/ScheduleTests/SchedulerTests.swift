import Catalogue
import Fleet
import Posix
import Postgres
import Retention
import Schedule
import Scheduling
import TestSupport
import Testing
import Wire

/// The scheduler on a real catalogue, with a clock of the test's own.
@Suite("The schedule's jobs")
struct SchedulerTests {
    /// A fleet whose hosts are joined, and the connection of a `serve` where agents wait.
    final class Rig {
        let address: String
        let catalogue: Catalogue
        var fleet = FleetConfiguration()
        private(set) var hosts: [String: HostRow] = [:]
        private let serve: Catalogue
        private let serveID = newUUID()
        private var scheduler: Scheduler
        var now: Int64

        init(_ names: [String], _ policy: HostPolicy, start: String = "2026-03-01T12:00:00Z") throws {
            address = try PostgresServer.shared.get().newDatabase()
            catalogue = try Catalogue(address: address)
            serve = try Catalogue(address: address, applicationName: Catalogue.serveName(serveID))
            scheduler = Scheduler(catalogue)
            now = try instant(start)
            fleet.defaults = policy
            fleet.capturesAtOnce = 2
            for name in names {
                let host = try catalogue.addHost(name)
                hosts[name] = host
                let token = try catalogue.makeToken(for: host, lifetime: hour)
                _ = try catalogue.join(
                    token: token,
                    publicKey: Array(name.utf8),
                    fingerprint: "SHA256:\(name)"
                )
            }
            try pass()
        }

        /// Says which agents wait for work.
        func wait(_ names: String...) throws {
            try serve.setWaitingAgents(Set(names.compactMap { hosts[$0]?.id }), serve: serveID)
        }

        /// The `serve` where they wait is gone.
        func endServe() { serve.close() }

        @discardableResult
        func pass(at text: String? = nil) throws -> [Scheduler.Errand] {
            if let text { now = try instant(text) }
            return try scheduler.pass(fleet, now: now)
        }

        /// Another coordinator takes the duty over.
        func takeOver() throws { scheduler = try Scheduler(Catalogue(address: address)) }

        func job(_ name: String, _ kind: RunKind = .full) throws -> JobRow? {
            try catalogue.jobs(host: hosts[name]).first { $0.kind == kind }
        }

        /// The hosts with runs in this state, the oldest first.
        func runs(_ state: RunRow.State) throws -> [String] {
            try catalogue.openRuns().filter { $0.state == state }.map(\.hostName)
        }

        /// What a session does: takes the run, and holds the host while it lives.
        func claim(_ name: String, _ kind: RunKind = .full) throws -> (HostLease, RunRow) {
            let host = try #require(hosts[name])
            let lease = try HostLease(host, kind.capture == nil ? .deleting : .capture, server: address)
            let run = try #require(try lease.catalogue.claimRun(for: lease, kind: kind))
            try setStart(run.id)
            return (lease, run)
        }

        /// By the test's clock.
        private func setStart(_ run: String) throws {
            try catalogue.connection.execute("UPDATE runs SET started = $2 WHERE id = $1", [run, now])
        }

        func end(
            _ claimed: (lease: HostLease, run: RunRow),
            _ state: RunRow.State = .done,
            _ failure: RunRow.Failure? = nil
        ) throws {
            try claimed.lease.catalogue.finish(
                claimed.run.id,
                lease: claimed.lease,
                state: state,
                figures: RunFigures(),
                error: failure.map { "\($0)" },
                failure: failure
            )
            try catalogue.connection.execute(
                "UPDATE runs SET ended = $2 WHERE id = $1",
                [claimed.run.id, now]
            )
            claimed.lease.release()
        }
    }

    @Test func `without a schedule nothing is kept and nothing queued`() throws {
        let rig = try Rig(["lisbon"], policy())
        try rig.wait("lisbon")
        try rig.pass(at: "2027-03-01T12:00:00Z")
        #expect(try rig.catalogue.jobs().isEmpty)
        #expect(try rig.catalogue.runs().isEmpty)
    }

    @Test func `a capture that is due is queued for an agent that waits, once, and done`() throws {
        let rig = try Rig(["lisbon"], policy(full: "0 3 * * *"))
        try rig.wait("lisbon")
        try rig.pass(at: "2026-03-02T02:59:00Z")
        #expect(try rig.runs(.queued) == [])
        let listener = try PostgresConnection(rig.address, applicationName: "test")
        try listener.listen(Catalogue.Channel.jobs)
        try rig.pass(at: "2026-03-02T03:00:00Z")
        try rig.pass()
        #expect(try rig.runs(.queued) == ["lisbon"])
        #expect(try rig.catalogue.runs().first?.isScheduled == true)
        let heard = try listener.notifications(timeout: 5)
        #expect(Set(heard.map(\.payload)) == ["\(rig.hosts["lisbon"]?.id ?? 0)"])
        let claimed = try rig.claim("lisbon")
        try rig.pass(at: "2026-03-02T03:10:00Z")
        #expect(try rig.job("lisbon")?.run == claimed.1.id)
        try rig.end(claimed)
        try rig.pass()
        let job = try #require(try rig.job("lisbon"))
        #expect(job.run == nil && job.due == nil && job.lastRun == claimed.1.id && job.missed == 0)
        #expect(job.next == (try instant("2026-03-03T03:00:00Z")))
        try rig.pass(at: "2026-03-03T02:59:00Z")
        #expect(try rig.catalogue.runs().count == 1)
    }

    @Test func `a host that is away has no run and takes no place, and catches up when it is back`() throws {
        let rig = try Rig(["a", "b", "c"], policy(full: "0 3 * * *"))
        rig.fleet.capturesAtOnce = 1
        try rig.wait("c")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        #expect(try rig.runs(.queued) == ["c"])
        #expect(try rig.job("a")?.waits?.contains("agent") == true)
        let claimed = try rig.claim("c")
        try rig.wait("a", "c")
        try rig.pass(at: "2026-03-02T03:05:00Z")
        #expect(try rig.runs(.queued) == [])
        #expect(try rig.job("a")?.waits?.contains("captures_at_once") == true)
        try rig.end(claimed)
        try rig.pass()
        #expect(try rig.runs(.queued) == ["a"])
        // b is away for days, and then has one.
        try rig.end(rig.claim("a"))
        for day in 3...8 { try rig.pass(at: "2026-03-0\(day)T03:00:00Z") }
        try rig.wait("b")
        // The withdrawn runs of the others leave no trace.
        try rig.pass(at: "2026-03-08T17:00:00Z")
        #expect(try rig.runs(.queued) == ["b"])
        #expect(try rig.job("b")?.missed == 6)
        try rig.end(rig.claim("b"))
        try rig.pass(at: "2026-03-08T17:30:00Z")
        #expect(try rig.runs(.queued) == [])
        #expect(try rig.job("b")?.missed == 0)
    }

    @Test func `a run that nobody took up because its agent went away is taken back`() throws {
        let rig = try Rig(["a", "b"], policy(full: "0 3 * * *"))
        rig.fleet.capturesAtOnce = 1
        try rig.wait("a")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        #expect(try rig.runs(.queued) == ["a"])
        try rig.wait("b")
        try rig.pass()
        #expect(try rig.runs(.queued) == ["b"])
        #expect(try rig.catalogue.runs().count == 1)
        // What a person asked for stays, and stands for the one that is due.
        let host = try #require(rig.hosts["a"])
        let asked = try rig.catalogue.queueRun(host: host)
        try rig.end(rig.claim("b"))
        try rig.wait("a", "b")
        try rig.pass()
        #expect(try rig.job("a")?.run == asked.id)
        try rig.wait("b")
        try rig.pass()
        #expect(try rig.runs(.queued) == ["a"])
        // Nobody waits any more where the serve is gone.
        try rig.wait("a", "b")
        #expect(try rig.catalogue.waitingAgents().count == 2)
        rig.endServe()
        while try !rig.catalogue.waitingAgents().isEmpty { Time.sleep(seconds: 0.01) }
    }

    @Test func `a failure is tried again in its window, an interrupted run soon`() throws {
        let rig = try Rig(["lisbon"], policy(full: "0 3 * * *"))
        try rig.wait("lisbon")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        try rig.end(rig.claim("lisbon"), .failed, .dump)
        try rig.pass(at: "2026-03-02T03:01:00Z")
        #expect(try rig.runs(.queued) == [])
        #expect(try rig.job("lisbon")?.attempts == 1)
        #expect(try rig.job("lisbon")?.waits?.contains("tried again at") == true)
        try rig.pass(at: "2026-03-02T03:10:00Z")
        #expect(try rig.runs(.queued) == ["lisbon"])
        // The process that works on it dies without a word.
        let (lease, run) = try rig.claim("lisbon")
        lease.catalogue.close()
        while try !rig.catalogue.liveLeases().isEmpty { Time.sleep(seconds: 0.01) }
        try rig.pass(at: "2026-03-02T03:20:00Z")
        #expect(try rig.catalogue.run(run.id)?.state == .interrupted)
        #expect(try rig.job("lisbon")?.attempts == 2)
        try rig.pass(at: "2026-03-02T03:21:00Z")
        let again = try rig.claim("lisbon")
        #expect(again.1.id != run.id)
        try rig.end(again)
        try rig.pass()
        #expect(try rig.job("lisbon")?.due == nil)
    }

    @Test func `whoever takes the duty over goes on where the other was`() throws {
        let rig = try Rig(["a", "b", "c"], policy(full: "0 3 * * *"))
        try rig.wait("a", "b", "c")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        let first = try rig.claim("a")
        try rig.takeOver()
        try rig.pass()
        try rig.pass()
        #expect(try rig.catalogue.runs().count == 2)
        try rig.end(first)
        try rig.takeOver()
        try rig.pass(at: "2026-03-02T03:10:00Z")
        #expect(try rig.runs(.queued) == ["b", "c"])
        try rig.end(rig.claim("b"))
        try rig.end(rig.claim("c"))
        try rig.takeOver()
        try rig.pass(at: "2026-03-02T03:20:00Z")
        #expect(try rig.catalogue.runs().count == 3)
        #expect(try ["a", "b", "c"].allSatisfy { try rig.job($0)?.due == nil })
    }

    @Test func `the important host comes first, and a person's capture takes a place`() throws {
        let rig = try Rig(["a", "b", "c"], policy(full: "0 3 * * *"))
        var important = rig.fleet.defaults
        important.priority = 7
        rig.fleet.hosts["c"] = important
        try rig.wait("a", "b", "c")
        let host = try #require(rig.hosts["b"])
        _ = try rig.catalogue.queueRun(host: host)
        let byHand = try rig.claim("b")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        #expect(try rig.runs(.queued) == ["c"])
        #expect(try rig.job("b")?.waits?.contains("under way") == true)
        // It was begun before the other was due, so that one follows.
        try rig.catalogue.connection.execute(
            "UPDATE runs SET started = $2 WHERE id = $1",
            [byHand.1.id, instant("2026-03-02T02:50:00Z")]
        )
        try rig.end(byHand)
        try rig.end(rig.claim("c"))
        try rig.pass(at: "2026-03-02T03:20:00Z")
        #expect(try rig.runs(.queued).sorted() == ["a", "b"])
    }

    @Test func `a full capture makes one of the database needless that is due at the same time`() throws {
        let rig = try Rig(["lisbon"], policy(full: "0 3 * * *", database: "0 3,15 * * *"))
        try rig.wait("lisbon")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        try rig.pass()
        #expect(try rig.catalogue.openRuns().map(\.kind) == [.full])
        try rig.end(rig.claim("lisbon"))
        try rig.pass(at: "2026-03-02T03:30:00Z")
        #expect(try rig.catalogue.openRuns().isEmpty)
        #expect(try rig.job("lisbon", .database)?.due == nil)
        try rig.pass(at: "2026-03-02T15:00:00Z")
        #expect(try rig.catalogue.openRuns().map(\.kind) == [.database])
        try rig.end(rig.claim("lisbon", .database))
        // When the full one fails the database does not wait for it.
        try rig.pass(at: "2026-03-03T03:00:00Z")
        try rig.end(rig.claim("lisbon"), .failed, .agent)
        try rig.pass(at: "2026-03-03T03:01:00Z")
        #expect(try rig.catalogue.openRuns().map(\.kind) == [.database])
    }

    @Test func `forget follows a full capture and prune its own time, one after the other`() throws {
        var forgetting = try policy(full: "0 3 * * *", prune: "0 3 * * *")
        forgetting.retention = [.full: RetentionPolicy([.daily: 7])]
        let rig = try Rig(["a", "b"], forgetting)
        try rig.wait("a")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        try rig.pass()
        // a's capture comes before its prune; b's agent is away, so its prune need not wait.
        #expect(
            try rig.catalogue.openRuns().map { "\($0.hostName) \($0.kind)" }.sorted() == [
                "a full", "b prune",
            ]
        )
        #expect(try rig.pass().map(\.hostName) == ["b"])
        let capture = try rig.claim("a")
        rig.now += 5 * minute
        try rig.end(capture)
        rig.now += 5 * minute
        try rig.pass()
        #expect(try rig.job("a", .forget)?.waits?.contains("another host's") == true)
        try rig.end(rig.claim("b", .prune))
        try rig.pass()
        #expect(try rig.pass().map(\.kind) == [.forget])
        // A command that ended without a word about its run.
        let errand = try #require(try rig.pass().first)
        try rig.catalogue.failRun(errand.run, reason: "its command ended: exit status 64")
        try rig.pass()
        #expect(try rig.catalogue.run(errand.run)?.state == .failed)
        #expect(try rig.pass().map(\.kind) == [.prune])
        try rig.end(rig.claim("a", .prune))
        try rig.pass(at: "2026-03-02T03:20:00Z")
        try rig.pass()
        #expect(try rig.catalogue.openRuns().map(\.kind) == [.forget])
        try rig.end(rig.claim("a", .forget))
        try rig.pass()
        #expect(try rig.catalogue.openRuns().isEmpty)
    }

    @Test func `what the inventory wants no more goes, and what was under way with it when it is over`()
        throws
    {
        let rig = try Rig(["a", "b"], policy(full: "0 3 * * *"))
        try rig.wait("a", "b")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        let claimed = try rig.claim("a")
        rig.fleet.defaults = try policy()
        try rig.pass()
        #expect(try rig.runs(.queued) == [])
        #expect(try rig.catalogue.jobs().map(\.host) == [claimed.0.host.id])
        try rig.end(claimed)
        try rig.pass()
        #expect(try rig.catalogue.jobs().isEmpty)
        // A host that is taken out has none either.
        rig.fleet.defaults = try policy(full: "0 3 * * *")
        try rig.pass()
        #expect(try rig.catalogue.jobs().count == 2)
        try rig.catalogue.removeHost("a")
        try rig.pass()
        #expect(try rig.catalogue.jobs().count == 1)
    }

    @Test func `what a person cancels is not tried again before its next time`() throws {
        let rig = try Rig(["lisbon"], policy(full: "0 3 * * *"))
        try rig.wait("lisbon")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        let run = try #require(try rig.catalogue.openRuns().first)
        #expect(try rig.catalogue.cancelQueuedRun(run.id))
        try rig.pass(at: "2026-03-02T03:30:00Z")
        #expect(try rig.runs(.queued) == [])
        #expect(try rig.job("lisbon")?.note?.contains("cancelled") == true)
        try rig.pass(at: "2026-03-03T03:00:00Z")
        #expect(try rig.runs(.queued) == ["lisbon"])
        // One that is under way is asked.
        let (lease, running) = try rig.claim("lisbon")
        #expect(try !rig.catalogue.cancelQueuedRun(running.id))
        #expect(try rig.catalogue.requestCancel(run: running.id))
        #expect(try rig.catalogue.run(running.id)?.cancelRequested != nil)
        try rig.end((lease, running), .cancelled)
    }

    @Test func `runs are found by the beginning of their ids`() throws {
        let rig = try Rig(["lisbon"], policy())
        let run = try rig.catalogue.queueRun(host: #require(rig.hosts["lisbon"]))
        for text in [String(run.id.prefix(4)), run.id, run.id.uppercased()] {
            #expect(try rig.catalogue.runs(beginningWith: text).map(\.id) == [run.id])
        }
        for text in ["", "%", "_", "xyz", "'"] {
            #expect(try rig.catalogue.runs(beginningWith: text).isEmpty)
        }
    }

    @Test func `a thousand hosts are looked through in a moment`() throws {
        let rig = try Rig([], policy(full: "0 3 * * *", database: "0 */6 * * *", prune: "0 9 * * 0"))
        try rig.catalogue.connection.execute(
            "INSERT INTO hosts (name, added) SELECT 'h' || n, 1 FROM generate_series(1, 1000) n"
        )
        try rig.pass(at: "2026-03-02T00:00:00Z")
        #expect(try rig.catalogue.jobs().count == 3000)
        let start = Time.monotonic()
        try rig.pass(at: "2026-03-02T02:00:00Z")
        print("a pass over a thousand hosts: \((Time.monotonic() - start) / 1_000_000) ms")
        try rig.pass(at: "2026-03-02T03:00:00Z")
        #expect(try rig.catalogue.jobs().count { $0.kind == .full && $0.due != nil } == 1000)
        #expect(try rig.catalogue.openRuns().isEmpty)
    }
}
