import Glibc
import JSON
import Posix
import Repository
import Restore
import TestSupport
import Testing

/// What stock restic writes, we read; what we write, stock restic reads.
struct StockRestic {
    @Test(arguments: Vectors.repositories)
    func `every file of a stock repository is listed and restored with its hash`(_ name: String) throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.open(at: try scratch.unpack(name), password: Vectors.passwords[1])
        let index = try repository.loadIndex()
        let expected = try #require(try Vectors.repository(name)["expected_contents"]?.array)
        #expect(expected.count == 3)
        #expect(
            try repository.snapshots().map(\.id.hex).sorted()
                == expected.compactMap { $0["snapshot"]?.string }.sorted()
        )
        for content in expected {
            let id = try #require(content["snapshot"]?.string.flatMap { BlobID(hex: $0) })
            let snapshot = try repository.snapshot(id)
            var found: [[UInt8]: Node] = [:]
            var walk = TreeWalk(try BlobReader(repository, index), from: snapshot.tree)
            while let step = try walk.next() {
                guard case .entry(let node) = step else {
                    Issue.record("\(step)")
                    continue
                }
                found[walk.path] = node
            }
            let target = "\(scratch.path)/restored-\(id.short)"
            let report = try restored(repository, id, to: target)
            #expect(report.isWhole, "\(report.problems)")
            let entries = try #require(content["entries"]?.array)
            #expect(found.count == entries.count)
            for entry in entries {
                let path = Array(try #require(bytes(hex: entry["path_hex"]?.string ?? "?")).dropFirst())
                let node = try #require(found[path])
                #expect(node.kind.text == entry["type"]?.string)
                guard node.kind == .file else { continue }
                #expect(node.size == entry["size"]?.uint64)
                let root = try FileDescriptor(open: target, O_RDONLY | O_DIRECTORY)
                let data = try FileDescriptor(at: root, path, O_RDONLY).readToEnd(limit: 64 << 20)
                #expect(try BlobID.hash(of: data).hex == entry["sha256"]?.string)
            }
        }
    }

    @Test func `an awkward tree that stock restic stored comes back whole`() throws {
        let scratch = try Scratch()
        let source = scratch.at("source")
        try AwkwardTree.make(at: source, wide: 600)
        let restic = try Restic.create(scratch.at("repository"), password: "secret")
        try restic("backup", source)
        let repository = try Repository.open(at: restic.repository, password: "secret")
        let id = try #require(try repository.snapshots().first?.id)
        let inside = String(source.dropFirst())
        let report = try restored(repository, id, to: scratch.at("target"), include: [inside])
        #expect(report.isWhole, "\(report.problems)")
        #expect(report.owners.count == 0 && report.attributes.count == 0)
        let before = try TreeListing(source)
        let after = try TreeListing("\(scratch.at("target"))/\(inside)")
        // restic 0.14 keeps U+FFFD where a link's target is not UTF-8.
        #expect(before.differences(to: after, ignoring: [Array("links/not-utf8".utf8)]) == [])
        #expect(after.entries[Array("links/not-utf8".utf8)]?.kind == .symlink)
    }

    @Test func `an awkward tree that we stored passes every command of stock restic`() throws {
        let scratch = try Scratch()
        let source = scratch.at("source")
        try AwkwardTree.make(at: source, wide: 600)
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let id = try FolderBackup(repository).snapshot(source)
        let restic = Restic(repository.path, password: "secret")
        try restic("check", "--read-data")

        let snapshots = try restic.json("snapshots")
        #expect(snapshots[0]?["id"]?.string == id.hex)
        #expect(snapshots[0]?["hostname"]?.string == "testhost")
        #expect(snapshots[0]?["tags"]?.strings == ["holdfast"])

        let before = try TreeListing(source)
        let listed = try restic.jsonLines("ls", id.hex)
        // One line is about the snapshot, and the source itself is not in it.
        #expect(listed.count - 1 == before.entries.count - 1)
        let found = try restic.json("find", "--snapshot", id.hex, "one-byte")
        #expect(found[0]?["matches"]?[0]?["path"]?.string == "/one-byte")
        #expect(try restic("dump", id.hex, "/three-mib") == Files.read("\(source)/three-mib"))

        try restic("restore", id.hex, "--target", scratch.at("target"))
        let after = try TreeListing(scratch.at("target"))
        // restic 0.14 does not know link targets that are not UTF-8, and a target has no metadata of its own.
        let unknown = ["links/not-utf8", ""].map { Array($0.utf8) }
        #expect(before.differences(to: after, ignoring: Set(unknown)) == [])
    }

    @Test func `stock restic takes our snapshot as its parent and finds nothing changed`() throws {
        let scratch = try Scratch()
        let source = scratch.at("source")
        try AwkwardTree.make(at: source, wide: 50, deep: 300)
        let restic = try Restic.create(scratch.at("repository"), password: "secret")
        try restic("backup", "--host", "testhost", source)
        let repository = try Repository.open(at: restic.repository, password: "secret")
        let theirs = try #require(try repository.snapshots().first).snapshot
        // The same tree written by us has the same id, so nothing is stored twice.
        let index = try repository.loadIndex()
        let reader = try BlobReader(repository, index)
        var walk = TreeWalk(reader, from: theirs.tree)
        while let step = try walk.next() {
            guard case .entry(let node) = step, let subtree = node.subtree else { continue }
            let text = try reader.read(subtree, .tree)
            #expect(try Tree(parsing: text).encoded() == text, "\(escaped(walk.path))")
        }
    }

    @Test func `a file of more than four gibibytes goes both ways`() throws {
        let scratch = try Scratch()
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let backup = try FolderBackup(repository)
        // Zeros but for the ends: nothing to write, all of it to verify.
        let zeros = try backup.add(data: [UInt8](repeating: 0, count: 16 << 20))
        var node = Node(name: Array("large".utf8), kind: .file, mtime: ZonedTime(nanoseconds: 0))
        node.mode = 0o600
        node.content = [try backup.add(data: [1, 2, 3])] + Array(repeating: zeros, count: 257)
        node.content?.append(try backup.add(data: [4, 5, 6]))
        node.size = 257 << 24 + 6
        let id = try backup.snapshot(tree: backup.add(tree: [node]))
        let restic = Restic(repository.path, password: "secret")
        try restic("check", "--read-data")
        #expect(try restic.jsonLines("ls", id.hex).last?["size"]?.uint64 == node.size)
        #expect(Check.run(repository, .structure).verdict == .passed)

        let report = try restored(repository, id, to: scratch.at("target"))
        #expect(report.isWhole && report.bytes == node.size)
        // Stock restic writes all the zeros, which takes a while and the space.
        if isLong { try restic("restore", id.hex, "--target", scratch.at("theirs")) }
        for target in isLong ? ["target", "theirs"] : ["target"] {
            let file = try FileDescriptor(open: scratch.at(target) + "/large", O_RDONLY)
            #expect(try file.status().size == node.size)
            let end = try withUnsafeTemporaryAllocation(byteCount: 8, alignment: 1) { bytes in
                let got = try file.pread(into: bytes, at: Int64(node.size) - 5)
                return Array(bytes[..<got])
            }
            #expect(end == [0, 0, 4, 5, 6])
        }
    }
}
