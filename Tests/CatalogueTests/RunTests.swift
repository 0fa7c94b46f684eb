import Catalogue
import Posix
import Postgres
import TestSupport
import Testing
import Wire

/// A snapshot's row with made-up figures.
func snapshot(_ id: String, run: String? = nil, time: Int64 = 1, incomplete: Bool = false) -> SnapshotRow {
    SnapshotRow(
        id: id,
        run: run,
        time: time,
        tree: "t" + id,
        epoch: 0,
        scope: "originals",
        dumpName: "immich-db-backup.sql",
        dumpBytes: 1 << 40,
        immichVersion: "2.3.1",
        postgresVersion: "14.19",
        files: 10,
        bytes: 1000,
        storedBytes: 400,
        incomplete: incomplete
    )
}

@Suite struct RunTests {
    @Test func `a queued run wakes its host and is claimed once`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let listener = try PostgresConnection(address, applicationName: "test")
        try listener.listen(Catalogue.Channel.jobs)
        try listener.listen(Catalogue.Channel.runs)
        let queued = try catalogue.queueRun(host: host)
        #expect(queued.state == .queued)
        #expect(try catalogue.queueRun(host: host).id == queued.id)
        #expect(try catalogue.hostsWithQueuedRuns() == [host.id])
        let heard = try listener.notifications(timeout: 5)
        #expect(heard.contains(.init(channel: Catalogue.Channel.jobs, payload: String(host.id))))

        let lease = try HostLease(host, .capture, server: address)
        let claimed = try lease.catalogue.claimRun(for: lease)
        #expect(claimed?.id == queued.id)
        #expect(claimed?.state == .running)
        #expect(claimed?.epoch == lease.epoch)
        #expect(claimed?.holder == lease.id)
        #expect(try lease.catalogue.claimRun(for: lease) == nil)
        #expect(try catalogue.queueRun(host: host).id != queued.id)
        let later = try listener.notifications(timeout: 5)
        #expect(later.contains(.init(channel: Catalogue.Channel.runs, payload: queued.id)))
    }

    @Test func `progress and the end are written by the holder alone`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let lease = try HostLease(host, .capture, server: address)
        let run = try lease.catalogue.startRun(for: lease)
        var figures = RunFigures()
        figures.filesSeen = 5
        figures.bytesSeen = 250
        figures.filesRead = 4
        figures.filesSent = 3
        figures.bytesSent = 2
        figures.bytesStored = 1
        figures.bytesExpected = 1000
        figures.filesExpected = 7
        figures.problems = 1
        try lease.catalogue.progress(run.id, lease: lease, phase: "files", figures: figures)
        #expect(try catalogue.run(run.id)?.figures == figures)
        #expect(try catalogue.run(run.id)?.phase == "files")
        #expect(figures.fraction == 0.25)

        try lease.catalogue.addProblems([.init(path: [0xFF, 0x2F, 0], message: "vanished")], run: run.id)
        #expect(try catalogue.problems(run: run.id) == [.init(path: [0xFF, 0x2F, 0], message: "vanished")])

        try lease.catalogue.finish(run.id, lease: lease, state: .failed, figures: figures, error: "no dump")
        let over = try catalogue.run(run.id)
        #expect(over?.state == .failed)
        #expect(over?.error == "no dump")
        #expect(over?.ended != nil)
        #expect(
            refusal { try lease.catalogue.progress(run.id, lease: lease, phase: "x", figures: figures) }
                .contains("is over or somebody else's")
        )
        #expect(throws: CatalogueError.self) {
            try lease.catalogue.finish(run.id, lease: lease, state: .done, figures: figures)
        }
        #expect(try catalogue.runs(host: host).map(\.id) == [run.id])
        #expect(try catalogue.newestRuns().map(\.id) == [run.id])
    }

    @Test func `runs without a living holder are ended, and no others`() throws {
        let (catalogue, address) = try newCatalogue()
        let dead = try catalogue.addHost("dead")
        let published = try catalogue.addHost("published")
        let alive = try catalogue.addHost("alive")
        let one = try HostLease(dead, .capture, server: address)
        let two = try HostLease(published, .capture, server: address)
        let three = try HostLease(alive, .capture, server: address)
        let runs = try [one, two, three].map { try $0.catalogue.startRun(for: $0) }
        let waiting = try catalogue.queueRun(host: alive)
        try two.publish(snapshot("aa", run: runs[1].id)) {}
        #expect(try catalogue.endAbandonedRuns().isEmpty)
        #expect(try catalogue.liveLeases() == [one.id, two.id, three.id])
        one.release()
        two.release()
        waitUntil { (try? catalogue.liveLeases()) == [three.id] }
        let ended = try catalogue.endAbandonedRuns()
        #expect(Set(ended.map(\.id)) == [runs[0].id, runs[1].id])
        #expect(try catalogue.run(runs[0].id)?.state == .interrupted)
        #expect(try catalogue.run(runs[1].id)?.state == .done)
        #expect(try catalogue.run(runs[1].id)?.snapshot == "aa")
        #expect(try catalogue.run(runs[2].id)?.state == .running)
        #expect(try catalogue.run(waiting.id)?.state == .queued)
        withExtendedLifetime(three) {}
    }

    @Test func `a holder in another database of the same server is nobody here`() throws {
        let (here, _) = try newCatalogue()
        let (there, address) = try newCatalogue()
        let lease = try HostLease(there.addHost("porto"), .capture, server: address)
        #expect(try there.liveLeases() == [lease.id])
        #expect(try here.liveLeases() == [])
    }

    @Test func `a waiting run can be cancelled, a removed host's are`() throws {
        let (catalogue, _) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let first = try catalogue.queueRun(host: host)
        #expect(try catalogue.cancelQueuedRun(first.id))
        #expect(try !catalogue.cancelQueuedRun(first.id))
        let second = try catalogue.queueRun(host: host)
        try catalogue.removeHost("porto")
        #expect(try catalogue.run(second.id)?.state == .cancelled)
    }

    @Test func `snapshots are listed newest first, those set aside apart`() throws {
        let (catalogue, _) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        #expect(try catalogue.latestSnapshot(of: host) == nil)
        var aside = snapshot("cc", time: 30)
        aside.state = .aside
        for row in [snapshot("aa", time: 10), snapshot("bb", time: 20), aside] {
            try catalogue.put(row, host: host.id)
        }
        #expect(try catalogue.snapshots(of: host).map(\.id) == ["bb", "aa"])
        #expect(try catalogue.snapshots(of: host, asideToo: true).map(\.id) == ["cc", "bb", "aa"])
        #expect(try catalogue.latestSnapshot(of: host) == snapshot("bb", time: 20))
        #expect(try catalogue.latestSnapshots() == [host.id: snapshot("bb", time: 20)])
        try catalogue.removeSnapshot("bb", host: host.id)
        #expect(try catalogue.latestSnapshot(of: host)?.id == "aa")
    }

    @Test
    func
        `each kind is queued, claimed and counted by itself, and what the coordinator does alone wakes no agent`()
        throws
    {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        _ = try catalogue.queueRun(host: host, kind: .prune)
        #expect(try catalogue.hostsWithQueuedRuns() == [])
        let database = try catalogue.queueRun(host: host, kind: .database)
        let full = try catalogue.queueRun(host: host, kind: .full)
        #expect(database.id != full.id)
        #expect(try catalogue.hostsWithQueuedRuns() == [host.id])
        let lease = try HostLease(host, .capture, server: address)
        #expect(try lease.catalogue.claimRun(for: lease, kind: .full)?.id == full.id)
        try catalogue.refuseQueuedRuns(host: host.id, reason: "busy")
        #expect(try catalogue.run(database.id)?.failure == .locked)
        try catalogue.failQueuedRuns(host: host.id, reason: "no", failure: .storage)
        #expect(try catalogue.runs(host: host).count { $0.kind == .prune && $0.state == .queued } == 1)

        var alone = snapshot("dd", time: 50)
        alone.kind = .database
        alone.scope = ""
        for row in [snapshot("aa", time: 10), alone] { try catalogue.put(row, host: host.id) }
        #expect(try catalogue.latestSnapshot(of: host)?.id == "aa")
        #expect(try catalogue.latestSnapshot(of: host, kind: .database) == alone)
        #expect(try catalogue.latestSnapshots(kind: .database)[host.id]?.id == "dd")
        #expect(try catalogue.latestSnapshots()[host.id]?.id == "aa")
    }

    @Test func `a running run is asked to end, once, and its holder hears of it with its progress`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let listener = try PostgresConnection(address, applicationName: "test")
        try listener.listen(Catalogue.Channel.cancel)
        let lease = try HostLease(host, .capture, server: address)
        let run = try lease.catalogue.startRun(for: lease)
        func progress() throws -> Bool {
            try lease.catalogue.progress(run.id, lease: lease, phase: "dump", figures: RunFigures())
        }
        #expect(try !progress())
        #expect(try catalogue.requestCancel(run: run.id))
        let asked = try catalogue.run(run.id)?.cancelRequested
        #expect(asked != nil)
        #expect(try catalogue.requestCancel(run: run.id))
        #expect(try catalogue.run(run.id)?.cancelRequested == asked)
        #expect(try progress())
        #expect(try listener.notifications(timeout: 5).first?.payload == run.id)
        try lease.catalogue.finish(
            run.id,
            lease: lease,
            state: .cancelled,
            figures: RunFigures(),
            failure: .cancelled
        )
        #expect(try !catalogue.requestCancel(run: run.id))
        #expect(try catalogue.run(run.id)?.failure == .cancelled)
        // One whose holder died of it is cancelled too, and not tried again as an interrupted one would be.
        let second = try lease.catalogue.startRun(for: lease)
        #expect(try catalogue.requestCancel(run: second.id))
        lease.release()
        waitUntil { (try? catalogue.liveLeases()) == [] }
        #expect(try catalogue.endAbandonedRuns().map(\.state) == [.cancelled])
    }

    @Test func `a run's log keeps its order and its limits, and goes with the run`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let lease = try HostLease(host, .capture, server: address)
        let run = try lease.catalogue.startRun(for: lease)
        for number in 0..<520 { try catalogue.log("line \(number)", run: run.id, at: Int64(number)) }
        let other = try lease.catalogue.startRun(for: lease)
        try catalogue.log(String(repeating: "é", count: 5000), run: other.id)
        let lines = try catalogue.log(of: run.id)
        #expect(lines.count == 500 && lines.first?.text == "line 0" && lines.last?.time == 499)
        #expect(try catalogue.log(of: other.id).first?.text.utf8.count == 2000)

        // The newest stay, and what is not over stays whatever its age.
        try lease.catalogue.finish(run.id, lease: lease, state: .done, figures: RunFigures())
        #expect(try catalogue.removeOldRuns() == 0)
        let later = Time.now() + 366 * 86_400 * 1_000_000_000
        #expect(try catalogue.removeOldRuns(now: later) == 1)
        #expect(try catalogue.run(run.id) == nil)
        #expect(try catalogue.run(other.id)?.state == .running)
        #expect(try catalogue.connection.query("SELECT FROM run_log WHERE run_id = $1", [run.id]).count == 0)
        for _ in 0..<5 {
            let more = try lease.catalogue.startRun(for: lease)
            try lease.catalogue.finish(more.id, lease: lease, state: .done, figures: RunFigures())
        }
        #expect(try catalogue.removeOldRuns(keep: 3) == 2)
        #expect(try catalogue.runs(host: host).count == 4)
    }

    @Test func `contacts, clocks and coordinators are written down`() throws {
        let (catalogue, _) = try newCatalogue()
        let porto = try catalogue.addHost("porto")
        let lisbon = try catalogue.addHost("lisbon")
        for (host, key) in [(porto, "SHA256:p"), (lisbon, "SHA256:old"), (lisbon, "SHA256:l")] {
            _ = try catalogue.join(token: catalogue.makeToken(for: host), publicKey: [1], fingerprint: key)
        }
        try catalogue.noteContact(keys: [])
        #expect(try catalogue.host(named: "porto").lastContact == nil)
        // The machine that was replaced is still connected.
        try catalogue.noteContact(keys: ["SHA256:p", "SHA256:old", "SHA256:unknown"])
        #expect(try catalogue.host(named: "porto").lastContact != nil)
        #expect(try catalogue.host(named: "lisbon").lastContact == nil)
        try catalogue.noteContact(host: lisbon.id, clockSkew: .min)
        let seen = try catalogue.host(named: "lisbon")
        #expect(seen.clockSkew == .min && seen.clockSeen == seen.lastContact && seen.clockSeen != nil)

        #expect(try catalogue.coordinators() == [])
        try catalogue.noteCoordinator(hostKey: "SHA256:a", machine: "nas", addresses: ["nas:1", "nas.vpn:1"])
        try catalogue.noteCoordinator(hostKey: "SHA256:b", machine: "two", addresses: ["two:1"])
        try catalogue.noteCoordinator(hostKey: "SHA256:a", machine: "nas", addresses: ["nas:2"])
        #expect(try catalogue.coordinators().map(\.address) == ["nas:2", "two:1"])
        #expect(try catalogue.coordinators().map(\.hostKey) == ["SHA256:a", "SHA256:b"])
        try catalogue.connection.execute("UPDATE coordinators SET seen = 1 WHERE machine = 'two'")
        #expect(try catalogue.coordinators().map(\.address) == ["nas:2"])
    }

    @Test func `events keep their words and data`() throws {
        let (catalogue, _) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        try catalogue.addEvent(.info, kind: "started", "Holdfast started")
        try catalogue.addEvent(.error, kind: "run-failed", host: host.id, "no dump", data: #"{"code": 21}"#)
        let events = try catalogue.events()
        #expect(events.map(\.kind) == ["run-failed", "started"])
        #expect(events.first?.data == #"{"code": 21}"#)
        #expect(events.first?.severity == .error)
        #expect(try catalogue.events(host: host).count == 1)
    }
}

/// Looks again and again for at most 5 s.
func waitUntil(_ done: () -> Bool) {
    let deadline = Time.monotonic() + 5_000_000_000
    while !done() && Time.monotonic() < deadline { Time.sleep(seconds: 0.01) }
}
