import Glibc
import Posix
import Testing

import Repository

/// A repository with the password `secret` and what a capture does with it.
private struct Made: ~Copyable {
    let scratch: ScratchFolder
    let repository: Repository
    var path: String { repository.path }

    init() throws {
        let folder = try ScratchFolder()
        repository = try Repository.create(at: "\(folder.path)/r", keys: [.password("secret")])
        scratch = folder
    }

    func writer() throws -> BlobWriter { try BlobWriter(repository, repository.loadIndex()) }

    /// Stores files with these contents, flushes, publishes a snapshot.
    @discardableResult
    func snapshot(_ writer: BlobWriter, _ files: [(String, [[UInt8]])], _ compression: Compression = .probe)
        throws
        -> BlobID
    {
        var nodes: [String] = []
        for (name, parts) in files {
            let ids = try parts.map { "\"\(try writer.add($0, .data, compression))\"" }
            nodes.append(
                #"{"name":"\#(name)","type":"file","mode":420,"mtime":"2024-01-02T03:04:05Z","#
                    + #""atime":"2024-01-02T03:04:05Z","ctime":"2024-01-02T03:04:05Z","uid":0,"gid":0,"#
                    + #""size":\#(parts.reduce(0) { $0 + $1.count }),"links":1,"#
                    + #""content":[\#(ids.joined(separator: ","))]}"#
            )
        }
        let tree = try writer.add(
            Array("{\"nodes\":[\(nodes.joined(separator: ","))]}\n".utf8),
            .tree
        )
        try writer.flush()
        let staged = try repository.stageSnapshot(
            Array(
                #"{"time":"2024-03-03T04:05:06Z","tree":"\#(tree)","paths":["/"],"hostname":"h"}"#.utf8
            )
        )
        #expect(try repository.list(.snapshots).contains(staged.id) == false)
        try staged.publish()
        return staged.id
    }

    func check() throws {
        let text = try restic(path, password: "secret", ["check", "--read-data"])
        #expect(text.contains("no errors were found"))
        #expect(!text.contains("not referenced") && !text.contains("duplicate"))
    }

    /// Every name below the repository that is a temporary file.
    func temporary() throws -> [String] {
        let result = try ChildProcess.run(["find", path, "-name", "*-tmp-*"])
        return String(decoding: result.output, as: UTF8.self).split(separator: "\n").map(String.init)
    }
}

@Suite("Writing blobs")
struct WriterTests {
    @Test func `restic reads back what was written, compressed or not`() throws {
        let made = try Made()
        let writer = try made.writer()
        let text = Array(String(repeating: "a line of a dump that repeats itself\n", count: 40_000).utf8)
        let photo = noise(3 << 20, seed: 1)
        let half = noise(300_000, seed: 2) + [UInt8](repeating: 7, count: 300_000)
        try made.snapshot(
            writer,
            [
                ("a-text", [text]), ("b-photo", [photo]), ("c-half", [half]), ("d-tiny", [[1]]),
                ("e-two", [text, photo]),
            ]
        )
        #expect(writer.figures.knownBlobs == 2)
        #expect(writer.figures.dataBlobs == 4 && writer.figures.treeBlobs == 1)
        #expect(writer.figures.packs == 2 && writer.figures.indexFiles == 1)
        #expect(writer.figures.storedBytes < Int64(photo.count + half.count))
        try made.check()
        for (name, bytes) in [
            ("a-text", text), ("b-photo", photo), ("c-half", half), ("e-two", text + photo),
        ] {
            let result = try ChildProcess.run(
                ["restic", "--no-cache", "-r", made.path, "dump", "latest", name],
                environment: ["RESTIC_PASSWORD": "secret"]
            )
            #expect(result.end == .exit(0))
            #expect(result.output == bytes)
        }
        let reader = try BlobReader(made.repository, made.repository.loadIndex())
        #expect(try reader.read(BlobID.hash(of: half), .data) == half)
        #expect(try made.temporary().isEmpty)
    }

    @Test func `a second run stores nothing again`() throws {
        let made = try Made()
        let files = (0..<20).map { ("f\(10 + $0)", [noise(5000, seed: UInt64($0))]) }
        try made.snapshot(try made.writer(), files)
        let packs = try made.repository.listPacks()
        let again = try made.writer()
        try made.snapshot(again, files)
        #expect(again.figures.dataBlobs == 0 && again.figures.treeBlobs == 0)
        #expect(again.figures.packs == 0 && again.figures.indexFiles == 0 && again.figures.syncs == 0)
        #expect(try made.repository.listPacks() == packs)
        try made.check()
    }

    @Test func `the same bytes as data and as tree are two blobs, and an empty blob is stored plain`() throws
    {
        let made = try Made()
        let writer = try made.writer()
        let tree = Array("{\"nodes\":[]}\n".utf8)
        #expect(try writer.add(tree, .data) == writer.add(tree, .tree))
        let empty = try writer.add([], .data, .always)
        try writer.flush()
        #expect(writer.figures.dataBlobs == 2 && writer.figures.treeBlobs == 1)
        let index = try made.repository.loadIndex()
        #expect(index.count == 3)
        #expect(index.lookup(empty, .data)?.blob.uncompressed == 0)
        let reader = try BlobReader(made.repository, index)
        #expect(try reader.read(empty, .data).isEmpty)
        try made.check()
    }

    @Test func `packs close at their target and index files at their bound`() throws {
        let made = try Made()
        let writer = try made.writer()
        for _ in 0..<9 { _ = try writer.add(randomBytes(8 << 20), .data, .never) }
        // Sixty thousand small trees: more than a pack takes and than an index file lists.
        for number in 0..<60_000 { _ = try writer.add(Array("{\"nodes\":[]}\n\(number)".utf8), .tree) }
        try writer.flush()
        #expect(writer.figures.packs == 4)
        #expect(writer.figures.indexFiles == 2)
        let index = try made.repository.loadIndex()
        #expect(index.count == 60_009)
        for pack in index.packs {
            let size = try FileStatus(path: made.repository.packPath(pack)).size
            #expect(size < 73 << 20)
        }
        try made.check()
    }

    @Test func `a write that fails leaves no temporary file and closes the writer`() throws {
        let made = try Made()
        let writer = try made.writer()
        _ = try writer.add(noise(1000, seed: 1), .data)
        // The pack cannot get its name.
        try Files.removeTree("\(made.path)/data")
        #expect(throws: SystemCallError.self) { try writer.flush() }
        #expect(throws: RepositoryError.writerClosed) { try writer.add([1], .data) }
        #expect(throws: RepositoryError.writerClosed) { try writer.flush() }
        #expect(try made.temporary().isEmpty)
    }

    @Test(.enabled(if: canMount("tmpfs"), "needs the right to mount a tmpfs"))
    func `a full disk is an error that says so`() throws {
        let scratch = try ScratchFolder()
        let small = "\(scratch.path)/small"
        try Files.makeDirectories(small)
        let mount = try ChildProcess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small])
        try #require(mount.end == .exit(0))
        defer { _ = try? ChildProcess.run(["umount", small]) }
        let repository = try Repository.create(at: "\(small)/r", keys: [.password("secret")])
        let writer = try BlobWriter(repository, BlobIndex())
        #expect {
            for seed in 0..<4 { _ = try writer.add(noise(3 << 20, seed: UInt64(seed)), .data, .never) }
            try writer.flush()
        } throws: { "\($0)".contains("No space left on device") && "\($0)".contains(repository.path) }
        #expect(try Directory.names("\(repository.path)/data").count == 256)
        #expect(try repository.list(.index).isEmpty)
        try restic(repository.path, password: "secret", ["check"])
    }

    @Test func `what a killed run left is removed or used by the next`() throws {
        let made = try Made()
        // Packs without an index: written whole, then everything after them is lost.
        let writer = try made.writer()
        let blobs = (0..<50).map { noise(10_000, seed: UInt64($0)) }
        for blob in blobs { _ = try writer.add(blob, .data) }
        try writer.flush()
        for id in try made.repository.list(.index) { try made.repository.remove(.index, id) }
        // A second pack, damaged.
        let second = try made.writer()
        let lost = try second.add(noise(4000, seed: 99), .data)
        try second.flush()
        for id in try made.repository.list(.index) { try made.repository.remove(.index, id) }
        let known = Set(try made.repository.listPacks())
        #expect(known.count == 2)
        let bad = try #require(second.index.lookup(lost, .data)).pack
        var bytes = try Files.read(made.repository.packPath(bad))
        bytes[100] ^= 1
        try Files.writeAtomically(bytes, to: made.repository.packPath(bad))
        // Temporary files of the dead, and one of a stock client.
        let ours = [
            "data/pack-tmp-holdfast-0011", "snapshots/\(bad)-tmp-holdfast-22", "index/\(bad)-tmp-holdfast-33",
        ].map { "\(made.path)/\($0)" }
        let foreign = "\(made.path)/snapshots/\(bad)-tmp-4711"
        // Another process may be adding a key or a record at this moment.
        let others = ["keys/\(bad)-tmp-holdfast-44", "holdfast/epoch-tmp-55"].map { "\(made.path)/\($0)" }
        for file in ours + [foreign] + others { try Files.writeAtomically([1, 2, 3], to: file) }

        let removed = try made.repository.removeLeftovers(before: Time.now() - 3600 * 1_000_000_000)
        #expect(Set(removed) == Set(ours))
        #expect(try made.repository.removeLeftovers(before: Time.now() + 1_000_000_000) == others)
        #expect(try made.temporary() == [foreign])
        var index = try made.repository.loadIndex()
        #expect(index.count == 0)
        let adoption = try made.repository.adoptOrphanPacks(into: &index)
        #expect(adoption.adopted == known.subtracting([bad]).sorted())
        #expect(adoption.aside.map(\.pack) == [bad])
        #expect(try Directory.names("\(made.path)/holdfast/aside").count == 1)
        #expect(index.count == 50)

        let next = try BlobWriter(made.repository, index)
        let files = blobs.enumerated().map { ("f\(10 + $0.offset)", [$0.element]) }
        try made.snapshot(next, files)
        #expect(next.figures.dataBlobs == 0 && next.figures.knownBlobs == 50)
        try made.check()
    }

    @Test func `a staged snapshot that is not published disappears`() throws {
        let made = try Made()
        do {
            let staged = try made.repository.stageSnapshot(Array("{}".utf8))
            #expect(try made.temporary().count == 1)
            staged.discard()
            #expect(throws: RepositoryError.self) { try staged.publish() }
        }
        _ = try made.repository.stageSnapshot(Array("{}".utf8))
        #expect(try made.temporary().isEmpty)
        #expect(try made.repository.list(.snapshots).isEmpty)
    }

    @Test func `samples tell compressed data from text`() throws {
        func looks(_ bytes: [UInt8]) -> Bool { bytes.withUnsafeBytes { Compressibility.looksCompressed($0) } }
        #expect(looks(noise(100_000, seed: 5)))
        #expect(looks(noise(4000, seed: 5)))
        // Of small blobs little is looked at: a few may be taken wrongly, at no cost but a few percent of their size.
        let small = (0..<1000).map { noise(600, seed: $0) }
        #expect(small.count(where: looks) > 990)
        let texts = (0..<1000).map { Array(Base64.encode(noise(450, seed: $0)).utf8) }
        #expect(texts.count(where: looks) < 10)
        #expect(!looks(Array(String(repeating: "INSERT INTO assets VALUES (42)", count: 500).utf8)))
        #expect(!looks(Array(Base64.encode(noise(60_000, seed: 6)).utf8)))
        #expect(!looks([UInt8](repeating: 0, count: 50_000)))
        #expect(!looks(noise(100, seed: 5)))
    }
}
