import Arguments
import Glibc
import JSON
import Posix
import Repository
import TestSupport

/// `--prune N`: a repository of N blobs of 4 KiB, of which a snapshot that is gone needed all and one that stays every
/// second, so that half of every pack is unused; `prune` of Holdfast and a stock `restic prune`, each on the same bytes.
struct PruneBench {
    private let programs: String
    private let folder: String
    private let count: Int
    private let seed: UInt64

    private static let size = 4096
    private static let perFolder = 1000
    private static let day: Int64 = 86_400_000_000_000

    init(_ settings: Settings, blobs: Int) throws {
        programs = settings.programs
        folder = settings.folder ?? "/tmp/holdfast-benchmark-\(randomHex(4))"
        count = max(Self.perFolder, blobs)
        seed = UInt64(settings.seed)
        try Files.makeDirectories(folder, mode: 0o755)
    }

    private func coordinator(_ arguments: String...) -> [String] {
        ["\(programs)/holdfast-coordinator", "--config", "\(folder)/fleet.yaml"] + arguments
    }

    func execute() throws {
        defer { try? Files.removeTree(folder) }
        let fleet = """
            state: \(folder)/state
            repositories: \(folder)/repositories
            listen: 127.0.0.1:\(try freePort())
            defaults: { schedule: { full: never, database: never, prune: never } }

            """
        try Files.writeAtomically(Array(fleet.utf8), to: "\(folder)/fleet.yaml")
        _ = try run(coordinator("init"))
        _ = try run(coordinator("host", "add", "lisbon"))
        let secret = try JSON(parsing: Array(run(coordinator("password", "lisbon", "--json")).utf8))
        guard let password = secret["password"]?.string else {
            throw CommandFailed(description: "no password of the repository")
        }
        let path = "\(folder)/repositories/lisbon"
        put("writing \(count) blobs\n", to: STDERR_FILENO)
        let packs = try fill(Repository.open(at: path, password: password))
        _ = try run(["cp", "-a", path, "\(folder)/stock"])

        var table = Table([
            ("PRUNE", .left), ("TIME", .right), ("PROCESSOR", .right), ("MEMORY", .right), ("PACKS", .right),
            ("SIZE", .right),
        ])
        func measured(_ name: String, _ arguments: [String], _ place: String) throws {
            let cost = try measure(
                arguments,
                on: .nas,
                ends: Ends(),
                environment: ["RESTIC_PASSWORD": password],
                log: "\(folder)/log"
            )
            let index = try Repository.open(at: place, password: password).loadIndex()
            table.row([
                name, "\(Human.fixed(cost.seconds, 2)) s", "\(Human.fixed(cost.nasSeconds, 2)) s",
                Human.bytes(Int64(cost.nasPeak)), "\(index.packs.count)", Human.bytes(index.packBytes),
            ])
        }
        put("\(count) blobs of \(Self.size) bytes in \(packs) packs, half of each unused\n")
        // Its packs leave the disk in a run a day later.
        try measured("holdfast-coordinator", coordinator("prune", "lisbon"), path)
        try measured("restic", ["restic", "-r", "\(folder)/stock", "--no-cache", "prune"], "\(folder)/stock")
        put(table.text)
    }

    /// - Returns: How many packs that made.
    private func fill(_ repository: Repository) throws -> Int {
        let writer = try BlobWriter(repository, repository.loadIndex())
        var random = SplitMix(seed)
        let time = ZonedTime(nanoseconds: Time.now() - 30 * Self.day)
        func tree(_ nodes: [Node]) throws -> BlobID {
            try Tree(nodes: nodes).encoded().withUnsafeBytes { try writer.add($0, .tree) }
        }
        var all: [Node] = []
        var half: [Node] = []
        for number in 0..<(count / Self.perFolder) {
            var files: [Node] = []
            for file in 0..<Self.perFolder {
                let digits = String(1_000_000 + file).dropFirst()
                var node = Node(name: Array("IMG_\(digits).jpg".utf8), kind: .file, mtime: time)
                node.size = UInt64(Self.size)
                node.content = [
                    try random.bytes(Self.size).withUnsafeBytes { try writer.add($0, .data, .never) }
                ]
                files.append(node)
            }
            let name = Array(String(1_000_000 + number).utf8)
            func folder(_ subtree: BlobID) -> Node {
                var node = Node(name: name, kind: .directory, mtime: time)
                node.subtree = subtree
                return node
            }
            all.append(folder(try tree(files)))
            half.append(folder(try tree(files.enumerated().filter { $0.offset % 2 == 0 }.map(\.element))))
        }
        let roots = [try tree(all), try tree(half)]
        try writer.flush()
        for (offset, root) in roots.enumerated() {
            let snapshot = Snapshot(
                time: ZonedTime(nanoseconds: time.nanoseconds + Int64(offset) * Self.day),
                tree: root,
                paths: ["/"],
                hostname: "lisbon"
            )
            let staged = try repository.stageSnapshot(snapshot.encoded())
            try staged.publish()
            // The stock client never sees it, and its grace is over.
            if offset == 0 { try repository.forget(staged.id, at: Time.now() - 20 * Self.day) }
        }
        return try repository.loadIndex().packs.count
    }
}
