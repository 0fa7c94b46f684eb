import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

/// A host whose snapshots were written by hand, of chosen times, and came into the catalogue by a rebuild: retention
/// needs no agent.
final class RetentionRig {
    let installation: Installation
    let layer: FaultLayer
    let repository: Repository
    let password: String
    static let day: Int64 = 86_400_000_000_000
    let now = Time.now()
    private var made = 0

    /// - Parameter retention: As in `fleet.yaml`.
    init(retention: String = "{ full: { last: 2 }, database: { last: 1 } }") throws {
        installation = try Installation(extra: "defaults: { retention: \(retention), grace: 7d }")
        layer = try FaultLayer(folders: [
            installation.folder + "/repositories", installation.folder + "/state",
        ])
        try installation.initialise()
        try installation.serve()
        _ = try installation.addHost("lisbon")
        password = try installation.password("lisbon")
        repository = try Repository.open(at: installation.repository("lisbon"), password: password)
    }

    /// Adds a snapshot with a photo of its own, of so many days ago.
    @discardableResult
    func add(_ days: Double, kind: String = "full", incomplete: Bool = false, isOurs: Bool = true) throws
        -> BlobID
    {
        made += 1
        let writer = try BlobWriter(repository, repository.loadIndex())
        var photo = Node(name: Array("photo.jpg".utf8), kind: .file, mtime: ZonedTime(nanoseconds: 0))
        photo.content = [try writer.add(AwkwardTree.noise(20_000, seed: 9000 + UInt64(made)), .data)]
        photo.size = 20_000
        let tree = try writer.add(Tree(nodes: [photo]).encoded(), .tree)
        try writer.flush()
        let marks = ["holdfast", "kind:\(kind)", "scope:originals", "epoch:1"]
        let snapshot = Snapshot(
            time: ZonedTime(nanoseconds: now - Int64(days * Double(Self.day))),
            tree: tree,
            paths: ["/"],
            hostname: "lisbon",
            tags: isOurs ? marks + (incomplete ? ["incomplete"] : []) : ["by hand"]
        )
        return try repository.write(snapshot.encoded(), to: .snapshots)
    }

    /// Gives the files their rows.
    func rebuild() throws {
        let outcome = try installation.coordinator("catalogue", "rebuild", "--json")
        guard outcome.status == 0 else { throw Unexpected(outcome) }
    }

    func forget(_ arguments: String...) throws -> Outcome {
        try Outcome.of(
            [
                Programs.coordinator, "--config", installation.configuration, "forget", "lisbon", "--json",
            ] + arguments
        )
    }

    /// The ids of what the folder `name` of the repository holds.
    func files(_ folder: Repository.Folder) throws -> Set<BlobID> { Set(try repository.list(folder)) }

    /// The catalogue's states, by id.
    func states() throws -> [String: String] {
        var result: [String: String] = [:]
        for line in try installation.sql("SELECT id || ' ' || state FROM snapshots").split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            if words.count == 2 { result[words[0]] = words[1] }
        }
        return result
    }

    /// What a stock client says to all of it.
    func checkStock(_ what: String) throws {
        let check = try Restic(repository.path, password: password).attempt(["check", "--read-data"])
        #expect(check.exit == .exit(0), "\(what): \(check.text)")
    }
}
