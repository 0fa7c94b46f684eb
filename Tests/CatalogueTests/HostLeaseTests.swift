import Catalogue
import Glibc
import Posix
import Postgres
import TestSupport
import Testing

@Suite struct HostLeaseTests {
    @Test func `a second capture is told who holds the lock, since when and how far`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let lease = try HostLease(host, .capture, server: address)
        let run = try lease.catalogue.startRun(for: lease)
        var figures = RunFigures()
        figures.bytesSeen = 62
        figures.bytesExpected = 100
        try lease.catalogue.progress(run.id, lease: lease, phase: "files", figures: figures)
        do {
            _ = try HostLease(host, .capture, server: address)
            Issue.record("two hold one lock")
        } catch CatalogueError.locked(let name, _, let holders) {
            #expect(name == "porto")
            let holder = try #require(holders.first)
            #expect(holders.count == 1)
            #expect(holder.lease == lease.id)
            #expect(holder.pid == getpid())
            #expect(holder.machine == Host.name)
            #expect(holder.kind == "capture")
            #expect(holder.run == run.id)
            #expect(holder.epoch == lease.epoch)
            #expect(holder.fraction == 0.62)
            #expect(holder.locks == ["run", "repository"])
            #expect(abs(holder.since - Time.now()) < 60_000_000_000)
            #expect(holder.description.contains("files, 62 %"))
        }
        let other = try catalogue.addHost("lisbon")
        _ = try HostLease(other, .capture, server: address)
    }

    @Test func `readers go beside a capture, a deletion beside nobody`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let capture = try HostLease(host, .capture, server: address)
        let one = try HostLease(host, .reading, server: address)
        let two = try HostLease(host, .reading, server: address)
        #expect(one.epoch == nil)
        #expect(throws: CatalogueError.self) { try HostLease(host, .deleting, server: address) }
        #expect(try catalogue.holders().count == 3)
        capture.release()
        one.release()
        two.release()
        waitUntil { (try? catalogue.holders().isEmpty) == true }
        let deleting = try HostLease(host, .deleting, server: address)
        #expect(throws: CatalogueError.self) { try HostLease(host, .reading, server: address) }
        #expect(throws: CatalogueError.self) { try HostLease(host, .capture, server: address) }
        #expect(try catalogue.holders(host: host.id).map(\.locks) == [["repository!"]])
        #expect(deleting.epoch == 2)
    }

    @Test func `an epoch grows, and above what the repository knows`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        var seen: [Int64?] = []
        for floor in [Int64(0), 0, 40, 7] {
            let lease = try HostLease(host, .capture, server: address, epochFloor: floor)
            seen.append(lease.epoch)
            lease.release()
            waitUntil { (try? catalogue.holders().isEmpty) == true }
        }
        #expect(seen == [1, 2, 41, 42])
    }

    @Test func `publishing puts the file, the row and the run's snapshot in place`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let lease = try HostLease(host, .capture, server: address)
        let run = try lease.catalogue.startRun(for: lease)
        var placed = 0
        try lease.publish(snapshot("aa", run: run.id)) { placed += 1 }
        #expect(placed == 1)
        #expect(try catalogue.latestSnapshot(of: host)?.epoch == lease.epoch)
        #expect(try catalogue.run(run.id)?.snapshot == "aa")
    }

    @Test func `a file that cannot be placed leaves no row`() throws {
        struct Full: Error {}
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let lease = try HostLease(host, .capture, server: address)
        #expect(throws: Full.self) { try lease.publish(snapshot("aa")) { throw Full() } }
        #expect(try catalogue.snapshots(of: host).isEmpty)
        try lease.publish(snapshot("bb")) {}
        #expect(try catalogue.snapshots(of: host).count == 1)
    }

    @Test func `a paused holder whose connection was ended cannot publish`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let paused = try HostLease(host, .capture, server: address)
        try paused.verifyStillHeld()
        let backend = try #require(try catalogue.holders().first?.backend)
        try catalogue.connection.execute("SELECT pg_terminate_backend($1)", [backend])
        waitUntil { (try? catalogue.holders().isEmpty) == true }
        let next = try HostLease(host, .capture, server: address)
        #expect(next.epoch == 2)
        var placed = false
        #expect(
            refusal { try paused.publish(snapshot("aa")) { placed = true } }.hasPrefix(
                "lost the lock of porto"
            )
        )
        #expect(!placed)
        #expect(refusal { try paused.verifyStillHeld() }.hasPrefix("lost the lock of porto"))
        try next.publish(snapshot("bb")) {}
        #expect(try catalogue.snapshots(of: host).map(\.id) == ["bb"])
    }

    @Test func `a change of files and rows is done under the epoch, and a row that could not follow stays`()
        throws
    {
        struct Full: Error {}
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        try catalogue.put(snapshot("aa"), host: host.id)
        let lease = try HostLease(host, .deleting, server: address)
        #expect(throws: Full.self) {
            try lease.change { _ in
                try lease.catalogue.setForgotten("aa", host: host.id, at: 7)
                throw Full()
            }
        }
        #expect(try catalogue.snapshots(of: host).map(\.id) == ["aa"])
        var seen: Int64?
        try lease.change { epoch in
            seen = epoch
            try lease.catalogue.setForgotten("aa", host: host.id, at: 7)
        }
        #expect(seen == lease.epoch)
        #expect(try catalogue.snapshots(of: host).isEmpty)
        let forgotten = try catalogue.forgottenSnapshots(of: host)
        #expect(forgotten.map(\.id) == ["aa"] && forgotten[0].forgotten == 7)
        #expect(try !catalogue.setForgotten("aa", host: host.id, at: 7))
        try catalogue.setPresent("aa", host: host.id)
        #expect(try catalogue.snapshots(of: host).first?.forgotten == nil)
        #expect(try catalogue.forgottenSnapshots(of: host).isEmpty)

        // A paused holder changes nothing any more, and who only reads never does.
        try catalogue.connection.execute("UPDATE hosts SET epoch = epoch + 1 WHERE id = $1", [host.id])
        var called = false
        #expect(refusal { try lease.change { _ in called = true } }.hasPrefix("lost the lock of porto"))
        lease.release()
        waitUntil { (try? catalogue.holders().isEmpty) == true }
        let reader = try HostLease(host, .reading, server: address)
        #expect(refusal { try reader.change { _ in called = true } }.contains("changes nothing"))
        #expect(!called)
    }

    @Test func `a holder whose epoch was taken over cannot publish though its connection lives`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let lease = try HostLease(host, .capture, server: address)
        try catalogue.connection.execute("UPDATE hosts SET epoch = epoch + 1 WHERE id = $1", [host.id])
        var placed = false
        let text = refusal { try lease.publish(snapshot("aa")) { placed = true } }
        #expect(text == "lost the lock of porto: epoch 1 was taken over by epoch 2")
        #expect(!placed)
        #expect(refusal { try lease.verifyStillHeld() } == text)
    }

    @Test func `a holder whose session lost its locks cannot publish`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let lease = try HostLease(host, .capture, server: address)
        try lease.catalogue.connection.execute("SELECT pg_advisory_unlock_all()")
        #expect(refusal { try lease.verifyStillHeld() }.contains("the server no longer knows of it"))
        var placed = false
        #expect(throws: CatalogueError.self) { try lease.publish(snapshot("aa")) { placed = true } }
        #expect(!placed)
    }

    @Test func `nobody can take over between the comparison and the commit`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let lease = try HostLease(host, .capture, server: address)
        let order = Answers()
        try lease.publish(snapshot("aa")) {
            let thread = try Thread("takeover") {
                let other = try Catalogue(address: address)
                try other.connection.execute("UPDATE hosts SET epoch = epoch + 1 WHERE id = $1", [host.id])
                order.add("taken over")
            }
            thread.detach()
            Time.sleep(seconds: 0.3)
            // Rows that refer to the host do not wait for the publication.
            _ = try catalogue.queueRun(host: host)
            order.add("placed")
        }
        waitUntil { order.all.count == 2 }
        #expect(order.all == ["placed", "taken over"])
    }

    @Test func `a reader publishes nothing`() throws {
        let (catalogue, address) = try newCatalogue()
        let lease = try HostLease(catalogue.addHost("porto"), .reading, server: address)
        try lease.verifyStillHeld()
        #expect(throws: PostgresError.self) { try lease.publish(snapshot("aa")) {} }
    }

    @Test func `a killed holder's locks are free at once`() async throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        await #expect(processExitsWith: .signal(SIGKILL)) { [address = address as String] in
            let catalogue = try Catalogue(address: address)
            let lease = try HostLease(catalogue.host(named: "porto"), .capture, server: address)
            _ = try lease.catalogue.startRun(for: lease)
            kill(getpid(), SIGKILL)
        }
        waitUntil { (try? catalogue.holders().isEmpty) == true }
        let next = try HostLease(host, .capture, server: address)
        #expect(next.epoch == 2)
        #expect(try catalogue.endAbandonedRuns().map(\.state) == [.interrupted])
    }
}
