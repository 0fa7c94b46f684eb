import Glibc
import Posix
import Repository
import Sessions
import TestSupport
import Wire

/// Runs captures of scripted agents against a real repository, and checks now and then what they left in it.
final class Captures {
    private let repository: Repository
    private var newest: [CaptureKind: BlobID] = [:]
    private var units = 0
    private var shape: UInt64 = 0
    private(set) var checks = 0
    private(set) var snapshots = 0

    /// Captures after which the repository is checked and emptied.
    private static let generation = 150

    struct Damaged: Error, CustomStringConvertible { let description: String }

    init(folder: String) throws {
        repository = try Repository.create(at: folder, keys: [.password("fuzz")])
    }

    /// - Returns: The frames that were given to the coordinator, and how it ended.
    ///
    /// - Parameter tick: Called for every frame.
    func run(seed: UInt64, tick: @escaping () -> Void) throws -> (frames: Int, outcome: String) {
        var random = SplitMix(seed)
        if units % Self.generation == 0 { shape = random.next() }
        units += 1
        let rate = random.pick([0, 5, 50, 500, 500, 5000])
        let kind: CaptureKind = random.once(in: 6) ? .database : .full
        let script = AgentScript(seed: random.next(), shape: shape, rate: rate, kind)
        let channel = Script(seed: random.next(), more: script.more, hear: script.hear)

        var index = try repository.loadIndex()
        let adoption = try repository.adoptOrphanPacks(into: &index)
        if !adoption.aside.isEmpty { throw Damaged(description: "a pack of a capture before is damaged") }
        let record = kind == .full ? try repository.readSealed(Checkpoint.fileName) : nil
        let checkpoint = record.flatMap { Checkpoint($0) }
        if record != nil && checkpoint == nil { throw Damaged(description: "a checkpoint cannot be read") }
        let journal = kind == .full ? try CaptureJournal(repository) : nil
        let writer = try BlobWriter(repository, index)
        let report = CaptureReport()
        let conversation = CaptureConversation(
            kind,
            stream: FrameStream(channel),
            writer: writer,
            repository: repository,
            earlier: [newest[kind], checkpoint?.tree].compactMap { $0 },
            resumed: (checkpoint?.partials ?? []) + [journal?.partial].compactMap { $0 },
            journal: journal,
            report: report,
            tick: tick
        )
        var outcome: String
        do {
            let tree = try conversation.run()
            try writer.flush()
            try publish(tree, kind)
            newest[kind] = tree
            outcome =
                "accepted" + (kind == .database ? ", the database alone" : "")
                + (report.problemCount > 0 ? ", incomplete" : "")
        } catch {
            outcome = classOf(error)
            if !(error is CaptureError || error is WireError) {
                throw Damaged(description: "a capture ended with an error of ours: \(error)")
            }
            // As a cut capture does; at times as a killed one.
            if !random.once(in: 4) { try conversation.checkpoint() }
        }
        writer.abandon()
        if units % Self.generation == 0 { try verify() }
        return (script.frames, outcome)
    }

    private func publish(_ tree: BlobID, _ kind: CaptureKind) throws {
        let snapshot = Snapshot(
            time: ZonedTime(nanoseconds: Time.now()),
            tree: tree,
            paths: ["/"],
            hostname: "fuzz",
            username: "fuzz",
            tags: [],
            programVersion: "fuzz",
            summary: nil
        )
        try repository.stageSnapshot(snapshot.encoded()).publish()
        if kind == .full {
            try repository.removeSide(Checkpoint.fileName)
            try repository.removeSide(CaptureJournal.fileName)
        }
        snapshots += 1
    }

    /// Reads every byte of the repository, then empties it.
    func verify() throws {
        let report = Check.run(repository, .data)
        checks += 1
        if let first = report.findings.first {
            throw Damaged(description: "the repository is damaged: \(first)")
        }
        if let obstacle = report.obstacle, !newest.isEmpty {
            throw Damaged(description: "check: \(obstacle)")
        }
        for folder in ["snapshots", "index", "data", "holdfast"] {
            let path = "\(repository.path)/\(folder)"
            try Files.removeTree(path)
            try Files.makeDirectories(path)
        }
        newest = [:]
    }
}

/// The error without what differs from case to case.
func classOf(_ error: any Error) -> String {
    var text = "\(error)"
    if let name = text.firstIndex(of: "'") { text = String(text[..<name]) + "…" }
    if let name = text.firstIndex(of: "\"") { text = String(text[..<name]) + "…" }
    var result = ""
    var inNumber = false
    for character in text.prefix(110) {
        if character.isNumber {
            if !inNumber { result += "N" }
            inNumber = true
        } else {
            inNumber = false
            result.append(character)
        }
    }
    return "refused: " + result
}
