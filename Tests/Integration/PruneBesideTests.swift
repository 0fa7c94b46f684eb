import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

/// Prune, captures and a stock restic on one repository at the same time.
@Suite("Prune beside others", .serialized)
struct PruneBesideTests {
    private static let day: Int64 = 86_400_000_000_000

    private func repository(_ rig: FaultRig) throws -> Repository {
        try Repository.open(at: rig.installation.repository("lisbon"), password: rig.password.get())
    }

    /// What stands in the newest snapshot of the rig's own folder, restored.
    private func expectRestored(_ rig: FaultRig, _ snapshot: String, _ listing: TreeListing, _ what: String)
        throws
    {
        let target = rig.installation.folder + "/restored"
        defer { try? Files.removeTree(target) }
        let part = "immich/upload/" + (rig.folder.split(separator: "/").last.map(String.init) ?? "")
        let outcome = try rig.installation.coordinator(
            "restore",
            "lisbon",
            "--snapshot",
            snapshot,
            "--to",
            target,
            "--include",
            part
        )
        #expect(outcome.status == 0, "\(what): \(outcome)")
        #expect(try listing.differences(to: TreeListing(target + "/" + part)) == [], "\(what)")
    }

    @Test func `over and over, every backup that was done comes back whole`() throws {
        let rig = try FaultRig()
        try rig.change(photos: 10)
        try rig.backup()
        let repository = try repository(rig)
        let folder = rig.installation.folder + "/stock"
        try Files.makeDirectories(folder)
        let password = try rig.password.get()
        var kept: [(snapshot: String, listing: TreeListing)] = rig.listings
        var ends: [String: Int] = [:]
        let rounds = isLong ? 40 : 4
        var round = 0
        // Who comes first is chance; each has its turn sooner or later.
        func hadItsTurn(_ name: String) -> Bool { ends["\(name) 0", default: 0] > 0 }
        while round < rounds || !(hadItsTurn("prune") && hadItsTurn("backup")) && round < 6 * rounds {
            defer { round += 1 }
            try rig.change(photos: 3)
            try Files.writeAtomically(rig.random.bytes(50_000), to: "\(folder)/\(round % 5)", mode: 0o644)
            let listing = try TreeListing(rig.folder)
            let shared = Unchecked(rig)
            let outcomes = Results<String>()
            func note(_ name: String, _ body: @escaping @Sendable () throws -> String) throws
                -> Posix.Thread.Running
            {
                try Posix.Thread.Running(once: {
                    do { outcomes.add("\(name) \(try body())") } catch { outcomes.add("\(name) \(error)") }
                })
            }
            let stock = Restic(repository.path, password: password)
            let chosen = [
                ["backup", folder], ["check"], ["prune"],
                ["forget", "--keep-last", "1", "--prune", "--path", folder],
            ][
                round % 4
            ]
            let pause = Double(rig.random.below(1500)) / 1000
            let threads = [
                try note("backup") { "\(try shared.value.run().status)" },
                try note("prune") {
                    Time.sleep(seconds: pause)
                    return "\(try shared.value.installation.coordinator("prune", "lisbon").status)"
                },
                try note("restic") { "\(chosen[0]) \(try stock.attempt(chosen).exit)" },
            ]
            for thread in threads { thread.end() }
            for end in outcomes.values { ends[end, default: 0] += 1 }
            #expect(!Set(["prune 0", "prune 11"]).isDisjoint(with: outcomes.values), "\(outcomes.values)")
            let host = try rig.settled()
            if outcomes.values.contains("backup 0"), let id = host["run"]?["snapshot"]?.string {
                kept.append((id, listing))
            }
            let what = "round \(round): \(outcomes.values.sorted()), seed \(rig.seed)"
            let check = try stock.attempt(["check", "--read-data"])
            #expect(check.exit == .exit(0), "\(what): \(check.text)")
            // The oldest is forgotten, eight days ago, and what is out of the index is so for two days.
            if kept.count > 3, let id = BlobID(hex: kept[0].snapshot) {
                kept.removeFirst()
                try repository.forget(id, at: Time.now() - 8 * Self.day)
            }
            try repository.writeDoomed(repository.doomedPacks().mapValues { $0 - 2 * Self.day })
        }
        for (snapshot, listing) in kept { try expectRestored(rig, snapshot, listing, "at last") }
        print("prune beside others: \(round) rounds, \(ends.sorted { $0.key < $1.key }), seed \(rig.seed)")
        #expect(hadItsTurn("prune") && hadItsTurn("backup"))
        let last = try rig.installation.coordinator("prune", "lisbon", "--json")
        #expect(last.status == 0, "\(last)")
        _ = try rig.backup()
        let check = try Restic(repository.path, password: password).attempt(["check", "--read-data"])
        #expect(check.exit == .exit(0), "\(check.text)")
    }

    /// What a person does who takes our lock file for a leftover.
    enum Deed: CaseIterable {
        /// And nothing more.
        case unlocks
        /// The lock file is there again afterwards, so that it does not tell.
        case prunes
    }

    @Test(arguments: Deed.allCases)
    func `a capture that was told that all is there, before it was pruned away, makes no snapshot`(
        deed: Deed
    ) throws {
        let rig = try FaultRig()
        try rig.change(photos: 4)
        try rig.backup()
        var order = FaultLayer.Order(.session, [.rename])
        let steps = try rig.record(order)
        let index = try #require(steps.last { $0.path.contains("/index/") })
        try rig.change()
        order.action = .stop
        order.at = index.number
        order.after = true
        try rig.layer.set(order)
        let run = try rig.start()
        let session = try eventually("the session stands still") { rig.layer.fired }
        try rig.layer.clear()
        let locks = rig.installation.repository("lisbon") + "/locks"
        let names = try Directory.names(locks).map { String(decoding: $0, as: UTF8.self) }
        let files = try names.map { try Files.read("\(locks)/\($0)") }
        #expect(files.count == 1)
        #expect(try rig.restic("unlock", "--remove-all").status == 0)
        let repository = try repository(rig)
        if deed == .prunes {
            for id in try repository.list(.snapshots) {
                let gone = try rig.restic("forget", id.hex)
                #expect(gone.status == 0, "\(gone)")
            }
            let pruned = try rig.restic("prune", "--max-unused", "0")
            #expect(pruned.status == 0, "\(pruned)")
            #expect(try repository.listPacks().isEmpty)
            for (name, file) in zip(names, files) { try Files.writeAtomically(file, to: "\(locks)/\(name)") }
        }
        let snapshots = try repository.list(.snapshots)
        kill(session, SIGCONT)
        #expect(try run.wait() != .exit(0))
        let host = try rig.settled()
        #expect(host["run"]?["state"]?.string == "failed", "\(host.text())")
        let word = deed == .prunes ? "pruned the repository" : "our lock file"
        #expect(host["trouble"]?.string?.contains(word) == true, "\(host.text())")
        #expect(try repository.list(.snapshots) == snapshots)
        // The next one sends again what is gone.
        let listing = try TreeListing(rig.folder)
        let next = try rig.backup()
        try expectRestored(rig, next, listing, "the next")
        let check = try rig.restic("check", "--read-data")
        #expect(check.status == 0, "\(check)")
    }
}
