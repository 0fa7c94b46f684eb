import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

/// A host whose repository has everything that a prune meets: snapshots of a stock restic, a forgotten one within its
/// grace and one beyond it, packs that are wholly and partly unused, blobs in several packs, packs that an earlier run
/// took out of the index, and one that a killed run left. It is put back as it was before each try.
final class PruneBench {
    let installation: Installation
    let layer: FaultLayer
    let repository: Repository
    let password: String
    var random: SplitMix
    let seed: UInt64
    /// What each snapshot holds; the first is gone after a prune.
    private(set) var listings: [(id: BlobID, listing: TreeListing)] = []
    private let source: String
    private let template: String
    var path: String { repository.path }
    /// Snapshots that stay.
    var staying: [BlobID] { listings.dropFirst().map(\.id) }

    private static let day: Int64 = 86_400_000_000_000

    /// - Parameter prepare: Called with the installation's folder before anything is in it.
    init(prepare: (String) throws -> Void = { _ in }) throws {
        seed =
            environmentVariables()["HOLDFAST_SEED"].flatMap { UInt64($0) }
            ?? randomBytes(4).reduce(0) { $0 << 8 | UInt64($1) }
        random = SplitMix(seed)
        installation = try Installation(prepare: prepare)
        source = installation.folder + "/source"
        template = installation.folder + "/template"
        layer = try FaultLayer(folders: [
            installation.folder + "/repositories", installation.folder + "/state",
        ])
        try installation.initialise()
        // It keeps the private catalogue running.
        try installation.serve()
        _ = try installation.addHost("lisbon")
        password = try installation.password("lisbon")
        repository = try Repository.open(at: installation.repository("lisbon"), password: password)
        try fill()
        try Outcome.must(["cp", "-a", path, template])
    }

    // MARK: Making

    private func fill() throws {
        let now = Time.now()
        try Files.makeDirectories(source + "/photos")
        for number in 0..<24 { try write(number) }
        for round in 0..<4 {
            if round > 0 { for number in 0..<8 { try write((round * 5 + number) % 24) } }
            let dump = String(repeating: "INSERT INTO asset VALUES (\(round));\n", count: 4000)
            try Files.writeAtomically(Array(dump.utf8), to: source + "/dump.sql", mode: 0o644)
            try back()
        }
        try repository.forget(listings[0].id, at: now - 8 * Self.day)
        // Out of the index for two days.
        try add((0..<3).map { _ in random.bytes(30_000) })
        let before = Prune(
            repository,
            Prune.Terms(now: now - 2 * Self.day, grace: 7 * Self.day, reserve: 0),
            drop: { _ in }
        )
        #expect(try before.run().waitingPacks == 1)
        try repository.forget(listings[1].id, at: now - Self.day)
        // Unused, in part or wholly.
        let index = try repository.loadIndex()
        let reader = try BlobReader(repository, index)
        var copies: [[UInt8]] = []
        try index.forEach { _, blob in
            if blob.kind == .data, copies.count < 5 { copies.append(try reader.read(blob.id, .data)) }
        }
        try add(copies + [random.bytes(20_000)], BlobIndex())
        try add((0..<2).map { _ in random.bytes(40_000) })
        // Of a killed run.
        let files = Set(try repository.list(.index))
        try add([random.bytes(10_000)])
        for file in try repository.list(.index) where !files.contains(file) {
            try repository.remove(.index, file)
        }
    }

    private func write(_ number: Int) throws {
        let name = "\(source)/photos/IMG_\(1000 + number).jpg"
        try Files.writeAtomically(random.bytes(20_000 + random.below(30_000)), to: name, mode: 0o644)
    }

    private func back() throws {
        let before = Set(try repository.list(.snapshots))
        try Restic(path, password: password)("backup", source)
        let id = try #require(try repository.list(.snapshots).first { !before.contains($0) })
        listings.append((id, try TreeListing(source)))
    }

    private func add(_ blobs: [[UInt8]], _ index: BlobIndex? = nil) throws {
        let writer = try BlobWriter(repository, index ?? repository.loadIndex())
        for blob in blobs { _ = try writer.add(blob, .data) }
        try writer.flush()
    }

    // MARK: Pruning

    /// Makes the repository what it was at first.
    func putBack() throws {
        try Files.removeTree(path)
        try Outcome.must(["cp", "-a", template, path])
    }

    func prune(_ arguments: [String] = ["--json"], faulty: Bool = false) throws -> Outcome {
        try Outcome.of(
            [Programs.coordinator, "--config", installation.configuration, "prune", "lisbon"] + arguments,
            environment: faulty ? layer.environment : [:]
        )
    }

    /// Prunes, to its end: the server may need a moment to see that the one before was killed.
    @discardableResult
    func pruneWhole(_ what: String) throws -> JSON {
        try eventually("\(what): pruned") { () -> JSON? in
            let outcome = try prune()
            if outcome.status == 11 { return nil }
            guard outcome.status == 0, let json = outcome.json else { throw Unexpected(outcome) }
            return json
        }
    }

    /// Makes packs that are out of the index look as if that were two days ago.
    func age() throws {
        try repository.writeDoomed(repository.doomedPacks().mapValues { $0 - 2 * Self.day })
    }

    // MARK: Looking

    /// Whether every snapshot is there whole: every blob of every one is read, decrypted and compared.
    func expectWhole(_ what: String) throws {
        let index = try repository.loadIndex()
        let reader = try BlobReader(repository, index)
        for id in staying {
            let isForgotten = id == staying[0]
            let snapshot = try repository.snapshot(id, in: isForgotten ? .forgotten : .snapshots)
            var walk = TreeWalk(reader, from: snapshot.tree)
            var files = 0
            while let step = try walk.next() {
                guard case .entry(let node) = step else {
                    Issue.record("\(what): \(id.short): \(step)")
                    break
                }
                for blob in node.content ?? [] { _ = try reader.read(blob, .data) }
                if node.kind == .file { files += 1 }
            }
            #expect(files == 25, "\(what): \(id.short)")
        }
    }

    /// Whether a stock client is content, with what a killed run has left or, `strictly`, without.
    func expectSound(_ what: String, strictly: Bool, _ restic: Restic? = nil) throws {
        let check = try (restic ?? Restic(path, password: password))
            .attempt(["check", "--read-data"] + (strictly ? [] : ["--no-lock"]))
        #expect(check.exit == .exit(0), "\(what): \(check.text)")
        if strictly {
            #expect(
                !check.text.contains("additional files") && !check.text.contains("uplicate"),
                "\(what): \(check.text)"
            )
        }
    }

    /// Restores a snapshot, the forgotten one too, with a stock client, and compares it with what was backed up.
    func expectRestored(_ what: String, _ number: Int? = nil) throws {
        let (id, listing) = listings[number ?? 1 + random.below(listings.count - 1)]
        let target = installation.folder + "/restored"
        try Files.removeTree(target)
        if id == staying[0] { try repository.recall(id) }
        defer {
            if id == staying[0] { try? repository.forget(id, at: Time.now()) }
            try? Files.removeTree(target)
        }
        let outcome = try Restic(path, password: password)
            .attempt(["restore", id.hex, "--no-lock", "--target", target])
        #expect(outcome.exit == .exit(0), "\(what): \(outcome.text)")
        // The folders above were made by the restore; the source's own time changed with later files.
        let copy = try TreeListing(target + source)
        #expect(listing.differences(to: copy) == [], "\(what): \(id.short)")
    }

    /// After whatever happened, prunes come to their end: all is whole, nothing is left over, and it has the size that it
    /// should have.
    func conclude(_ what: String) throws {
        try pruneWhole(what)
        try age()
        let last = try pruneWhole(what)
        #expect(last["later_packs"]?.int == 0 && last["rewritten_packs"]?.int == 0, "\(what): \(last.text())")
        #expect(try Set(repository.listPacks()) == Set(repository.loadIndex().packs), "\(what)")
        #expect(try repository.sideFiles().contains("doomed") == false, "\(what)")
        let leftovers = try Outcome.of(["find", path, "-name", "*tmp*", "-o", "-path", "*/locks/*", "-print"])
            .output
        #expect(leftovers == "", "\(what)")
        #expect(!Files.exists(repository.filePath(.forgotten, listings[0].id)), "\(what)")
        try expectWhole(what)
        try expectSound(what, strictly: true)
        let bytes = try repository.listPacks().reduce(0) {
            $0 + Int(try FileStatus(path: repository.packPath($1)).size)
        }
        let needed = last["needed_bytes"]?.int ?? 0
        #expect(bytes < needed * 106 / 100 + 1000, "\(what): \(bytes) for \(needed)")
    }
}

extension Outcome {
    /// Runs what must succeed.
    static func must(_ arguments: [String]) throws {
        let outcome = try of(arguments)
        guard outcome.status == 0 else { throw Unexpected(outcome) }
    }
}
