import Glibc
import JSON
import Posix
import Repository
import Restore
import Retrieval
import Synchronization
import TestSupport
import Testing

struct RestoreRoundTrip {
    @Test func `an awkward tree comes back whole, also where no path can name it`() throws {
        let scratch = try Scratch()
        let source = scratch.at("source")
        try AwkwardTree.make(at: source, wide: 1000, deep: 5000)
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let id = try FolderBackup(repository, cut: 100_000).snapshot(source)
        let report = try restored(repository, id, to: scratch.at("target"))
        #expect(report.isWhole, "\(report.problems)")
        let before = try TreeListing(source)
        #expect(before.entries.keys.contains { $0.count > 4096 })
        #expect(try before.differences(to: TreeListing(scratch.at("target")), ignoring: [[]]) == [])
        let kinds = before.entries.values.reduce(into: [:]) { $0["\($1.kind)", default: 0] += 1 }
        #expect(report.directories == (kinds["directory"] ?? 0) - 1)
        #expect(report.files + report.hardLinks == kinds["file"] && report.hardLinks == 2)
        #expect(report.links == kinds["symlink"])
        // Zeros were left out.
        let sparse = try FileStatus(path: scratch.at("target") + "/sparse")
        #expect(sparse.size == 12 << 20)
        let blocks = try ChildProcess.run(["stat", "-c", "%b", scratch.at("target") + "/sparse"])
        #expect(
            (Int(String(decoding: blocks.output, as: UTF8.self).split(separator: "\n")[0]) ?? .max) < 4000
        )
    }

    @Test func `only what is included is restored, with the folders on the way`() throws {
        let scratch = try Scratch()
        let source = scratch.at("source")
        try AwkwardTree.make(at: source, wide: 20, deep: 300)
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let id = try FolderBackup(repository).snapshot(source)
        let report = try restored(
            repository,
            id,
            to: scratch.at("target"),
            include: ["/links/more/", "names/\u{1}\u{1b}[31m", "empty"]
        )
        #expect(report.isWhole)
        let after = try TreeListing(scratch.at("target"))
        let names = after.entries.keys.map { String(decoding: $0, as: UTF8.self) }.sorted()
        #expect(
            names == [
                "", "empty", "links", "links/more", "links/more/a third", "names", "names/\u{1}\u{1b}[31m",
            ]
        )
        let before = try TreeListing(source)
        #expect(after.entries[Array("links".utf8)]?.mtime == before.entries[Array("links".utf8)]?.mtime)
        #expect(throws: RestoreError.notInSnapshot([Array("one".utf8), Array("empty/x".utf8)])) {
            try restored(repository, id, to: scratch.at("other"), include: ["one", "empty", "empty/x"])
        }
        #expect(!Files.exists(scratch.at("other")))
    }

    @Test func `progress ends at the totals that were known from the start`() throws {
        let scratch = try Scratch()
        try AwkwardTree.make(at: scratch.at("source"), wide: 200, deep: 300)
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let id = try FolderBackup(repository).snapshot(scratch.at("source"))
        let seen = Mutex<[RestoreProgress]>([])
        _ = try Restorer(sender(repository, id)).run(
            to: scratch.at("target"),
            progress: { progress in seen.withLock { $0.append(progress) } }
        )
        let all = seen.withLock { $0 }
        let last = try #require(all.last)
        #expect(last.files == last.totalFiles && last.bytes == last.totalBytes && last.problems == 0)
        #expect(all.allSatisfy { $0.totalBytes == last.totalBytes && $0.bytes <= $0.totalBytes })
    }

    @Test func `a restore without root keeps everything but owners, and says so once`() throws {
        guard getuid() == 0 else { return }
        let scratch = try Scratch()
        let source = scratch.at("source")
        try AwkwardTree.make(at: source, wide: 20, deep: 300)
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let id = try FolderBackup(repository).snapshot(source)
        let target = scratch.at("target")
        try Files.makeDirectories(target)
        let owned = try ChildProcess.run(["chown", "-R", "65534", repository.path, target])
        try #require(owned.end == .exit(0))
        chmod(scratch.path, 0o755)
        // Threads that this one starts inherit that it is not root on the file system.
        let report = try Host.reachingFiles(asUser: 65534) { try restored(repository, id, to: target) }
        // Devices need root.
        let failed = Set(report.problems.map { String(decoding: $0.path, as: UTF8.self) })
        #expect(failed == ["specials/char", "specials/block"])
        #expect(report.owners.count > 50 && !report.owners.example.isEmpty)
        let before = try TreeListing(source)
        let after = try TreeListing(target)
        for (path, entry) in before.entries where !path.isEmpty && entry.kind == .file {
            let found = try #require(after.entries[path])
            #expect(found.checksum == entry.checksum && found.mtime == entry.mtime && found.uid == 65534)
            #expect(found.permissions == entry.permissions & 0o1777)
        }
    }
}

struct RestoreTarget {
    @Test func `a target that is not empty or no folder is refused and left alone`() throws {
        let scratch = try Scratch()
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let backup = try FolderBackup(repository)
        let id = try backup.snapshot(tree: backup.add(tree: []))
        try Files.makeDirectories(scratch.at("used"))
        try Files.writeAtomically([1], to: scratch.at("used") + "/photo.jpg")
        #expect(throws: RestoreError.targetNotEmpty(path: scratch.at("used"), found: Array("photo.jpg".utf8)))
        {
            try restored(repository, id, to: scratch.at("used"))
        }
        #expect(throws: RestoreError.targetNotAFolder(path: scratch.at("used/photo.jpg"))) {
            try restored(repository, id, to: scratch.at("used/photo.jpg"))
        }
        // A new disk has this folder.
        try Files.makeDirectories(scratch.at("disk/lost+found"))
        #expect(try restored(repository, id, to: scratch.at("disk")).isWhole)
    }

    @Test func `a snapshot that does not fit is refused before anything is written`() throws {
        let scratch = try Scratch()
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let backup = try FolderBackup(repository)
        var node = Node(name: Array("huge".utf8), kind: .file, mtime: ZonedTime(nanoseconds: 0))
        node.size = 200_000 << 24
        node.content = [BlobID](
            repeating: try backup.add(data: [UInt8](repeating: 7, count: 1 << 24)),
            count: 200_000
        )
        let id = try backup.snapshot(tree: backup.add(tree: [node]))
        do {
            try restored(repository, id, to: scratch.at("target"))
            Issue.record("it fits")
        } catch let error as RestoreError {
            guard case .notEnoughSpace(_, let needed, _) = error else { throw error }
            #expect(needed == 200_000 << 24)
            #expect("\(error)".contains("3.36 TB"))
        }
        #expect(try Directory.names(scratch.at("target")).isEmpty)
    }

    @Test func `a target that fills up ends the restore with the reason`() throws {
        let scratch = try Scratch()
        guard getuid() == 0, try mountSmall(scratch.at("small"), megabytes: 8) else { return }
        defer { umount2(scratch.at("small"), Int32(MNT_DETACH)) }
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let backup = try FolderBackup(repository)
        // Names of one file count once when the free space is looked at; these only say that they are.
        var nodes: [Node] = []
        for number in 0..<8 {
            var node = Node(name: Array("f\(number)".utf8), kind: .file, mtime: ZonedTime(nanoseconds: 0))
            node.size = 2 << 20
            (node.links, node.inode, node.deviceID) = (9, 5, 1)
            node.content = [try backup.add(data: AwkwardTree.noise(2 << 20, seed: UInt64(number)))]
            nodes.append(node)
        }
        let id = try backup.snapshot(tree: backup.add(tree: nodes))
        do {
            try restored(repository, id, to: scratch.at("small"))
            Issue.record("it fits")
        } catch let error as RestoreError {
            guard case .targetFailed(_, let reason) = error else { throw error }
            #expect(reason.contains("No space left"))
        }
        // No file has its name without being whole, and nothing temporary is left.
        for name in try Directory.names(scratch.at("small")) where name != Array(".holdfast-restore".utf8) {
            #expect(name.first == 0x66)
            let status = try FileStatus(
                path: scratch.at("small") + "/" + String(decoding: name, as: UTF8.self)
            )
            #expect(status.size == 2 << 20)
        }
    }
}

struct RestoreHostileTrees {
    /// Restores a tree of this text beside a file that must stay as it is.
    private func attempt(_ text: (borrowing FolderBackup) throws -> String) throws -> (
        RestoreReport, TreeListing
    ) {
        let scratch = try Scratch()
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let backup = try FolderBackup(repository)
        let id = try backup.snapshot(tree: backup.add(treeText: try text(backup)))
        try Files.makeDirectories(scratch.at("outside"))
        try Files.writeAtomically([7], to: scratch.at("outside") + "/kept")
        try Files.makeDirectories(scratch.at("work"))
        let before = try TreeListing(scratch.at("outside"))
        let report = try restored(repository, id, to: scratch.at("work/target"))
        #expect(try before.differences(to: TreeListing(scratch.at("outside"))) == [])
        #expect(try Directory.names(scratch.at("work")) == [Array("target".utf8)])
        // It stays so that what is missing can be tried again.
        let marker = scratch.at("work/target/.holdfast-restore")
        #expect(Files.exists(marker) == !report.isWhole)
        try Files.remove(marker)
        return (report, try TreeListing(scratch.at("work/target")))
    }

    private static let times =
        #""mtime":"2024-01-01T00:00:00Z","atime":"2024-01-01T00:00:00Z","ctime":"2024-01-01T00:00:00Z","uid":0,"gid":0"#

    private func file(_ name: String, _ content: BlobID, size: String = "1") -> String {
        #"{"name":"\#(name)","type":"file","mode":420,\#(Self.times),"size":\#(size),"content":["\#(content)"]}"#
    }

    @Test(arguments: [
        "..", ".", "", "../outside/kept", "/etc/passwd", "a/b", "a\\\\x00b", "\\\\x2e\\\\x2e", "\\u002e.",
    ])
    func `a name that leads elsewhere is refused and the rest restored`(_ name: String) throws {
        let (report, listing) = try attempt { backup in
            let blob = try backup.add(data: [1])
            return #"{"nodes":[\#(file(name, blob)),\#(file("zz", blob))]}"#
        }
        #expect(report.problems.count == 1 && report.files == 1)
        #expect(listing.entries.keys.sorted { $0.count < $1.count } == [[], Array("zz".utf8)])
    }

    @Test func `nothing is written through a symbolic link of the same name`() throws {
        let (report, listing) = try attempt { backup in
            let blob = try backup.add(data: [1])
            let inner = try backup.add(treeText: #"{"nodes":[\#(file("kept", blob))]}"#)
            let link =
                #"{"name":"a","type":"symlink","mode":134218239,\#(Self.times),"linktarget":"../../outside","content":null}"#
            let folder =
                #"{"name":"a","type":"dir","mode":2147484141,\#(Self.times),"content":null,"subtree":"\#(inner)"}"#
            let linkToFile =
                #"{"name":"b","type":"symlink","mode":134218239,\#(Self.times),"linktarget":"../../outside/kept","content":null}"#
            return #"{"nodes":[\#(link),\#(folder),\#(linkToFile),\#(file("b", blob))]}"#
        }
        #expect(
            report.problems.map(\.path).sorted { $0.lexicographicallyPrecedes($1) } == [
                Array("a".utf8), Array("b".utf8),
            ]
        )
        #expect(listing.entries[Array("a".utf8)]?.kind == .symlink)
        #expect(listing.entries[Array("b".utf8)]?.kind == .symlink)
        #expect(listing.entries.count == 3)
    }

    @Test func `of entries with one name the first is restored and the second reported`() throws {
        let (report, listing) = try attempt { backup in
            let (one, two) = (try backup.add(data: [1]), try backup.add(data: [2, 2]))
            return
                #"{"nodes":[\#(file("same", one)),\#(file("same", two, size: "2")),\#(file("other", one))]}"#
        }
        #expect(report.files == 2 && report.problems.count == 1)
        #expect(listing.entries.count == 3)
    }

    @Test func `a size that is not the content's is reported and the content restored`() throws {
        let (report, listing) = try attempt { backup in
            #"{"nodes":[\#(file("a", try backup.add(data: [1, 2, 3]), size: "2"))]}"#
        }
        #expect("\(report.problems)".contains("it has 3 bytes, but its folder says 2"))
        #expect(listing.entries[Array("a".utf8)]?.size == 3)
    }

    @Test func `trees without sense end in reports`() throws {
        let (report, _) = try attempt { backup in
            let missing = String(repeating: "0", count: 64)
            let cases = [
                #"{"name":"a","type":"dir",\#(Self.times),"content":null}"#,
                #"{"name":"b","type":"dir",\#(Self.times),"content":null,"subtree":"\#(missing)"}"#,
                #"{"name":"c","type":"file",\#(Self.times),"size":1,"content":null}"#,
                #"{"name":"d","type":"file",\#(Self.times),"size":1,"content":["\#(missing)"]}"#,
                #"{"name":"e","type":"door",\#(Self.times),"content":null}"#,
                #"{"name":"f","type":"symlink",\#(Self.times),"linktarget":"","content":null}"#,
                #"{"name":"g","type":"symlink",\#(Self.times),"linktarget":"a\u0000b","content":null}"#,
                #"{"name":"h","type":"chardev",\#(Self.times),"device":18446744073709551615,"content":null}"#,
                #"{"name":"\#(String(repeating: "i", count: 300))","type":"fifo",\#(Self.times),"content":null}"#,
                #"{"name":"j","type":"file","mode":4294967295,"mtime":"9999-12-31T23:59:59Z","atime":"2024-01-01T00:00:00Z","ctime":"2024-01-01T00:00:00Z","uid":4294967295,"gid":4294967295,"size":0,"extended_attributes":[{"name":"","value":""},{"name":"user.\u0000","value":""},{"name":"nonsense","value":""}],"content":[]}"#,
                #"{"name":"k","type":"socket",\#(Self.times),"content":null}"#,
            ]
            return #"{"nodes":[\#(cases.joined(separator: ","))]}"#
        }
        let paths = Set(report.problems.map { String(decoding: $0.path, as: UTF8.self) })
        #expect(paths.isSuperset(of: ["a", "b", "c", "d", "e", "f", "g"]))
        #expect(paths.contains { $0.hasPrefix("iii") } && !paths.contains("k") && report.sockets.count == 1)
    }

    @Test func `a tree below itself thousands of times is followed only so deep`() throws {
        let (report, _) = try attempt { backup in
            var tree = try backup.add(tree: [])
            for _ in 0..<2100 {
                tree = try backup.add(
                    treeText:
                        #"{"nodes":[{"name":"d","type":"dir","mode":2147484141,\#(Self.times),"content":null,"subtree":"\#(tree)"}]}"#
                )
            }
            return
                #"{"nodes":[{"name":"d","type":"dir","mode":2147484141,\#(Self.times),"content":null,"subtree":"\#(tree)"}]}"#
        }
        #expect(report.problems.count == 1 && report.directories == TreeWalk.maximumDepth)
    }
}

struct RestoreDamage {
    @Test func `a damaged blob costs only the files that need it, which are named with blob and pack`() throws
    {
        let scratch = try Scratch()
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let backup = try FolderBackup(repository)
        let parts = try (0..<4).map { try backup.add(data: AwkwardTree.noise(50_000, seed: $0)) }
        func file(_ name: String, _ content: [BlobID]) -> Node {
            var node = Node(name: Array(name.utf8), kind: .file, mtime: ZonedTime(nanoseconds: 0))
            node.mode = 0o644
            node.content = content
            node.size = UInt64(content.count * 50_000)
            return node
        }
        let long = String(repeating: "n", count: 255)
        let id = try backup.snapshot(
            tree: backup.add(tree: [
                file("bad", parts), file("good", [parts[0], parts[3]]), file(long, [parts[2]]),
            ])
        )
        let index = try repository.loadIndex()
        let place = try #require(index.lookup(parts[2], .data))
        try flipByte(repository.packPath(place.pack), at: Int64(place.blob.offset) + 100)

        let report = try restored(repository, id, to: scratch.at("target"))
        #expect(report.files == 1 && report.problems.count == 2)
        let bad = try #require(report.problems.first { $0.path == Array("bad".utf8) })
        guard case .damaged(let found, let keptAs) = bad.kind else {
            Issue.record("\(bad)")
            return
        }
        #expect(
            found.count == 1 && found[0].offset == 100_000 && found[0].length == 50_000
                && found[0].blob == parts[2].digest
        )
        #expect(keptAs == Array("bad.damaged".utf8))
        #expect("\(bad)".contains(place.pack.hex) && "\(bad)".contains(parts[2].hex))
        let names = try Directory.names(scratch.at("target")).map { String(decoding: $0, as: UTF8.self) }
        #expect(
            names == [
                ".holdfast-restore", "bad.damaged", "good", String(repeating: "n", count: 247) + ".damaged",
            ]
        )
        // What is left has everything but the damaged part.
        let left = try Files.read(scratch.at("target/bad.damaged"))
        var expected = (0..<4).flatMap { AwkwardTree.noise(50_000, seed: $0) }
        for offset in 100_000..<150_000 { expected[offset] = 0 }
        #expect(left == expected)
    }

    @Test func `a damaged tree costs only what is below it`() throws {
        let scratch = try Scratch()
        try AwkwardTree.make(at: scratch.at("source"), wide: 30, deep: 300)
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let id = try FolderBackup(repository).snapshot(scratch.at("source"))
        let index = try repository.loadIndex()
        let root = try Tree(parsing: BlobReader(repository, index).read(repository.snapshot(id).tree, .tree))
        let subtree = try #require(root.nodes.first { $0.name == Array("wide".utf8) }?.subtree)
        let place = try #require(index.lookup(subtree, .tree))
        try flipByte(repository.packPath(place.pack), at: Int64(place.blob.offset))
        let report = try restored(repository, id, to: scratch.at("target"))
        #expect(report.problems.map(\.path) == [Array("wide".utf8)])
        let after = try TreeListing(scratch.at("target"))
        let before = try TreeListing(scratch.at("source"))
        let lost = before.entries.keys.filter { $0.starts(with: Array("wide/".utf8)) }
        #expect(
            before.differences(to: after, ignoring: Set(lost + [[]])) == ["extra: .holdfast-restore"]
        )

        // Without the root nothing begins.
        let rootPlace = try #require(index.lookup(repository.snapshot(id).tree, .tree))
        try flipByte(repository.packPath(rootPlace.pack), at: Int64(rootPlace.blob.offset))
        #expect(throws: RestoreError.self) { try restored(repository, id, to: scratch.at("other")) }
        #expect(!Files.exists(scratch.at("other")))
    }
}

/// Changes one byte of a file in place.
func flipByte(_ path: String, at offset: Int64) throws {
    chmod(path, 0o600)
    let file = try FileDescriptor(open: path, O_RDWR)
    var byte: [UInt8] = [0]
    try byte.withUnsafeMutableBytes { bytes throws in
        _ = try file.pread(into: bytes, at: offset)
        bytes[0] ^= 0x55
        try file.pwriteAll(UnsafeRawBufferPointer(bytes), at: offset)
    }
}

/// Mounts a file system that is soon full; false where that is not allowed.
private func mountSmall(_ path: String, megabytes: Int) throws -> Bool {
    try Files.makeDirectories(path)
    return mount("tmpfs", path, "tmpfs", 0, "size=\(megabytes)m") == 0
}
