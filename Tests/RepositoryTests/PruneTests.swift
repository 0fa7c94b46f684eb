import Glibc
import JSON
import Posix
import Repository
import Restore
import TestSupport
import Testing

@Suite("Prune")
struct PruneTests {
    @Test func `what nothing needs leaves the index now and the disk a day later`() throws {
        let rig = try PruneRig()
        let some = (0..<8).map { _ in rig.random.bytes(100_000) }
        for _ in 0..<4 { try rig.snapshot(some + (0..<8).map { _ in rig.random.bytes(100_000) }) }
        let before = try rig.bytes().packs
        let gone = rig.present[0...2]
        for id in gone { try rig.forget(id) }
        // Within the grace nothing happens to them.
        rig.now += PruneRig.grace - 1
        let early = try #require(try rig.prune())
        #expect(
            early.dropped.isEmpty && early.unusedPacks == 0 && early.rewrittenPacks == 0
                && early.forgotten == 3
        )
        try rig.expectWhole(reads: true)

        rig.now += 1
        let plan = try rig.plan()
        #expect(plan.dropped.count == 3 && plan.deletedPacks == 0 && plan.waitingBytes > 1_000_000)
        let first = try #require(try rig.prune())
        #expect(first.dropped.count == 3 && first.deletedPacks == 0 && first.waitingBytes > 1_000_000)
        #expect(
            first.waitingPacks == plan.waitingPacks && first.rewrittenBytes == plan.rewrittenBytes
                && first.unusedBytes == plan.unusedBytes && first.nextDeletion == plan.nextDeletion
        )
        #expect(try rig.repository.list(.forgotten).isEmpty)
        try rig.expectWhole(reads: true)
        try rig.expectSound(strictly: false)

        // A clock that was ahead keeps nothing for ever.
        try rig.repository.writeDoomed(rig.repository.doomedPacks().mapValues { $0 + 1000 * PruneRig.grace })
        // Not before its time, and not by the run that took them out.
        _ = try rig.prune()
        rig.now += Prune.rest - 1
        let second = try #require(try rig.prune())
        #expect(second.deletedPacks == 0 && second.waitingPacks == first.waitingPacks)
        rig.now += 1
        let third = try #require(try rig.prune())
        #expect(third.deletedPacks == first.waitingPacks && third.deletedBytes == first.waitingBytes)
        #expect(third.waitingPacks == 0 && third.nextDeletion == nil)
        #expect(
            try rig.repository.doomedPacks().isEmpty && rig.repository.sideFiles().contains("doomed") == false
        )
        try rig.expectWhole(reads: true)
        try rig.expectSound()
        let (after, used) = try rig.bytes()
        #expect(after < before && Double(after) < Double(used) / 0.95 + 50_000)
        // A stock restic counts the same.
        let stats = try restic(rig.path, password: "secret", ["stats", "--mode", "raw-data", "--json"])
        let counted = try JSON(parsing: Array(stats.utf8))
        #expect(counted["total_size"]?.int64 == used, "\(stats) and \(used)")
        let again = try #require(try rig.prune())
        #expect(again.unusedPacks == 0 && again.rewrittenPacks == 0 && again.deletedPacks == 0)
    }

    @Test func `a forgotten snapshot comes back whole within its grace`() throws {
        let rig = try PruneRig()
        try rig.change(10)
        try rig.change(10)
        let first = rig.present[0]
        try rig.forget(first)
        for _ in 0..<6 {
            rig.now += 24 * PruneRig.hour
            try rig.prune()
        }
        try rig.recall(first)
        try rig.expectWhole(reads: true)
        try rig.expectSound()
    }

    @Test func `a twentieth may stay unused, and what is a little used is written anew`() throws {
        let rig = try PruneRig()
        let contents = (0..<40).map { rig.random.bytes(50_000 + $0) }
        let all = try rig.snapshot(contents)
        // One in forty goes: not worth it.
        try rig.snapshot(Array(contents.dropLast()))
        try rig.forget(all)
        rig.now += PruneRig.grace
        let little = try #require(try rig.prune())
        #expect(little.rewrittenPacks == 0 && little.unusedLeft > 40_000, "\(little)")
        // A quarter goes.
        let second = rig.present[0]
        try rig.snapshot(Array(contents.dropLast(10)))
        try rig.forget(second)
        rig.now += PruneRig.grace
        let more = try #require(try rig.prune())
        #expect(
            more.rewrittenPacks >= 1 && more.writtenBytes > 1_400_000 && more.writtenBytes < 1_700_000,
            "\(more)"
        )
        try rig.expectWhole(reads: true)
        try rig.settle()
        try rig.expectSound()
    }

    @Test func `many small packs and index files become few`() throws {
        let rig = try PruneRig()
        for _ in 0..<20 { try rig.change(1, bytes: 3000) }
        #expect(try rig.repository.listPacks().count == 40 && rig.repository.list(.index).count == 20)
        let report = try #require(try rig.prune())
        #expect(report.rewrittenPacks == 40)
        #expect(try rig.repository.loadIndex().packs.count == 2 && rig.repository.list(.index).count == 1)
        try rig.settle()
        try rig.expectSound()
        // Ten more are not many.
        for _ in 0..<10 { try rig.change(1, bytes: 3000) }
        #expect(try #require(try rig.prune()).rewrittenPacks == 0)
    }

    @Test func `stopped anywhere, it goes on, and at every instant all is there`() throws {
        let rig = try PruneRig(seed: 5)
        var steps = 0
        var rounds = 0
        while true {
            for _ in 0..<2 { try rig.change(6) }
            while rig.present.count > 3 { try rig.forget(rig.present[0]) }
            rig.now += PruneRig.grace
            let ended = try rig.prune(stoppedAfter: steps) != nil
            try rig.expectWhole("after \(steps) steps")
            if steps % 7 == 0 { try rig.expectSound("after \(steps) steps", strictly: false) }
            rounds += 1
            if ended && rounds > 10 { break }
            // What a prune that was stopped left for the next one grows too, by some steps each time.
            steps += 1 + steps / (isLong ? 60 : 8)
        }
        try rig.settle()
        try rig.expectWhole(reads: true)
        try rig.expectSound()
        print("stopped at \(rounds) steps up to \(steps)")
    }

    @Test func `of blobs that lie in several packs one copy stays, and a damaged one is not the one`() throws
    {
        let rig = try PruneRig()
        let contents = (0..<6).map { _ in rig.random.bytes(40_000) }
        let id = try rig.snapshot(contents)
        let index = try rig.repository.loadIndex()
        let data = try #require(try index.lookup(BlobID.hash(of: contents[0]), .data)).pack
        // Everything once more, by a writer that knows nothing, with something beside it that nobody needs.
        let copies = try BlobWriter(rig.repository, BlobIndex())
        for content in contents { _ = try copies.add(content, .data) }
        _ = try copies.add(rig.random.bytes(1000), .data)
        try copies.flush()
        // The copy that would stay is damaged.
        let place = try #require(try index.lookup(BlobID.hash(of: contents[2]), .data))
        try flipByte(rig.repository.packPath(place.pack), at: Int64(place.blob.offset) + 60)
        let report = try #require(try rig.prune())
        #expect(report.unusedPacks == 1 && report.writtenBytes > 40_000, "\(report)")
        try rig.expectWhole(reads: true)
        rig.now += Prune.rest
        #expect(try #require(try rig.prune()).deletedPacks == 1)
        try rig.expectWhole(reads: true)
        #expect(try rig.repository.listPacks().contains(data))
        let target = rig.scratch.at("restored")
        #expect(try restored(rig.repository, id, to: target).isWhole)
    }

    @Test func `a blob that is damaged in its only copy ends it with its name, and nothing is lost`() throws {
        let rig = try PruneRig()
        let contents = (0..<10).map { _ in rig.random.bytes(40_000) }
        let first = try rig.snapshot(contents)
        try rig.snapshot(Array(contents[0..<4]))
        try rig.forget(first)
        rig.now += PruneRig.grace
        let bad = try BlobID.hash(of: contents[1])
        let place = try #require(try rig.repository.loadIndex().lookup(bad, .data))
        try flipByte(rig.repository.packPath(place.pack), at: Int64(place.blob.offset) + 60)
        let packs = Set(try rig.repository.listPacks())
        #expect { try rig.prune() } throws: {
            "\($0)".contains(bad.hex) && "\($0)".contains(place.pack.hex)
        }
        #expect(try packs.isSubset(of: rig.repository.listPacks()))
        try rig.expectWhole()
    }

    @Test func `what cannot be read ends it before anything is deleted`() throws {
        for victim in ["snapshots", "index", "tree", "forgotten", "pack"] {
            let rig = try PruneRig()
            let contents = (0..<10).map { _ in rig.random.bytes(20_000) }
            let expired = try rig.snapshot(contents)
            let forgotten = try rig.snapshot(Array(contents[2...]))
            try rig.snapshot(Array(contents[4...]))
            try rig.forget(expired)
            rig.now += PruneRig.grace - 1
            try rig.forget(forgotten)
            try rig.repository.writeDoomed([:])
            // A pack that is due.
            let idle = try BlobWriter(rig.repository, try rig.repository.loadIndex())
            _ = try idle.add(rig.random.bytes(1000), .data)
            try idle.flush()
            try rig.prune()
            rig.now += Prune.rest
            let index = try rig.repository.loadIndex()
            let file =
                switch victim {
                case "snapshots": rig.repository.filePath(.snapshots, rig.present[0])
                case "forgotten": rig.repository.filePath(.forgotten, forgotten)
                case "index": rig.repository.filePath(.index, try rig.repository.list(.index)[0])
                default: ""
                }
            if victim == "tree" {
                let tree = try rig.repository.snapshot(rig.present[0]).tree
                let place = try #require(index.lookup(tree, .tree))
                try flipByte(rig.repository.packPath(place.pack), at: Int64(place.blob.offset) + 40)
            } else if victim == "pack" {
                let place = try #require(try index.lookup(BlobID.hash(of: contents[9]), .data))
                try Files.rename(rig.repository.packPath(place.pack), to: rig.scratch.at("away"))
            } else {
                try flipByte(file, at: 40)
            }
            let files = try CompleteRepository.files(rig.path).sorted()
            #expect(throws: PruneRefused.self, "\(victim)") { try rig.prune() }
            #expect(throws: PruneRefused.self, "\(victim)") { try rig.plan() }
            #expect(try CompleteRepository.files(rig.path).sorted() == files, "\(victim)")
        }
    }

    @Test func `packs that are needed after all are taken back`() throws {
        let rig = try PruneRig()
        let contents = (0..<6).map { _ in rig.random.bytes(40_000) }
        let first = try rig.snapshot(contents)
        let kept = rig.scratch.at("kept")
        try Files.writeAtomically(try Files.read(rig.repository.filePath(.snapshots, first)), to: kept)
        try rig.snapshot([rig.random.bytes(100)])
        try rig.forget(first)
        rig.now += PruneRig.grace
        let report = try #require(try rig.prune())
        #expect(report.dropped == [first] && report.unusedPacks == 2)
        // Who captures now stores anew what is needed again: these packs are on their way out.
        var index = try rig.repository.loadIndex()
        #expect(try rig.repository.adoptOrphanPacks(into: &index).adopted.isEmpty)
        // A client that nobody knew of, which had loaded the index before, puts a snapshot there.
        try Files.writeAtomically(try Files.read(kept), to: rig.repository.filePath(.snapshots, first))
        rig.now += 2 * Prune.rest
        let plan = try rig.plan()
        #expect(plan.takenBack == 2 && plan.deletedPacks == 0)
        let again = try #require(try rig.prune())
        #expect(again.takenBack == 2 && again.deletedPacks == 0 && again.waitingPacks == 0)
        try rig.add(first)
        try rig.expectWhole(reads: true)
        try rig.expectSound()
    }

    @Test func `what a stock prune took from a forgotten snapshot ends nothing, from another it does`() throws
    {
        let rig = try PruneRig()
        let contents = (0..<6).map { _ in rig.random.bytes(40_000) }
        let first = try rig.snapshot(contents)
        try rig.snapshot(Array(contents[..<3]))
        try rig.forget(first)
        try restic(rig.path, password: "secret", ["prune"])
        let report = try #require(try rig.prune())
        #expect(report.forgotten == 1 && report.lostOfForgotten > 0 && report.dropped.isEmpty)
        try rig.recall(first)
        #expect(throws: PruneRefused.self) { try rig.prune() }
        try rig.forget(first)
        rig.now += PruneRig.grace
        #expect(try #require(try rig.prune()).lostOfForgotten == 0)
        try rig.settle()
        try rig.expectWhole(reads: true)
        try rig.expectSound()
    }

    @Test func `a journal that was damaged, and packs that are listed again, cost only time`() throws {
        let rig = try PruneRig()
        for _ in 0..<3 { try rig.change(8) }
        for id in rig.present[0...1] { try rig.forget(id) }
        rig.now += PruneRig.grace
        let first = try #require(try rig.prune())
        #expect(first.waitingPacks > 0)
        try rig.repository.writeSide("doomed", [1, 2, 3])
        rig.now += Prune.rest
        let second = try #require(try rig.prune())
        #expect(second.deletedPacks == 0 && second.adoptedPacks == first.waitingPacks, "\(second)")
        try rig.expectWhole(reads: true)
        // A stock client lists them again.
        try restic(rig.path, password: "secret", ["repair", "index"], succeeds: try stockRepairs())
        try rig.expectWhole()
        let third = try #require(try rig.prune())
        #expect(third.deletedPacks == 0, "they had been listed")
        try rig.settle()
        try rig.expectSound()
    }

    private func stockRepairs() throws -> Bool {
        // `rebuild-index` before 0.16.
        let name = Restic.versions.first?.name ?? ""
        return !name.contains(" 0.14") && !name.contains(" 0.15")
    }

    @Test func `what an interrupted backup stored is kept, and what is gone of it does no harm`() throws {
        let rig = try PruneRig()
        try rig.change(4)
        let backup = try FolderBackup(rig.repository)
        let whole = rig.random.bytes(50_000)
        let part = rig.random.bytes(60_000)
        let lost = rig.random.bytes(10)
        let other = rig.random.bytes(70_000)
        let ids = try [whole, part, other].map { try backup.add(data: $0) }
        let tree = try backup.add(tree: [
            PruneRig.file("a", [ids[0]], whole.count), PruneRig.file("b", [try BlobID.hash(of: lost)], 10),
        ])
        try backup.flush()
        var terms = rig.terms()
        terms.heldTrees = [tree, ids[0]]
        terms.heldBlobs = [ids[1], try BlobID.hash(of: lost)]
        let report = try #require(try rig.prune(terms))
        #expect(report.rewrittenPacks >= 1)
        let index = try rig.repository.loadIndex()
        #expect(index.contains(tree, .tree) && index.contains(ids[0], .data) && index.contains(ids[1], .data))
        #expect(!index.contains(ids[2], .data))
        try rig.expectWhole()
        _ = try rig.prune()
        #expect(try !rig.repository.loadIndex().contains(ids[1], .data))
    }

    @Test func `what a snapshot needs that was set aside stays as long as a person may look at it`() throws {
        let rig = try PruneRig()
        let contents = (0..<4).map { _ in rig.random.bytes(40_000) }
        let aside = try rig.snapshot(contents)
        try rig.snapshot([rig.random.bytes(100)])
        let tree = try rig.repository.snapshot(aside).tree
        let place = try rig.repository.setAside(snapshot: aside)
        rig.forgetAbout(aside)
        #expect(try rig.repository.treesAside() == [tree])
        var terms = rig.terms()
        terms.heldTrees = try rig.repository.treesAside()
        #expect(try #require(try rig.prune(terms)).unusedPacks == 0)
        // One that cannot be read holds nothing.
        try flipByte(place, at: 40)
        #expect(try rig.repository.treesAside().isEmpty)
        #expect(try #require(try rig.prune()).unusedPacks == 2)
    }

    @Test(.enabled(if: geteuid() == 0, "mounting a small file system needs root"))
    func `on a full disk it makes room`() throws {
        let scratch = try Scratch()
        let disk = scratch.at("disk")
        try Files.makeDirectories(disk)
        try #require(
            try ChildProcess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk]).end == .exit(0)
        )
        defer { _ = try? ChildProcess.run(["umount", "-l", disk]) }
        let rig = try PruneRig(at: disk + "/r")
        let contents = (0..<60).map { _ in rig.random.bytes(100_000) }
        let first = try rig.snapshot(contents)
        try rig.snapshot(Array(contents[..<35]))
        let idle = try rig.snapshot((0..<20).map { _ in rig.random.bytes(100_000) })
        try rig.forget(first)
        try rig.forget(idle)
        rig.now += PruneRig.grace
        // 3.5 MB are needed of a pack of 6 MB, and there is no room for them.
        let filler = "\(disk)/filler"
        let (free, _) = try Files.space(disk)
        try Files.writeAtomically([UInt8](repeating: 1, count: Int(free) - 700_000), to: filler)
        let report = try #require(try rig.prune())
        #expect(
            report.rewrittenPacks == 0 && report.withoutRoom > 2_000_000 && report.unusedPacks >= 1,
            "\(report)"
        )
        try rig.expectWhole(reads: true)
        try rig.expectSound(strictly: false)
        // A run that was killed when nothing was left at all.
        let writer = try BlobWriter(rig.repository, rig.repository.loadIndex())
        let files = Set(try rig.repository.list(.index))
        _ = try writer.add(rig.random.bytes(1000), .data)
        try writer.flush()
        for file in try rig.repository.list(.index) where !files.contains(file) {
            try rig.repository.remove(.index, file)
        }
        let second = "\(disk)/second"
        _ = try ChildProcess.run(["dd", "if=/dev/zero", "of=\(second)", "bs=4k"])
        try #require(try Files.space(disk).free == 0)
        rig.now += Prune.rest
        let full = try #require(try rig.prune())
        #expect(full.deletedBytes > 2_000_000 && full.rewrittenPacks == 0 && full.orphanPacks == 1, "\(full)")
        try Files.remove(second)
        #expect(try #require(try rig.prune()).adoptedPacks == 1)
        try Files.remove(filler)
        try rig.settle()
        try rig.expectSound()
    }
}
