import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

/// A small repository with a file of every kind: two keys, two snapshots, two index files, packs of data and of
/// trees, compressed and plain blobs, everything that `holdfast/` may hold, and a lock.
struct CompleteRepository: ~Copyable {
    let scratch: Scratch
    let repository: Repository
    let recovery: RecoveryKey
    /// Oldest first.
    let snapshots: [BlobID]
    let index: BlobIndex
    /// Every file that means something, from the repository's folder, in byte order.
    let files: [String]
    /// What needs a blob: `ID of the snapshot, path`.
    let needs: [BlobKey: Set<String>]

    struct BlobKey: Hashable {
        let id: BlobID
        let kind: BlobKind
    }

    init() throws {
        let scratch = try Scratch()
        let recovery = try RecoveryKey.derive(passphrase: "on paper", cost: .cheap)
        let repository = try Repository.create(
            at: scratch.at("r"),
            keys: [.password("secret"), .recovery(recovery)]
        )
        func file(_ name: String, _ content: [(BlobID, Int)]) -> Node {
            var node = Node(name: Array(name.utf8), kind: .file, mtime: ZonedTime(nanoseconds: 0))
            node.content = content.map(\.0)
            node.size = UInt64(content.reduce(0) { $0 + $1.1 })
            return node
        }
        func folder(_ name: String, _ tree: BlobID) -> Node {
            var node = Node(name: Array(name.utf8), kind: .directory, mtime: ZonedTime(nanoseconds: 0))
            node.subtree = tree
            return node
        }
        func text(_ seed: Int) -> [UInt8] { Array(String(repeating: "INSERT \(seed);\n", count: 30).utf8) }
        var snapshots: [BlobID] = []

        // The first run: its own packs and index file.
        let first = try FolderBackup(repository)
        func data(_ backup: borrowing FolderBackup, _ bytes: [UInt8]) throws -> (BlobID, Int) {
            (try backup.add(data: bytes), bytes.count)
        }
        let noise = try (0..<3).map { try data(first, AwkwardTree.noise(150, seed: 7 + $0)) }
        let dump = try data(first, text(1))
        let year = try first.add(tree: [file("a.jpg", [noise[0]]), file("b.jpg", [noise[1], noise[2]])])
        let photos = try first.add(tree: [folder("2024", year), file("copy.jpg", [noise[2]])])
        let root = try first.add(tree: [file("dump.sql", [dump]), folder("photos", photos)])
        snapshots.append(try first.snapshot(tree: root))

        let second = try FolderBackup(repository)
        let more = [try data(second, text(2)), try data(second, AwkwardTree.noise(120, seed: 20))]
        let newer = try second.add(tree: [file("c.jpg", [more[1]])])
        let root2 = try second.add(tree: [
            file("dump.sql", [dump, more[0]]), folder("new", newer), folder("photos", photos),
        ])
        snapshots.append(try second.snapshot(tree: root2))

        try repository.writeHostRecord(
            HostRecord(name: "lisbon", added: 1, keys: [.init(line: "ssh-ed25519 AAAA", added: 2)])
        )
        try repository.recordEpoch(41)
        try repository.writeSealed("interrupted", Array(#"{"tree":"\#(root)"}"#.utf8))
        try repository.writePin(PinRecord(snapshot: snapshots[0], why: "the wedding", by: "anna", time: 3))
        try repository.writeProof(
            ProofRecord(snapshot: snapshots[1], level: .proved, time: 4, figures: ["originals": 4])
        )
        let lock = JSON([
            ("time", JSON(Time.rfc3339(Time.now()))), ("exclusive", JSON(false)), ("hostname", "nas"),
            ("username", "anna"), ("pid", JSON(1)),
        ])
        _ = try repository.write(lock.encoded(), to: .locks)

        let index = try repository.loadIndex()
        let needs = try Self.needs(repository, index, snapshots)
        let files = try Self.files(repository.path)
        self.needs = needs
        self.files = files
        self.index = index
        self.snapshots = snapshots
        self.recovery = recovery
        self.repository = repository
        self.scratch = scratch
    }

    /// Which paths of which snapshots need each blob, by the walk that restores use.
    private static func needs(_ repository: Repository, _ index: BlobIndex, _ snapshots: [BlobID]) throws
        -> [BlobKey: Set<String>]
    {
        var result: [BlobKey: Set<String>] = [:]
        let reader = try BlobReader(repository, index)
        for id in snapshots {
            let root = try repository.snapshot(id).tree
            result[BlobKey(id: root, kind: .tree), default: []].insert("\(id), ")
            var walk = TreeWalk(reader, from: root)
            while let step = try walk.next() {
                guard case .entry(let node) = step else { continue }
                let need = "\(id), \(String(decoding: walk.path, as: UTF8.self))"
                if let tree = node.subtree {
                    result[BlobKey(id: tree, kind: .tree), default: []].insert(need)
                }
                for blob in node.content ?? [] {
                    result[BlobKey(id: blob, kind: .data), default: []].insert(need)
                }
            }
        }
        return result
    }

    /// Names of all files below `folder`, from there.
    static func files(_ folder: String, _ prefix: String = "") throws -> [String] {
        var result: [String] = []
        for name in try Directory.names(folder) {
            let text = String(decoding: name, as: UTF8.self)
            if try FileStatus(path: "\(folder)/\(text)").kind == .directory {
                result += try files("\(folder)/\(text)", prefix + text + "/")
            } else {
                result.append(prefix + text)
            }
        }
        return result
    }

    func path(_ file: String) -> String { "\(repository.path)/\(file)" }

    /// The pack that a file is.
    func pack(_ file: String) -> BlobID? {
        file.hasPrefix("data/") ? file.split(separator: "/").last.flatMap { BlobID(hex: $0) } : nil
    }

    func file(_ pack: BlobID) -> String { "data/\(pack.hex.prefix(2))/\(pack)" }

    /// The blobs of a pack, in their order.
    func blobs(_ pack: BlobID) -> [PackedBlob] {
        var result: [PackedBlob] = []
        index.forEach { if $0 == pack { result.append($1) } }
        return result.sorted { $0.offset < $1.offset }
    }

    /// What needs one of the blobs.
    func needs(_ blobs: [PackedBlob]) -> Set<String> {
        blobs.reduce(into: []) { $0.formUnion(needs[BlobKey(id: $1.id, kind: $1.kind)] ?? []) }
    }

    /// Reads every byte, with what the coordinator does to open a repository: the password, then what it keeps of the
    /// recovery passphrase. A repository that does not open is one finding.
    func check(reopening: Bool) -> [CheckFinding] {
        do {
            return Check.run(reopening ? try reopened() : repository, .data).findings
        } catch RepositoryError.damaged(let file, let reason) {
            let inside = file.dropFirst(repository.path.count + 1)
            return [CheckFinding(.olderCopy, reason, file: String(inside))]
        } catch {
            return [CheckFinding(.olderCopy, "\(error)")]
        }
    }

    func reopened() throws -> Repository {
        do { return try Repository.open(at: repository.path, password: "secret") } catch {
            guard let opened = try? Repository.open(at: repository.path, recovery: recovery) else {
                throw error
            }
            return opened
        }
    }
}

/// `ID of the snapshot, path` of all that findings name.
func needs(_ findings: [CheckFinding]) -> Set<String> {
    var result: Set<String> = []
    for finding in findings {
        for need in finding.needs {
            for snapshot in need.snapshots {
                result.insert("\(snapshot), \(String(decoding: need.path, as: UTF8.self))")
            }
        }
    }
    return result
}
