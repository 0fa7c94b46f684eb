import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

@Suite("prune, by the command", .serialized)
struct PruneCommandTests {
    @Test func `it says beforehand what it does, does that, and frees it a day later`() throws {
        let bench = try PruneBench()
        // The row of the one whose grace is over, and one whose file an earlier prune removed before it was killed.
        let lost = try BlobID.hash(of: [1])
        for id in [bench.listings[0].id, lost] {
            try bench.installation.sql(
                """
                INSERT INTO snapshots (host_id, id, time, tree, epoch, scope, files, bytes, stored_bytes, incomplete,
                    state, forgotten) SELECT id, '\(id)', 1, '\(id)', 1, 'originals', 1, 1, 1, false, 'forgotten', 1
                    FROM hosts
                """
            )
            try bench.installation.sql(
                "INSERT INTO proofs SELECT id, '\(id)', 'captured', 1, '{}' FROM hosts"
            )
        }
        let before = try CompleteListing(bench.path)
        let plan = try bench.prune(["--dry-run", "--json"])
        #expect(plan.status == 0, "\(plan)")
        let planned = try #require(plan.json)
        #expect(planned["dry_run"]?.bool == true && planned["unlisted_packs"]?.int == 1)
        let text = try bench.prune(["--dry-run"])
        #expect(
            text.output.contains("would free now:") && text.output.contains("would be taken out of the index")
                && text.output.contains("not needed and left"),
            "\(text)"
        )
        // Its locks have come and gone.
        #expect(try CompleteListing(bench.path) == before)

        let done = try bench.prune()
        #expect(done.status == 0, "\(done)")
        let report = try #require(done.json)
        for name in ["freed_packs", "freed_bytes", "rewritten_packs", "rewritten_bytes", "needed_bytes"] {
            #expect(report[name]?.int == planned[name]?.int, "\(name): \(planned.text()) \(report.text())")
        }
        // What a killed run had left counts with what nothing needs.
        #expect(report["unused_packs"]?.int == (planned["unused_packs"]?.int ?? 0) + 1)
        #expect(report["dropped"]?.array?.map(\.string) == [bench.listings[0].id.hex])
        let run = try bench.installation.sql(
            "SELECT kind, state, bytes_stored > 0 FROM runs ORDER BY requested DESC LIMIT 1"
        )
        #expect(run == "prune|done|t\n", "\(run)")
        let rows = try bench.installation.sql(
            "SELECT (SELECT count(*) FROM snapshots), (SELECT count(*) FROM proofs)"
        )
        #expect(rows == "0|0\n", "\(rows)")
        let log = try bench.installation.sql("SELECT line FROM run_log ORDER BY id DESC LIMIT 1")
        #expect(log.contains("were freed"), "\(log)")
        try bench.expectWhole("pruned")

        let early = try bench.pruneWhole("too early")
        #expect(early["freed_packs"]?.int == 0 && early["later_packs"] == report["later_packs"])
        try bench.age()
        let late = try bench.prune([])
        #expect(late.output.contains("freed now: "), "\(late)")
        #expect(try bench.repository.doomedPacks().isEmpty)
        try bench.conclude("at last")
    }

    @Test func `an open finding holds it, a lock of somebody else's does, and it stops when it is told`()
        throws
    {
        let bench = try PruneBench()
        let before = try CompleteListing(bench.path)
        try bench.installation.sql(
            """
            INSERT INTO findings (host_id, kind, severity, message, freezes, opened, seen)
            SELECT id, 'library-shrank', 'critical', 'the library lost a half', true, 1, 1 FROM hosts
            """
        )
        let held = try bench.prune()
        #expect(held.status == 3 && held.error.contains("the library lost a half"), "\(held)")
        #expect(held.json?["held"]?.array?.count == 1 && held.json?["dropped"]?.array?.isEmpty == true)
        #expect(try CompleteListing(bench.path).isSubset(of: before, without: "holdfast/epoch"))
        let planned = try bench.prune(["--dry-run"])
        #expect(planned.status == 0 && planned.output.contains("the library lost a half"), "\(planned)")
        try bench.installation.sql("UPDATE findings SET closed = 2")

        // A stock client's lock.
        let lock = JSON([
            ("time", JSON(Time.rfc3339(Time.now()))), ("exclusive", JSON(false)), ("hostname", "elsewhere"),
            ("username", "anna"), ("pid", JSON(77)),
        ])
        let file = try bench.repository.write(lock.encoded(), to: .locks)
        let locked = try bench.prune()
        #expect(
            locked.status == 11 && locked.error.contains("anna") && locked.error.contains("elsewhere"),
            "\(locked)"
        )
        // Reading goes on beside it.
        #expect(try bench.prune(["--dry-run"]).status == 0)
        try bench.repository.remove(.locks, file)
        let last = try bench.installation.sql(
            "SELECT state, failure FROM runs ORDER BY requested DESC LIMIT 1"
        )
        #expect(last == "cancelled|locked\n", "\(last)")

        // Told to stop where the first new pack is begun.
        let order = FaultLayer.Order(.command, [.create])
        try bench.layer.set(order)
        #expect(try bench.prune(faulty: true).status == 0)
        let steps = try bench.layer.steps()
        let pack = try #require(steps.first { $0.path.contains("/data/pack-") })
        var stop = order
        stop.action = .stop
        stop.at = pack.number
        for isCancelled in [false, true] {
            try bench.putBack()
            try bench.layer.set(stop)
            let child = try ChildProcess(
                [Programs.coordinator, "--config", bench.installation.configuration, "prune", "lisbon"],
                environment: bench.layer.environment,
                output: .nothing,
                error: .nothing
            )
            let pid = try eventually("it stands still") { bench.layer.fired }
            if isCancelled {
                try bench.installation.sql("UPDATE runs SET cancel_requested = 1 WHERE state = 'running'")
                // It asks once a second.
                Time.sleep(seconds: 1.1)
            } else {
                kill(pid, SIGTERM)
                Time.sleep(seconds: 0.2)
            }
            try bench.layer.clear()
            kill(pid, SIGCONT)
            #expect(try child.wait() == .exit(130))
            let end = try bench.installation.sql(
                "SELECT state, failure FROM runs ORDER BY requested DESC LIMIT 1"
            )
            #expect(end == (isCancelled ? "cancelled|cancelled\n" : "interrupted|stopped\n"), "\(end)")
        }
        try bench.expectWhole("stopped")
        try bench.expectSound("stopped", strictly: false)
        try bench.conclude("stopped")
    }

    @Test func `what it cannot read ends it with 25 and its name, before anything is deleted`() throws {
        let bench = try PruneBench()
        let index = try bench.repository.loadIndex()
        let tree = try bench.repository.snapshot(bench.staying[1]).tree
        let place = try #require(index.lookup(tree, .tree))
        let file = bench.repository.packPath(place.pack)
        chmod(file, 0o600)
        var bytes = try Files.read(file)
        bytes[Int(place.blob.offset) + 40] ^= 1
        try FileDescriptor(open: file, O_WRONLY).writeAll(bytes)
        let before = try CompleteListing(bench.path)
        let outcome = try bench.prune()
        #expect(outcome.status == 25, "\(outcome)")
        #expect(
            outcome.error.contains(tree.hex) && outcome.error.contains("nothing was pruned"),
            "\(outcome)"
        )
        #expect(before.isSubset(of: try CompleteListing(bench.path), without: "holdfast/epoch"))
        #expect(try bench.prune(["--dry-run"]).status == 25)
        // Whoever did not look is told, until a prune finds all that it needs.
        let open = "SELECT severity FROM findings WHERE kind = 'damage' AND closed IS NULL"
        #expect(try bench.installation.sql(open) == "critical\n")
        bytes[Int(place.blob.offset) + 40] ^= 1
        try FileDescriptor(open: file, O_WRONLY).writeAll(bytes)
        #expect(try bench.prune().status == 0)
        #expect(try bench.installation.sql(open).isEmpty)
    }
}

/// Names of all files below a folder.
private struct CompleteListing: Equatable {
    private let names: Set<String>

    init(_ folder: String) throws {
        let found = try Outcome.of([
            "find", folder, "-type", "f", "-not", "-path", "*/locks/*", "-printf", "%P\n",
        ])
        names = Set(found.output.split(separator: "\n").map(String.init))
    }

    func isSubset(of other: CompleteListing, without name: String) -> Bool {
        names.subtracting([name]).isSubset(of: other.names)
    }
}
