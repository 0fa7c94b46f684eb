import Glibc
import Posix
import Repository
import TestSupport
import Testing

/// A repository with two snapshots that share most of their files.
private struct Sample: ~Copyable {
    let scratch: Scratch
    let repository: Repository
    /// Oldest first.
    let snapshots: [BlobID]
    let index: BlobIndex
    /// Blobs of `photos/b.jpg`, and the one that it shares with `photos/copy-of-b.jpg`.
    let parts: [BlobID]
    let photos: BlobID

    init() throws {
        let scratch = try Scratch()
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let backup = try FolderBackup(repository)
        func file(_ name: String, _ content: [BlobID]) -> Node {
            var node = Node(name: Array(name.utf8), kind: .file, mtime: ZonedTime(nanoseconds: 0))
            node.content = content
            node.size = UInt64(content.count * 40_000)
            return node
        }
        func folder(_ name: String, _ nodes: [Node]) throws -> Node {
            var node = Node(name: Array(name.utf8), kind: .directory, mtime: ZonedTime(nanoseconds: 0))
            node.subtree = try backup.add(tree: nodes)
            return node
        }
        let blobs = try (0..<6).map { try backup.add(data: AwkwardTree.noise(40_000, seed: 100 + $0)) }
        let photos = try folder(
            "photos",
            [
                file("a.jpg", [blobs[0]]), file("b.jpg", [blobs[1], blobs[2]]),
                file("copy-of-b.jpg", [blobs[2]]),
            ]
        )
        let first = try backup.snapshot(tree: backup.add(tree: [file("dump.sql", [blobs[3]]), photos]))
        let second = try backup.snapshot(
            tree: backup.add(tree: [
                file("dump.sql", [blobs[3], blobs[4]]), file("new.jpg", [blobs[5]]), photos,
            ])
        )
        let subtree = try #require(photos.subtree)
        let index = try repository.loadIndex()
        self.snapshots = [first, second]
        self.parts = [blobs[1], blobs[2]]
        self.photos = subtree
        self.index = index
        self.repository = repository
        self.scratch = scratch
    }

    func run(_ depth: Check.Depth) -> CheckReport { Check.run(repository, depth) }

    func place(_ blob: BlobID, _ kind: BlobKind = .data) throws -> (pack: BlobID, blob: PackedBlob) {
        try #require(index.lookup(blob, kind))
    }

    func damage(_ blob: BlobID, _ kind: BlobKind = .data) throws {
        let place = try place(blob, kind)
        try flipByte(repository.packPath(place.pack), at: Int64(place.blob.offset) + 50)
    }
}

private func paths(_ finding: CheckFinding?) -> [String] {
    (finding?.needs ?? []).map { String(decoding: $0.path, as: UTF8.self) }.sorted()
}

struct CheckSound {
    @Test func `a sound repository passes and every count adds up`() throws {
        let sample = try Sample()
        let report = sample.run(.data)
        #expect(report.verdict == .passed, "\(report.findings)")
        #expect(report.snapshots.checked == 2 && report.trees.checked == 3 && report.blobsRead.checked == 9)
        #expect(report.packsRead.checked == 3 && report.packsRead.all == 3 && report.bytesRead > 240_000)
        #expect(report.notes.isEmpty)
        let structure = sample.run(.structure)
        #expect(structure.verdict == .passed && structure.blobsRead.checked == 0)
        #expect(
            structure.blobsRead.skipped == ["reading data was not asked for": 9]
                && structure.blobsRead.reconciles
        )
    }

    @Test(arguments: Vectors.repositories)
    func `repositories of stock restic pass`(_ name: String) throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.open(at: try scratch.unpack(name), password: Vectors.passwords[0])
        let report = Check.run(repository, .data)
        #expect(report.verdict == .passed, "\(report.findings)")
        #expect(report.snapshots.checked == 3 && report.packsRead.checked > 0)
    }

    @Test func `a repository without a snapshot does not pass`() throws {
        let scratch = try Scratch()
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        guard case .couldNotRun = Check.run(repository, .data).verdict else {
            Issue.record("it passed")
            return
        }
    }

    @Test func `a pack that no index lists and nothing needs is noted, and no finding while it is whole`()
        throws
    {
        let sample = try Sample()
        // What a run that was cut off leaves: the pack, and not yet its index file.
        let before = Set(try sample.repository.list(.index))
        let writer = try BlobWriter(sample.repository, sample.index)
        _ = try writer.add(AwkwardTree.noise(500, seed: 9), .data)
        try writer.flush()
        for id in try sample.repository.list(.index) where !before.contains(id) {
            try sample.repository.remove(.index, id)
        }
        let report = sample.run(.data)
        #expect(report.verdict == .passed && report.notes.count == 1)

        let torn = try #require(BlobID(hex: "ab" + String(repeating: "0", count: 62)))
        try Files.writeAtomically([1, 2, 3], to: sample.repository.packPath(torn))
        #expect(sample.run(.structure).verdict == .passed)
        let findings = sample.run(.data).findings
        #expect(findings.map(\.kind) == [.changedPack(torn)] && findings.first?.needs.isEmpty == true)
    }

    @Test func `progress is told and ends below its total`() throws {
        let sample = try Sample()
        var seen: [CheckProgress] = []
        _ = Check.run(sample.repository, .data) { seen.append($0) }
        #expect(!seen.isEmpty && seen.allSatisfy { $0.total == 0 || $0.done <= $0.total })

        // So slowly that it is told of every step, also of those that look for what needs the damage.
        try sample.damage(sample.parts[0])
        seen = []
        let report = Check.run(sample.repository, .data) {
            seen.append($0)
            Time.sleep(seconds: 0.21)
        }
        #expect(report.verdict == .failed && seen.last?.findings ?? 0 > 0)
        #expect(seen.contains { if case .needs = $0.phase { true } else { false } })
    }
}

struct CheckDamage {
    @Test func `a changed blob is named with its pack and the files and snapshots that need it`() throws {
        let sample = try Sample()
        try sample.damage(sample.parts[1])
        #expect(sample.run(.structure).verdict == .passed)
        let report = sample.run(.data)
        #expect(report.verdict == .failed)
        let pack = try sample.place(sample.parts[1]).pack
        #expect(
            Set(report.findings.map(\.kind)) == [
                .changedPack(pack), .damagedBlob(sample.parts[1], .data, pack: pack, onlyCopy: true),
            ]
        )
        let blob = report.findings.first { $0.blob == sample.parts[1] }
        #expect(paths(blob) == ["photos/b.jpg", "photos/copy-of-b.jpg"])
        #expect(blob?.needs.allSatisfy { Set($0.snapshots) == Set(sample.snapshots) } == true)
        #expect(blob.map { "\($0)" }?.contains("photos/b.jpg") == true)
        // The others were looked at all the same.
        #expect(report.blobsRead.checked == 9)
    }

    @Test func `a changed header, trailer or length of a pack is found`() throws {
        for cut in [true, false] {
            let sample = try Sample()
            let pack = try sample.place(sample.parts[0]).pack
            let file = sample.repository.packPath(pack)
            let size = try FileStatus(path: file).size
            if cut {
                chmod(file, 0o600)
                try FileDescriptor(open: file, O_RDWR).truncate(to: Int64(size) - 10)
                let report = sample.run(.structure)
                #expect(
                    report.findings.map(\.kind) == [
                        .wrongPackSize(pack, expected: Int(size), actual: Int(size) - 10)
                    ]
                )
                #expect(paths(report.findings.first).contains("dump.sql"))
            } else {
                try flipByte(file, at: Int64(size) - 20)
                let kinds = Set(sample.run(.data).findings.map(\.kind))
                #expect(kinds == [.changedPack(pack), .damagedPackHeader(pack)])
            }
        }
    }

    @Test func `a missing pack is named with what needs it`() throws {
        let sample = try Sample()
        let pack = try sample.place(sample.parts[0]).pack
        try Files.remove(sample.repository.packPath(pack))
        let report = sample.run(.data)
        #expect(report.findings.map(\.kind) == [.missingPack(pack)])
        #expect(
            paths(report.findings.first) == [
                "dump.sql", "new.jpg", "photos/a.jpg", "photos/b.jpg", "photos/copy-of-b.jpg",
            ]
        )
        #expect(report.packsRead.reconciles && report.blobsRead.reconciles)
    }

    @Test func `a damaged tree is named with its folder`() throws {
        let sample = try Sample()
        try sample.damage(sample.photos, .tree)
        let report = sample.run(.structure)
        #expect(report.findings.map(\.kind) == [.unreadableTree(sample.photos)])
        #expect(paths(report.findings.first) == ["photos"])
    }

    @Test func `a damaged index file and what only it lists are found`() throws {
        let sample = try Sample()
        let id = try #require(try sample.repository.list(.index).first)
        try flipByte(sample.repository.filePath(.index, id), at: 40)
        let report = sample.run(.data)
        // The packs are all there, so every path that is only reached through them is known.
        let unlisted = report.findings.compactMap { finding -> BlobID? in
            if case .unlistedPack(let pack) = finding.kind { pack } else { nil }
        }
        #expect(report.findings.contains { $0.kind == .damagedIndexFile(id) } && !unlisted.isEmpty)
        #expect(unlisted.count + 1 == report.findings.count)
        #expect(!paths(report.findings.first { $0.kind == .damagedIndexFile(id) }).isEmpty)
    }

    @Test(arguments: [true, false])
    func `a damaged or empty snapshot file is found and the others checked`(_ empty: Bool) throws {
        let sample = try Sample()
        let file = sample.repository.filePath(.snapshots, sample.snapshots[0])
        if empty {
            chmod(file, 0o600)
            try FileDescriptor(open: file, O_RDWR).truncate(to: 0)
        } else {
            try flipByte(file, at: 40)
        }
        let report = sample.run(.data)
        #expect(report.findings.map(\.kind) == [.damagedSnapshot(sample.snapshots[0])])
        #expect(report.trees.checked == 2 && report.snapshots.checked == 2)
    }

    @Test func `a damaged copy beside an intact one costs no file`() throws {
        let sample = try Sample()
        // A second writer that knows of nothing stores the same blob once more.
        let writer = try BlobWriter(sample.repository, BlobIndex())
        #expect(try writer.add(AwkwardTree.noise(40_000, seed: 101), .data) == sample.parts[0])
        try writer.flush()
        try sample.damage(sample.parts[0])
        let report = sample.run(.data)
        let finding = try #require(report.findings.first { $0.blob == sample.parts[0] })
        let pack = try sample.place(sample.parts[0]).pack
        #expect(finding.kind == .damagedBlob(sample.parts[0], .data, pack: pack, onlyCopy: false))
        #expect(finding.needs.isEmpty && report.verdict == .failed)
    }

    @Test func `a pack that cannot be read is no damage, but the check does not pass`() throws {
        guard getuid() == 0 else { return }
        let sample = try Sample()
        let owned = try ChildProcess.run(["chown", "-R", "65534", sample.repository.path])
        try #require(owned.end == .exit(0))
        chmod(sample.scratch.path, 0o755)
        let pack = try sample.place(sample.parts[0]).pack
        chown(sample.repository.packPath(pack), 0, 0)
        chmod(sample.repository.packPath(pack), 0o600)
        let report = Host.reachingFiles(asUser: 65534) { sample.run(.data) }
        #expect(report.findings.isEmpty)
        guard case .couldNotRun(let reason) = report.verdict else {
            Issue.record("\(report.verdict)")
            return
        }
        #expect(reason.contains(pack.hex) && reason.contains("Permission denied"))
        #expect(report.packsRead.reconciles && report.blobsRead.reconciles)
    }
}

struct CheckTreesAndSizes {
    private static let times =
        #""mtime":"2024-01-01T00:00:00Z","atime":"2024-01-01T00:00:00Z","ctime":"2024-01-01T00:00:00Z","uid":0,"gid":0"#

    @Test func `what stock check overlooks in trees is found`() throws {
        let scratch = try Scratch()
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let backup = try FolderBackup(repository)
        let blob = try backup.add(data: [1, 2, 3])
        func file(_ name: String, _ size: Int) -> String {
            #"{"name":"\#(name)","type":"file",\#(Self.times),"size":\#(size),"content":["\#(blob)"]}"#
        }
        let nothing = String(repeating: "1", count: 64)
        let nodes = [
            file("a", 3), file("..", 3), file("b", 4), file("b", 3), file("aa", 3),
            #"{"name":"c","type":"dir",\#(Self.times),"content":null}"#,
            #"{"name":"d","type":"dir",\#(Self.times),"content":null,"subtree":"\#(nothing)"}"#,
            #"{"name":"e","type":"file",\#(Self.times),"content":null}"#,
            #"{"name":"f","type":"file",\#(Self.times),"size":9,"content":["\#(nothing)"]}"#,
            #"{"name":"g","type":"door",\#(Self.times),"content":null}"#,
        ]
        let tree = try backup.add(treeText: #"{"nodes":[\#(nodes.joined(separator: ","))]}"# + "\n")
        let unreadable = try backup.add(treeText: #"{"nodes":[{"name":"x","uid":-1}]}"#)
        _ = try backup.snapshot(tree: tree)
        _ = try backup.snapshot(tree: unreadable)
        let report = Check.run(repository, .data)
        #expect(report.verdict == .failed)
        let entries = report.findings.compactMap { finding -> String? in
            guard case .malformedEntry(tree, let name) = finding.kind else { return nil }
            return String(decoding: name, as: UTF8.self)
        }
        #expect(entries.sorted() == ["..", "aa", "b", "b", "c", "e", "g"])
        let kinds = Set(report.findings.map(\.kind))
        let id = try #require(BlobID(hex: nothing))
        #expect(kinds.contains(.missingBlob(id, .tree)) && kinds.contains(.missingBlob(id, .data)))
        #expect(kinds.contains(.malformedTree(unreadable)))
        #expect(paths(report.findings.first { $0.kind == .missingBlob(id, .data) }) == ["f"])
        #expect(paths(report.findings.first { $0.kind == .missingBlob(id, .tree) }) == ["d"])
    }
}
