import Capture
import Glibc
import Immich
import JSON
import Posix
import Testing
import Wire

@Suite("A capture's dump")
struct DumpTests {
    @Test func `the database alone is taken without a look at Immich's folders, which may be gone`() throws {
        let host = try FakeHost()
        try Files.removeTree(host.media)
        let (outcome, coordinator) = try host.capture { $0.kind = .database }
        #expect(outcome.isCommitted, "\(outcome)")
        #expect(coordinator.problem == nil)
        #expect(String(decoding: coordinator.dump, as: UTF8.self) == FakeHost.wholeDump)
        #expect(coordinator.paths == ["deployment", "immich", "deployment/facts.json", "immich/backups"])
        let facts = try JSON(parsing: coordinator.files["deployment/facts.json"]?.bytes ?? [])
        #expect(facts["immich"]?["mediaLocation"]?.string == "/data")
        // The dump must be whole all the same.
        try host.dump("-- PostgreSQL database dump\n")
        #expect(try host.capture { $0.kind = .database }.outcome.failure?.contains("bytes long") == true)
        // And a full one needs the folders.
        #expect(try host.capture().outcome.failure?.contains("Immich's folder") == true)
    }

    @Test func `the program is the one of Immich's version`() throws {
        let host = try FakeHost()
        #expect(try host.capture().coordinator.dumpKind == .database)
        #expect(
            host.log("dump").contains(
                "/pg_dump --clean --if-exists --lock-wait-timeout=300000 holdfast run-1"
            )
        )
        try host.psql(immich: "2.4.1")
        try host.dump(
            FakeHost.wholeDump.replacing("PostgreSQL database dump", with: "PostgreSQL database cluster dump")
        )
        let (outcome, coordinator) = try host.capture()
        #expect(outcome.isCommitted, "\(outcome)")
        #expect(coordinator.dumpKind == .cluster)
        #expect(coordinator.dumpName.hasSuffix("-v2.4.1-pg14.19.sql"))
        #expect(host.log("dump").contains("/pg_dumpall "))
    }

    @Test(arguments: [
        ("exit 3", "the dump program failed (exit status 3): pg_dump: error: it broke"),
        ("kill -9 $$", "the dump program failed (exit status 137): pg_dump: error: it broke"),
    ])
    func `a dump that fails says what its program said`(end: (String, String)) throws {
        let host = try FakeHost()
        try host.dump(FakeHost.wholeDump, then: "echo 'pg_dump: error: it broke' >&2; \(end.0)")
        let (outcome, coordinator) = try host.capture()
        #expect(outcome.failure?.hasPrefix(end.1) == true, "\(outcome)")
        #expect(coordinator.failure == outcome.failure)
        #expect(!coordinator.dumpEnded && !coordinator.committed)
        // What may be left of it in the server is ended by its name.
        #expect(host.log("psql").contains("pg_terminate_backend(pid)"))
        #expect(host.log("psql").contains("'holdfast run-1'"))
    }

    @Test func `a dump without its closing line, or too short, is a failure though its status is 0`() throws {
        let host = try FakeHost()
        try host.dump(String(FakeHost.wholeDump.dropLast(30)))
        #expect(try host.capture().outcome.failure?.contains("lacks its closing line") == true)
        try host.dump("--\n-- PostgreSQL database dump\n--\n-- PostgreSQL database dump complete\n")
        #expect(try host.capture().outcome.failure?.contains("bytes long, less than 1024") == true)
        try host.dump("")
        #expect(try host.capture().outcome.failure?.contains("only 0 bytes long") == true)
    }

    @Test func `an abort ends the dump at once, its program too`() throws {
        let host = try FakeHost()
        try host.dump(FakeHost.wholeDump, then: "echo $$ >'\(host.folder)/pid'; exec sleep 300")
        let start = Time.monotonic()
        let (outcome, coordinator) = try host.capture { $0.abortsAt = { $0 >= 2 } }
        guard case .aborted = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(coordinator.failure == "")
        #expect(Time.monotonic() - start < 10_000_000_000)
        #expect(try isGone(host))
    }

    @Test func `when the coordinator goes away the dump ends`() throws {
        let host = try FakeHost()
        try host.dump(FakeHost.wholeDump, then: "echo $$ >'\(host.folder)/pid'; exec sleep 300")
        struct Gone: Error {}
        #expect(throws: (any Error).self) {
            try host.capture { $0.onDumpFrame = { throw Gone() } }
        }
        #expect(try isGone(host))
    }

    @Test func `a stop during the dump ends it`() throws {
        let host = try FakeHost()
        try host.dump(FakeHost.wholeDump, then: "echo $$ >'\(host.folder)/pid'; exec sleep 300")
        let stop = StopFlag()
        let (outcome, _) = try host.capture(stop: stop) { $0.onDumpFrame = { stop.set() } }
        #expect(outcome.failure == "the agent was stopped")
        #expect(try isGone(host))
    }

    /// Whether the program that wrote its number ended, within 5 s.
    private func isGone(_ host: FakeHost) throws -> Bool {
        let text = String(decoding: try Files.read("\(host.folder)/pid"), as: UTF8.self)
        guard let pid = pid_t(text.filter(\.isNumber)) else { return false }
        for _ in 0..<50 {
            let stat = (try? Files.read("/proc/\(pid)/stat")).map { String(decoding: $0, as: UTF8.self) }
            if stat == nil || stat?.contains(") Z ") == true { return true }
            Time.sleep(seconds: 0.1)
        }
        kill(pid, SIGKILL)
        return false
    }
}
