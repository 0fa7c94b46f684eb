import Glibc
import Posix
import Repository
import TestSupport
import Testing

@Suite("Forgotten snapshots")
struct ForgottenTests {
    /// A repository with three snapshots, and a blob that only the second needs.
    private struct Sample: ~Copyable {
        let scratch: Scratch
        let repository: Repository
        /// In the order in which they were made.
        let ids: [BlobID]
        /// By the snapshots' number.
        let blobs: [BlobID]

        init() throws {
            let scratch = try Scratch()
            let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
            let backup = try FolderBackup(repository)
            var ids: [BlobID] = []
            var blobs: [BlobID] = []
            for number in 0..<3 {
                let blob = try backup.add(data: AwkwardTree.noise(40_000, seed: 700 + UInt64(number)))
                var node = Node(
                    name: Array("photo.jpg".utf8),
                    kind: .file,
                    mtime: ZonedTime(nanoseconds: 0)
                )
                node.content = [blob]
                node.size = 40_000
                ids.append(try backup.snapshot(tree: backup.add(tree: [node])))
                blobs.append(blob)
            }
            self.ids = ids
            self.blobs = blobs
            self.repository = repository
            self.scratch = scratch
        }

        func restic(_ arguments: String..., succeeds: Bool = true) throws -> String {
            try RepositoryTests.restic(
                repository.path,
                password: "secret",
                arguments,
                succeeds: succeeds
            )
        }
    }

    private static let time: Int64 = 1_795_000_000_123_456_789

    @Test func `a forgotten snapshot is gone for a stock client, is whole, and comes back byte for byte`()
        throws
    {
        let sample = try Sample()
        let repository = sample.repository
        let id = sample.ids[1]
        let before = try Files.read(repository.filePath(.snapshots, id))
        let snapshot = try repository.snapshot(id)
        try repository.forget(id, at: Self.time)

        #expect(try repository.list(.snapshots) == [sample.ids[0], sample.ids[2]].sorted())
        #expect(try Files.read("\(repository.path)/holdfast/forgotten/\(id)") == before)
        let forgotten = try repository.forgotten()
        #expect(forgotten.count == 1 && forgotten[0].id == id && forgotten[0].time == Self.time)
        #expect(forgotten[0].snapshot == snapshot)
        let said = try sample.restic("snapshots", "--json")
        #expect(!said.contains(id.hex) && said.contains(sample.ids[0].hex))
        _ = try sample.restic("check", "--read-data")
        #expect(try repository.snapshots().count == 2)

        try repository.recall(id)
        #expect(try Files.read(repository.filePath(.snapshots, id)) == before)
        #expect(try repository.forgotten().isEmpty && repository.sideFiles(in: "forgotten") == [])
        #expect(try sample.restic("snapshots", "--json").contains(id.hex))
        _ = try sample.restic("check", "--read-data")
    }

    @Test func `those that were forgotten first come first, and again means a new time`() throws {
        let sample = try Sample()
        let repository = sample.repository
        for (number, id) in sample.ids.enumerated() {
            try repository.forget(id, at: Self.time - Int64(number) * 1_000)
        }
        #expect(try repository.forgotten().map(\.id) == sample.ids.reversed())
        try repository.recall(sample.ids[2])
        try repository.forget(sample.ids[2], at: Self.time + 5)
        let forgotten = try repository.forgotten()
        #expect(forgotten.map(\.id) == [sample.ids[1], sample.ids[0], sample.ids[2]])
        #expect(forgotten.last?.time == Self.time + 5)
    }

    @Test func `the end of the grace takes the file and what was proved of it`() throws {
        let sample = try Sample()
        let repository = sample.repository
        let (id, other) = (sample.ids[0], sample.ids[1])
        for snapshot in [id, other] {
            try repository.writeProof(
                ProofRecord(snapshot: snapshot, level: .whole, time: Self.time, figures: ["originals": 1])
            )
        }
        try repository.forget(id, at: Self.time)
        try repository.dropForgotten(id)
        #expect(try repository.forgotten().isEmpty && repository.sideFiles(in: "forgotten") == [])
        #expect(try repository.proofs().map(\.snapshot) == [other])
        // Neither can be done any more.
        #expect(throws: SystemCallError.self) { try repository.recall(id) }
        #expect(throws: SystemCallError.self) { try repository.dropForgotten(id) }
        #expect(throws: SystemCallError.self) { try repository.forget(id, at: Self.time) }
        #expect(try repository.sideFiles(in: "forgotten") == [])
    }

    @Test func `what is wrong in there is told, and never makes the grace shorter`() throws {
        let sample = try Sample()
        let repository = sample.repository
        let start = Time.now()
        for id in sample.ids { try repository.forget(id, at: 1_000) }
        let record = "\(repository.path)/holdfast/forgotten/\(sample.ids[0]).when"
        // Of another snapshot, and gone.
        try Files.writeAtomically(
            Files.read("\(repository.path)/holdfast/forgotten/\(sample.ids[1]).when"),
            to: record
        )
        try Files.remove("\(repository.path)/holdfast/forgotten/\(sample.ids[2]).when")
        #expect(throws: RepositoryError.self) { try repository.forgotten() }
        var told: [String] = []
        let found = try repository.forgotten { told.append("\($0)") }
        #expect(told.count == 1 && told[0].contains("\(sample.ids[0]).when"), "\(told)")
        // The clock of files is a little behind that of programs.
        let times = Dictionary(uniqueKeysWithValues: found.map { ($0.id, $0.time) })
        #expect(times[sample.ids[1]] == 1_000)
        for id in [sample.ids[0], sample.ids[2]] {
            #expect((times[id] ?? 0) > start - 1_000_000_000, "\(times)")
        }
        let report = Check.run(repository, .structure)
        #expect(report.findings.map(\.file) == ["holdfast/forgotten/\(sample.ids[0]).when"])

        try flipByte("\(repository.path)/holdfast/forgotten/\(sample.ids[1])", at: 40)
        told = []
        #expect(try repository.forgotten { told.append("\($0)") }.count == 2)
        #expect(told.contains { $0.contains("holdfast/forgotten/\(sample.ids[1]) is damaged") }, "\(told)")
        #expect(
            Check.run(repository, .structure).findings.contains {
                $0.kind == .damagedSnapshot(sample.ids[1])
                    && $0.file == "holdfast/forgotten/\(sample.ids[1])"
            }
        )
    }

    @Test func `a check reads forgotten snapshots too, and finds what only they need`() throws {
        let sample = try Sample()
        let repository = sample.repository
        try repository.forget(sample.ids[1], at: Self.time)
        let sound = Check.run(repository, .data)
        #expect(sound.verdict == .passed, "\(sound.findings)")
        #expect(sound.snapshots.checked == 3 && sound.trees.checked == 3)
        #expect(sound.sideFiles.checked == 1)
        let index = try repository.loadIndex()
        let place = try #require(index.lookup(sample.blobs[1], .data))
        try flipByte(repository.packPath(place.pack), at: Int64(place.blob.offset) + 50)
        let report = Check.run(repository, .data)
        #expect(report.verdict == .failed)
        let needs = report.findings.flatMap(\.needs)
        #expect(needs.contains { $0.path == Array("photo.jpg".utf8) && $0.snapshots == [sample.ids[1]] })
    }

    @Test func `two names of one file, as a power cut may leave them, are one snapshot that is there`() throws
    {
        let sample = try Sample()
        let repository = sample.repository
        let id = sample.ids[1]
        try repository.forget(id, at: Self.time)
        let (there, here) = (repository.filePath(.forgotten, id), repository.filePath(.snapshots, id))
        #expect(link(there, here) == 0)
        #expect(try repository.forgotten().isEmpty)
        #expect(Check.run(repository, .data).snapshots.checked == 3)
        // Each way it ends in one place.
        try repository.forget(id, at: Self.time)
        #expect(Files.exists(there) && !Files.exists(here))
        #expect(link(there, here) == 0)
        try repository.recall(id)
        #expect(!Files.exists(there) && Files.exists(here))
        _ = try sample.restic("check", "--read-data")
    }
}
