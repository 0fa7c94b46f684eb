import Posix
import Repository
import TestSupport
import Testing

/// A repository that grows and is pruned, and what its snapshots need, which is noted when they are made.
final class PruneRig {
    struct Key: Hashable {
        let id: BlobID
        let kind: BlobKind
    }

    let scratch: Scratch
    let repository: Repository
    var path: String { repository.path }
    /// By snapshot.
    private(set) var needs: [BlobID: Set<Key>] = [:]
    private(set) var sizes: [BlobID: UInt64] = [:]
    private(set) var present: [BlobID] = []
    private(set) var forgotten: [BlobID: Int64] = [:]
    var now: Int64 = 1_700_000_000_000_000_000
    var random: SplitMix
    private var pool: [[UInt8]] = []
    private var names = 0

    static let grace: Int64 = 7 * 86_400_000_000_000
    static let hour: Int64 = 3_600_000_000_000

    init(at path: String? = nil, seed: UInt64 = 1) throws {
        let scratch = try Scratch()
        repository = try FolderBackup.create(path ?? scratch.at("r"), password: "secret")
        self.scratch = scratch
        random = SplitMix(seed)
    }

    // MARK: Changing

    /// What a capture does first: packs of killed runs are used again.
    private func backup() throws -> FolderBackup {
        var index = try repository.loadIndex()
        _ = try repository.adoptOrphanPacks(into: &index)
        return try FolderBackup(repository)
    }

    static func file(_ name: String, _ content: [BlobID], _ size: Int) -> Node {
        var node = Node(name: Array(name.utf8), kind: .file, mtime: ZonedTime(nanoseconds: 0))
        node.content = content
        node.size = UInt64(size)
        return node
    }

    static func folder(_ name: String, _ tree: BlobID) -> Node {
        var node = Node(name: Array(name.utf8), kind: .directory, mtime: ZonedTime(nanoseconds: 0))
        node.subtree = tree
        return node
    }

    /// A snapshot of these files, each of one blob, in two folders.
    @discardableResult
    func snapshot(_ contents: [[UInt8]]) throws -> BlobID {
        let backup = try backup()
        var folders: [[Node]] = [[], []]
        for (number, content) in contents.enumerated() {
            let id = try backup.add(data: content)
            let name = String(1000 + number)
            folders[number % 2].append(Self.file(name, [id], content.count))
        }
        let trees = try folders.map { try backup.add(tree: $0) }
        let root = try backup.add(tree: [Self.folder("a", trees[0]), Self.folder("b", trees[1])])
        return try add(backup.snapshot(tree: root))
    }

    /// Notes a snapshot that is there.
    @discardableResult
    func add(_ id: BlobID) throws -> BlobID {
        let tree = try repository.snapshot(id).tree
        let (keys, size) = try Self.needs(repository, repository.loadIndex(), tree)
        needs[id] = keys
        sizes[id] = size
        present.append(id)
        return id
    }

    /// As `add`, of all that somebody else has put there.
    func addForeign() throws {
        for id in try repository.list(.snapshots) where needs[id] == nil { try add(id) }
    }

    /// A snapshot like the last, with some files changed.
    @discardableResult
    func change(_ count: Int, bytes: Int = 20_000) throws -> BlobID {
        for _ in 0..<count {
            let content = random.bytes(bytes / 2 + random.below(bytes))
            if pool.count > 30 { pool[random.below(pool.count)] = content } else { pool.append(content) }
        }
        return try snapshot(pool)
    }

    /// It is none of the repository's any more.
    func forgetAbout(_ id: BlobID) {
        present.removeAll { $0 == id }
        needs[id] = nil
    }

    func forget(_ id: BlobID) throws {
        try repository.forget(id, at: now)
        present.removeAll { $0 == id }
        forgotten[id] = now
    }

    func recall(_ id: BlobID) throws {
        try repository.recall(id)
        forgotten[id] = nil
        present.append(id)
    }

    func plan() throws -> PruneReport {
        try Prune(repository, terms()) { _ in Issue.record("a dry run drops a snapshot") }.plan()
    }

    func terms() -> Prune.Terms { Prune.Terms(now: now, grace: Self.grace, reserve: 0) }

    struct Stopped: Error {}

    /// - Parameter steps: After so many steps it is stopped; nil for never.
    /// - Returns: nil when it was stopped.
    @discardableResult
    func prune(_ terms: Prune.Terms? = nil, stoppedAfter steps: Int? = nil) throws -> PruneReport? {
        var left = steps ?? .max
        func step() throws {
            if left == 0 { throw Stopped() }
            left -= 1
        }
        let dropped = Set(forgotten.filter { now - $0.value >= Self.grace }.keys)
        let prune = Prune(repository, terms ?? self.terms()) {
            try step()
        } progress: { _ in
            try step()
        } drop: {
            try self.repository.dropForgotten($0)
        }
        defer {
            for id in prune.report.dropped {
                #expect(dropped.contains(id), "\(id) was dropped before its time")
                forgotten[id] = nil
                needs[id] = nil
            }
        }
        do { return try prune.run() } catch is Stopped {
            return nil
        }
    }

    // MARK: Looking

    static func needs(_ repository: Repository, _ index: BlobIndex, _ tree: BlobID) throws -> (
        Set<Key>, UInt64
    ) {
        var result: Set<Key> = [Key(id: tree, kind: .tree)]
        var size: UInt64 = 0
        var walk = TreeWalk(try BlobReader(repository, index), from: tree)
        while let step = try walk.next() {
            guard case .entry(let node) = step else { throw Stopped() }
            if let tree = node.subtree { result.insert(Key(id: tree, kind: .tree)) }
            for blob in node.content ?? [] { result.insert(Key(id: blob, kind: .data)) }
            size += node.content == nil ? 0 : node.size
        }
        return (result, size)
    }

    var needed: Set<Key> { (present + forgotten.keys).reduce(into: []) { $0.formUnion(needs[$1] ?? []) } }

    /// Whether everything that a snapshot needs is listed and there.
    func expectWhole(_ what: String = "", reads: Bool = false) throws {
        let index = try repository.loadIndex()
        let packs = Set(try repository.listPacks())
        #expect(Set(try repository.list(.snapshots)) == Set(present), "\(what)")
        #expect(Set(try repository.forgotten().map(\.id)) == Set(forgotten.keys), "\(what)")
        let reader = try BlobReader(repository, index)
        for key in needed {
            let places = index.copies(key.id, key.kind)
            #expect(!places.isEmpty && places.allSatisfy { packs.contains($0.pack) }, "\(what): \(key)")
            if reads { _ = try reader.read(key.id, key.kind) }
        }
        for pack in index.packs { #expect(packs.contains(pack), "\(what): \(pack) is listed and not there") }
    }

    /// Whether stock restic finds nothing to say against it.
    func expectSound(_ what: String = "", strictly: Bool = true) throws {
        let text = try restic(path, password: "secret", ["check", "--read-data"])
        #expect(text.contains("no errors were found"), "\(what): \(text)")
        if strictly {
            #expect(!text.contains("not referenced") && !text.contains("uplicate"), "\(what): \(text)")
        }
        let own = Check.run(repository, .data)
        #expect(own.findings.isEmpty, "\(what): \(own.findings)")
    }

    /// Bytes of all packs, and of what is needed in them.
    func bytes() throws -> (packs: Int64, needed: Int64) {
        let packs = try repository.listPacks().reduce(Int64(0)) {
            $0 + Int64(try FileStatus(path: repository.packPath($1)).size)
        }
        let index = try repository.loadIndex()
        let used = needed.reduce(Int64(0)) { $0 + Int64(index.lookup($1.id, $1.kind)?.blob.stored ?? 0) }
        return (packs, used)
    }

    /// Prunes until nothing is left to do: what goes is gone, and packs on the disk are those of the index.
    func settle(_ what: String = "") throws {
        // The grace of what was forgotten last is over, and what left the index then is gone.
        now += Self.grace
        for _ in 0..<3 {
            try prune()
            now += 24 * Self.hour
        }
        let report = try #require(try prune())
        #expect(
            report.waitingPacks == 0 && report.deletedPacks == 0 && report.rewrittenPacks == 0,
            "\(what): \(report)"
        )
        #expect(try Set(repository.listPacks()) == Set(repository.loadIndex().packs), "\(what)")
        let (packs, used) = try bytes()
        #expect(Double(packs) <= Double(used) / 0.95 + 100_000, "\(what): \(packs) bytes for \(used)")
    }
}
