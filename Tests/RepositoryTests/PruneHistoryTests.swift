import Glibc
import Posix
import Repository
import TestSupport
import Testing

/// Random histories of a repository: backups of ours and of a stock restic, snapshots forgotten, recalled and dropped,
/// prunes that are stopped anywhere, runs that were killed, blobs in several packs and packs of both kinds. After every
/// step everything that is needed is there; in the end there is little else.
@Suite("Random histories of a repository")
struct PruneHistoryTests {
    private static func mixedPack(_ rig: PruneRig) throws {
        // As very old clients wrote them: data and trees in one pack, all of it there already.
        let index = try rig.repository.loadIndex()
        let reader = try BlobReader(rig.repository, index)
        var blobs: [Forge.Blob] = []
        for key in rig.needed.sorted(by: { $0.id < $1.id }).prefix(6) {
            blobs.append(Forge.Blob(kind: key.kind, plain: try reader.read(key.id, key.kind)))
        }
        blobs.append(Forge.Blob(plain: rig.random.bytes(3000)))
        let forge = try Forge(rig.repository)
        try forge.index([try forge.pack(blobs)])
    }

    private static func copies(_ rig: PruneRig) throws {
        let index = try rig.repository.loadIndex()
        let reader = try BlobReader(rig.repository, index)
        let writer = try BlobWriter(rig.repository, BlobIndex())
        for key in rig.needed where rig.random.below(3) == 0 {
            _ = try writer.add(reader.read(key.id, key.kind), key.kind)
        }
        if rig.random.below(2) == 0 { _ = try writer.add(rig.random.bytes(5000), .data) }
        try writer.flush()
    }

    private static func killedRun(_ rig: PruneRig) throws {
        let files = Set(try rig.repository.list(.index))
        let writer = try BlobWriter(rig.repository, try rig.repository.loadIndex())
        for _ in 0..<3 { _ = try writer.add(rig.random.bytes(8000), .data) }
        try writer.flush()
        for file in try rig.repository.list(.index) where !files.contains(file) {
            try rig.repository.remove(.index, file)
        }
    }

    private static func stock(_ rig: PruneRig, _ folder: String) throws {
        for _ in 0..<3 {
            let name = "\(folder)/file-\(rig.random.below(12))"
            try Files.writeAtomically(rig.random.bytes(15_000), to: name, mode: 0o644)
        }
        try restic(rig.path, password: "secret", ["backup", folder])
        try rig.addForeign()
    }

    /// What happened, for the message of a failure.
    private static func step(_ rig: PruneRig, _ folder: String) throws -> String {
        switch rig.random.below(24) {
        case 0..<7:
            try rig.change(1 + rig.random.below(6))
            return "a snapshot"
        case 7..<12:
            guard rig.present.count > 1 else { return "nothing" }
            let id = rig.present[rig.random.below(rig.present.count)]
            try rig.forget(id)
            return "\(id.short) was forgotten"
        case 12:
            guard let id = rig.forgotten.keys.sorted().first else { return "nothing" }
            try rig.recall(id)
            return "\(id.short) was recalled"
        case 13..<20:
            let steps = rig.random.below(2) == 0 ? nil : rig.random.below(150)
            let report = try rig.prune(stoppedAfter: steps)
            return report.map { "pruned, \($0.deletedPacks) packs went" }
                ?? "a prune was stopped after \(steps ?? 0) steps"
        case 20:
            try copies(rig)
            return "blobs in several packs"
        case 21:
            try killedRun(rig)
            return "a killed run"
        case 22:
            try mixedPack(rig)
            return "a pack of both kinds"
        default:
            try stock(rig, folder)
            return "a stock restic's backup"
        }
    }

    @Test(arguments: 1...(isLong ? 60 : 4))
    func `what is needed is there after every step, and little else at last`(number: Int) throws {
        let seed =
            environmentVariables()["HOLDFAST_SEED"].flatMap { UInt64($0) }
            ?? randomBytes(4).reduce(UInt64(number)) { $0 << 8 | UInt64($1) }
        let rig = try PruneRig(seed: seed)
        let folder = rig.scratch.at("folder")
        try Files.makeDirectories(folder)
        try rig.change(12)
        var history: [String] = []
        let rounds = isLong ? 120 : 50
        for round in 1...rounds {
            history.append(try Self.step(rig, folder))
            rig.now += Int64(rig.random.below(60)) * PruneRig.hour
            try rig.expectWhole("seed \(seed), round \(round): \(history.suffix(4))")
            if isLong && round % 20 == 0 {
                try rig.expectSound("seed \(seed), round \(round)", strictly: false)
            }
        }
        try rig.settle("seed \(seed)")
        try rig.expectWhole("seed \(seed)", reads: true)
        try rig.expectSound("seed \(seed)")
    }
}
