import Glibc
import Posix
import Repository
import Restore
import Retrieval
import Synchronization
import TestSupport
import Testing
import Wire

/// One end of a socket pair, which can break after so many bytes were read.
final class CutChannel: ByteChannel, @unchecked Sendable {
    // One thread uses each end.
    private let descriptor: Int32
    private var left: Int
    private(set) var seen = 0

    private init(_ descriptor: Int32, after bytes: Int) {
        self.descriptor = descriptor
        left = bytes
    }
    deinit { close(descriptor) }

    static func pair(cutAfter bytes: Int = .max) throws -> (CutChannel, CutChannel) {
        let (one, two) = try socketPair()
        return (CutChannel(one, after: bytes), CutChannel(two, after: .max))
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        if left == 0 {
            cut()
            return 0
        }
        let (raw, count) = (descriptor, min(buffer.count, left))
        let got = try retryingOnInterrupt("read") { Glibc.read(raw, buffer.baseAddress, count) }
        left -= got
        seen += got
        return got
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        var done = 0
        while done < bytes.count {
            let raw = descriptor
            done += try retryingOnInterrupt("send") {
                send(raw, bytes.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
            }
        }
    }

    func inputWaits() throws -> Bool {
        var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&wait, 1, 0) > 0
    }

    func cut() { shutdown(descriptor, Int32(SHUT_RDWR)) }
}

/// Runs `other` on a thread of its own against a receiver that fills `target`.
func receive(
    to target: String,
    cutAfter bytes: Int = .max,
    seen: (Int) -> Void = { _ in },
    from other: @escaping @Sendable (FrameStream) throws -> Void
) throws -> RestoreReport {
    let (ours, theirs) = try CutChannel.pair(cutAfter: bytes)
    var thread: Thread? = try Thread("other side") {
        defer { theirs.cut() }
        try? other(FrameStream(theirs))
    }
    defer {
        seen(ours.seen)
        ours.cut()
        try? thread.take()?.join()
    }
    let stream = FrameStream(ours)
    let first = try stream.receive { try RestoreReply(type: $0, body: $1) }
    guard case .restoring(let what) = first else {
        throw WireError.unexpected(type: first.type, state: "test")
    }
    return try RestoreReceiver(stream, to: target).run(what)
}

private struct Shared<Value>: @unchecked Sendable {
    // Handed to one thread.
    let value: Value
}

struct RestoreResume {
    /// A backup of an awkward tree with a file of some parts.
    private func backup(_ scratch: borrowing Scratch) throws -> (Repository, BlobID, TreeListing) {
        let source = scratch.at("source")
        try AwkwardTree.make(at: source, wide: 60, deep: 300)
        let root = try FileDescriptor(open: source, O_RDONLY | O_DIRECTORY)
        try AwkwardTree.file(root, Array("video".utf8), AwkwardTree.noise(9_000_000, seed: 4))
        try Files.setTime(at: root, [0x2E], seconds: 1_700_000_000, nanosecond: 0)
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        let id = try FolderBackup(repository, cut: 700_000).snapshot(source)
        return (repository, id, try TreeListing(source))
    }

    private func attempt(
        _ repository: Repository,
        _ id: BlobID,
        _ target: String,
        cutAfter bytes: Int = .max,
        seen: (Int) -> Void = { _ in }
    ) throws -> RestoreReport {
        let sender = Shared(value: try sender(repository, id))
        return try receive(to: target, cutAfter: bytes, seen: seen) { try sender.value.run($0) }
    }

    @Test func `a restore that is cut anywhere goes on and ends whole, with nothing left over`() throws {
        let scratch = try Scratch()
        let (repository, id, before) = try backup(scratch)
        let rounds = isLong ? 100 : 10
        var total = 0
        _ = try attempt(repository, id, scratch.at("whole")) { total = $0 }
        var random = SystemRandomNumberGenerator()
        var cuts = 0
        var kept = 0
        for round in 0..<rounds {
            let target = scratch.at("target-\(round)")
            var report: RestoreReport?
            var bytes: [Int] = []
            while report == nil {
                // Most of it comes again only as names; so the cuts move on.
                let after = bytes.count >= 4 ? .max : Int.random(in: 1..<total, using: &random)
                bytes.append(after)
                do { report = try attempt(repository, id, target, cutAfter: after) } catch WireError.closed {
                    cuts += 1
                }
            }
            kept += report?.filesKept ?? 0
            #expect(report?.isWhole == true, "cut after \(bytes)")
            let differences = try before.differences(to: TreeListing(target), ignoring: [[]])
            #expect(differences == [], "cut after \(bytes)")
            try Files.removeTree(target)
        }
        print("restores cut: \(rounds) rounds, \(cuts) cuts, \(kept) files kept, \(total) bytes each")
        #expect(cuts > 0 && kept > 0)
    }

    @Test func `what is there and right is not sent again, what is wrong is replaced`() throws {
        let scratch = try Scratch()
        let (repository, id, before) = try backup(scratch)
        var total = 0
        _ = try attempt(repository, id, scratch.at("whole")) { total = $0 }
        let target = scratch.at("target")
        #expect(throws: WireError.closed) {
            try attempt(repository, id, target, cutAfter: total - 4)
        }
        try flipByte(target + "/three-mib", at: 1 << 20)
        let old = try FileStatus(path: target + "/text")
        var sent = 0
        let report = try attempt(repository, id, target) { sent = $0 }
        #expect(report.isWhole && report.filesKept == report.files - 1)
        #expect(report.bytes - report.bytesKept == 3 << 20 | 17)
        #expect(sent < (3 << 20) + 500_000)
        #expect(try FileStatus(path: target + "/text").inode == old.inode)
        #expect(try before.differences(to: TreeListing(target), ignoring: [[]]) == [])
    }

    @Test func `a large file that was cut in the middle goes on at the part where it was`() throws {
        try goesOnInTheMiddle(mode: 0o600)
    }

    @Test(.enabled(if: getuid() == 0, "needs the right to become another user"))
    func `so does one that nobody may write to, for a user who is not root`() throws {
        try goesOnInTheMiddle(mode: 0o444, asUser: 65534)
    }

    private func goesOnInTheMiddle(mode: mode_t, asUser user: UInt32? = nil) throws {
        let scratch = try Scratch()
        let repository = try FolderBackup.create(scratch.at("repository"), password: "secret")
        try Files.makeDirectories(scratch.at("source"))
        let content = AwkwardTree.noise(20_000_000, seed: 3)
        try Files.writeAtomically(content, to: scratch.at("source/video"), mode: mode)
        let id = try FolderBackup(repository, cut: 500_000).snapshot(scratch.at("source"))
        let target = scratch.at("target")
        if let user {
            try Files.makeDirectories(target)
            chmod(scratch.path, 0o755)
            try #require(
                ChildProcess.run(["chown", "-R", "\(user)", repository.path, target]).end == .exit(0)
            )
        }
        func restore(cutAfter bytes: Int = .max, seen: (Int) -> Void = { _ in }) throws -> RestoreReport {
            try Host.reachingFiles(asUser: user ?? geteuid()) {
                try attempt(repository, id, target, cutAfter: bytes, seen: seen)
            }
        }
        #expect(throws: WireError.closed) { try restore(cutAfter: 15_000_000) }
        #expect(!Files.exists(target + "/video"))
        var sent = 0
        let report = try restore { sent = $0 }
        #expect(report.isWhole && sent < 7_000_000, "\(sent)")
        #expect(try Files.read(target + "/video") == content)
        #expect(try FileStatus(path: target + "/video").mode & 0o777 == UInt32(mode))
        #expect(try Directory.names(target) == [Array("video".utf8)])
    }

    @Test func `a target of another snapshot, of other parts, or in use is refused`() throws {
        let scratch = try Scratch()
        let (repository, id, _) = try backup(scratch)
        let other = try FolderBackup(repository).snapshot(scratch.at("source/names"))
        let target = scratch.at("target")
        #expect(throws: WireError.closed) { try attempt(repository, id, target, cutAfter: 2_000_000) }
        let before = try TreeListing(target)
        #expect(throws: RestoreError.targetOfAnother(path: target)) {
            try attempt(repository, other, target)
        }
        #expect(throws: RestoreError.targetOfAnother(path: target)) {
            try restored(repository, id, to: target, include: ["names"])
        }
        let marker = try FileDescriptor(open: target + "/.holdfast-restore", O_RDONLY)
        #expect(flock(marker.raw, LOCK_EX) == 0)
        #expect(throws: RestoreError.targetInUse(path: target)) { try attempt(repository, id, target) }
        #expect(try before.differences(to: TreeListing(target)) == [])
    }
}

/// A side that has no snapshot but means harm.
struct RestoreHostilePeer {
    private static let what = Restoring(
        host: "lisbon",
        snapshot: "s",
        time: 0,
        includes: [],
        files: 1,
        bytes: 1,
        space: 1
    )

    /// Sends `restoring` and `frames` and then ends; the target's surroundings must stay as they are.
    private func attempt(
        prepare: (String) throws -> Void = { _ in },
        _ frames: @escaping @Sendable (FrameStream) throws -> Void
    ) throws -> (Result<RestoreReport, any Error>, TreeListing) {
        let scratch = try Scratch()
        try Files.makeDirectories(scratch.at("outside"))
        try Files.writeAtomically([7], to: scratch.at("outside/kept"))
        try Files.makeDirectories(scratch.at("work"))
        let target = scratch.at("work/target")
        try prepare(target)
        let before = try TreeListing(scratch.at("outside"))
        let result = Result {
            try receive(to: target) { stream in
                try stream.send(RestoreReply.restoring(Self.what))
                try frames(stream)
                try stream.flush()
                // The receiver's answers, to the end.
                while true { try stream.receive { _, _ in } }
            }
        }
        #expect(try before.differences(to: TreeListing(scratch.at("outside"))) == [])
        #expect(try Directory.names(scratch.at("work")) == [Array("target".utf8)])
        return (result, try TreeListing(target))
    }

    private static func item(_ name: String, _ kind: Entry.Kind = .file, target: String = "") -> Item {
        var entry = Entry(kind: kind, name: Array(name.utf8))
        entry.target = Array(target.utf8)
        return Item(entry: entry, parts: [])
    }

    @Test(arguments: ["..", ".", "", "../outside/kept", "/etc/passwd", "a/b", "a\0b"])
    func `a name that leads elsewhere ends the restore`(_ name: String) throws {
        for kind in [Entry.Kind.file, .directory, .symlink, .fifo] {
            let (result, listing) = try attempt { stream in
                let item = Self.item(name, kind, target: kind == .symlink ? "x" : "")
                try stream.send(RestoreReply.items([item], last: true))
                try stream.send(RestoreReply.done)
            }
            #expect(throws: WireError.self) { try result.get() }
            #expect(listing.entries.count == 2)
        }
    }

    @Test func `names that come twice or out of order end the restore`() throws {
        for names in [["a", "a"], ["b", "a"]] {
            let (result, _) = try attempt { stream in
                try stream.send(RestoreReply.items(names.map { Self.item($0) }, last: false))
            }
            #expect(throws: WireError.malformed("names of a folder do not ascend")) { try result.get() }
            let (split, _) = try attempt { stream in
                for name in names { try stream.send(RestoreReply.items([Self.item(name)], last: false)) }
            }
            #expect(throws: WireError.malformed("names of a folder do not ascend")) { try split.get() }
        }
    }

    @Test func `a folder whose place a symbolic link has taken is not entered`() throws {
        // As a later try finds it: marked, with a link where the folder was, and one where a file was.
        let (result, listing) = try attempt { target in
            let (first, _) = try attempt(at: target) { stream in
                try stream.send(
                    RestoreReply.items([Self.item("f"), Self.item("sub", .directory)], last: true)
                )
                try stream.send(RestoreReply.items([Self.item("kept")], last: true))
                try stream.flush()
                _ = try stream.receive { type, _ in type }
                _ = try stream.receive { type, _ in type }
            }
            #expect(throws: (any Error).self) { try first.get() }
            try Files.removeTree(target + "/sub")
            try Files.remove(target + "/f")
            #expect(symlink("../../outside", target + "/sub") == 0)
            #expect(symlink("../../outside/kept", target + "/f") == 0)
        } _: { stream in
            try stream.send(RestoreReply.items([Self.item("f"), Self.item("sub", .directory)], last: true))
            try stream.send(RestoreReply.items([Self.item("kept")], last: true))
            try stream.send(RestoreReply.done)
        }
        #expect(try result.get().isWhole)
        #expect(listing.entries[Array("sub".utf8)]?.kind == .directory)
        #expect(listing.entries[Array("f".utf8)]?.kind == .file)
        #expect(listing.entries[Array("sub/kept".utf8)]?.size == 0)
    }

    private func attempt(at target: String, _ frames: @escaping @Sendable (FrameStream) throws -> Void) throws
        -> (Result<RestoreReport, any Error>, TreeListing)
    {
        let result = Result {
            try receive(to: target) { stream in
                try stream.send(RestoreReply.restoring(Self.what))
                try frames(stream)
            }
        }
        return (result, try TreeListing(target))
    }

    @Test func `frames that make no sense end the restore`() throws {
        var short = Self.item("a")
        short.entry.size = 5
        let byte = try #require(BlobID(bytes: [UInt8](repeating: 1, count: 32))).digest
        var file = Self.item("a")
        file.entry.size = 3
        file.parts = [Part(length: 3, hash: byte)]
        file.partCount = 1
        var unknown = file
        unknown.parts = [Part(length: 0, hash: byte), Part(length: 3, hash: byte)]
        unknown.partCount = 2
        let (sizes, whole, gap) = (short, file, unknown)
        let cases: [@Sendable (FrameStream) throws -> Void] = [
            { try $0.send(RestoreReply.items([sizes], last: true)) },
            { try $0.send(RestoreReply.items([gap], last: true)) },
            { try $0.send(RestoreReply.done) },
            { try $0.send(RestoreReply.parts([])) },
            { try $0.send(RestoreReply.damaged(reason: "so")) },
            { stream in
                try [UInt8](repeating: 0, count: 9).withUnsafeBytes { try stream.send(type: 99, body: $0) }
            },
            { stream in
                try stream.send(RestoreReply.items([whole], last: true))
                try [UInt8](repeating: 0, count: 4).withUnsafeBytes { try stream.send(type: 99, body: $0) }
            },
            { stream in
                try stream.send(RestoreReply.items([], last: true))
                try stream.send(RestoreReply.items([], last: true))
            },
            { stream in
                for _ in 0...RestoreLimit.depth {
                    try stream.send(RestoreReply.items([Self.item("d", .directory)], last: true))
                }
            },
            { stream in
                for number in 0..<40 {
                    let items = (0..<256).map { index -> Item in
                        var item = whole
                        item.entry.name = Array(String(100_000 + number * 256 + index).utf8)
                        return item
                    }
                    try stream.send(RestoreReply.items(items, last: false))
                }
            },
        ]
        for (number, frames) in cases.enumerated() {
            let (result, listing) = try attempt(frames)
            #expect(throws: WireError.self, "case \(number)") { try result.get() }
            #expect(!listing.entries.values.contains { $0.kind == .file && $0.size > 200 })
        }
    }

    @Test func `content that is not what was announced never gets its name`() throws {
        var file = Self.item("a")
        file.entry.size = 3
        file.parts = [Part(length: 3, hash: try BlobID.hash(of: [1, 2, 3]).digest)]
        file.partCount = 1
        let announced = file
        let (result, listing) = try attempt { stream in
            try stream.send(RestoreReply.items([announced], last: true))
            try [UInt8]([1, 2, 4]).withUnsafeBytes { try stream.send(type: 99, body: $0) }
            try stream.send(RestoreReply.done)
        }
        #expect(try result.get().problemCount == 1)
        #expect(
            listing.entries.keys.map { String(decoding: $0, as: UTF8.self) }.sorted() == [
                "", ".holdfast-restore",
            ]
        )
    }
}
