import Capture
import Glibc
import Posix
import Testing
import Wire

@Suite("A capture's files")
struct WalkTests {
    @Test func `everything arrives in the order of the protocol, byte for byte`() throws {
        let host = try FakeHost()
        try host.write("photo", "upload/u/aa/bb/1.jpg")
        try host.write("", "upload/u/aa/bb/empty.jpg")
        try host.write(String(repeating: "video", count: 300_000), "library/admin/2026/a.mp4")
        try host.write("thumb", "thumbs/u/t.webp")
        try host.write("x", "upload/u.jpg")
        let (outcome, coordinator) = try host.capture()
        #expect(outcome.isCommitted, "\(outcome)")
        #expect(coordinator.problem == nil)
        #expect(String(decoding: coordinator.dump, as: UTF8.self) == FakeHost.wholeDump)
        #expect(coordinator.dumpName.hasSuffix("-v2.5.0-pg14.19.sql"))
        #expect(coordinator.files["immich/upload/u/aa/bb/1.jpg"]?.bytes == Array("photo".utf8))
        #expect(coordinator.files["immich/library/admin/2026/a.mp4"]?.bytes.count == 1_500_000)
        #expect(coordinator.files["immich/upload/u/aa/bb/empty.jpg"]?.end?.status == .stable)
        #expect(
            coordinator.paths.prefix(8) == [
                "deployment", "immich", "deployment/facts.json", "immich/backups", "immich/encoded-video",
                "immich/library", "immich/profile", "immich/thumbs",
            ]
        )
        #expect(coordinator.paths.contains("immich/thumbs/u/t.webp"))
        let facts = String(decoding: coordinator.files["deployment/facts.json"]?.bytes ?? [], as: UTF8.self)
        #expect(facts.contains("\"mediaLocation\": \"/data\""))
        #expect(!facts.contains("verysecret"))
    }

    @Test func `originals leave thumbnails and transcodes out but keep the markers`() throws {
        let host = try FakeHost()
        try host.write("thumb", "thumbs/u/t.webp")
        try host.write("transcode", "encoded-video/u/aa/1.mp4")
        try host.write("motion", "encoded-video/u/aa/1-MP.mp4")
        try host.write("photo", "upload/u/1.jpg")
        let (outcome, coordinator) = try host.capture {
            $0.scope = .originals
            $0.counts = true
        }
        #expect(outcome.isCommitted)
        let files = coordinator.files.keys.filter { $0.hasPrefix("immich/") }.sorted()
        #expect(
            files == [
                "immich/backups/.immich", "immich/encoded-video/.immich",
                "immich/encoded-video/u/aa/1-MP.mp4",
                "immich/library/.immich", "immich/profile/.immich", "immich/thumbs/.immich",
                "immich/upload/.immich", "immich/upload/u/1.jpg",
            ]
        )
    }

    @Test func `what is not wanted is not read, and an unchanged second run wants nothing`() throws {
        let host = try FakeHost()
        for index in 0..<50 { try host.write("photo \(index)", "upload/u/\(index).jpg") }
        let first = try host.capture().coordinator
        let second = try host.capture { coordinator in
            coordinator.want = { path, entry in first.entries[path] == entry ? nil : 0 }
        }
        #expect(second.outcome.isCommitted)
        #expect(second.coordinator.files.isEmpty, "\(second.coordinator.files.keys)")
        #expect(second.coordinator.paths == first.paths)
    }

    @Test func `a file goes on where the coordinator says, unless it changed`() throws {
        let host = try FakeHost()
        try host.write("0123456789", "upload/a.jpg")
        try host.write("0123456789", "upload/b.jpg")
        let (outcome, coordinator) = try host.capture { coordinator in
            coordinator.want = { path, _ in
                // Changed between the list and the sending.
                if path == "immich/upload/b.jpg" { try? host.write("abcdefghij", "upload/b.jpg") }
                return path.hasSuffix(".jpg") ? 4 : nil
            }
        }
        #expect(outcome.isCommitted)
        #expect(coordinator.files["immich/upload/a.jpg"]?.bytes == Array("456789".utf8))
        #expect(coordinator.files["immich/upload/a.jpg"]?.agains == 0)
        #expect(coordinator.files["immich/upload/b.jpg"]?.bytes == Array("abcdefghij".utf8))
        #expect(coordinator.files["immich/upload/b.jpg"]?.agains == 1)
        #expect(coordinator.files["immich/upload/b.jpg"]?.end?.status == .stable)
    }

    @Test func `a file that changes while it is read is read again, and named when it keeps changing`() throws
    {
        let host = try FakeHost()
        let big = String(repeating: "x", count: 6_000_000)
        try host.write(big, "upload/once.mov")
        try host.write(big, "upload/restless.mov")
        var changed = false
        var attempt = -1
        let (outcome, coordinator) = try host.capture { coordinator in
            coordinator.onData = { path in
                // At the beginning of each attempt: the file is larger than what may be under way.
                if path.hasSuffix("restless.mov"), let agains = coordinator.files[path]?.agains,
                    agains > attempt
                {
                    attempt = agains
                    utimes("\(host.media)/upload/restless.mov", nil)
                }
                if path.hasSuffix("once.mov") && !changed {
                    changed = true
                    try FileDescriptor(open: "\(host.media)/upload/once.mov", O_WRONLY).writeAll([0x79])
                }
            }
        }
        let once = coordinator.files["immich/upload/once.mov"]
        #expect(once?.end?.status == .stable)
        #expect(once?.agains == 1)
        #expect(once?.bytes.count == 6_000_000 && once?.bytes.first == 0x79)
        let restless = coordinator.files["immich/upload/restless.mov"]
        #expect(restless?.end?.status == .changing)
        #expect(restless?.agains == 2)
        #expect(outcome.progress?.changing == 1)
        #expect(outcome.progress?.named.first?.contains("restless.mov") == true)
    }

    @Test func `what vanished between list and sending is said to have vanished`() throws {
        let host = try FakeHost()
        try host.write("x", "upload/u/a.jpg")
        try host.write("x", "upload/w/b.jpg")
        try host.write("x", "upload/c.jpg")
        let (outcome, coordinator) = try host.capture { coordinator in
            coordinator.want = { path, _ in
                switch path {
                case "immich/upload/u/a.jpg": unlink("\(host.media)/upload/u/a.jpg")
                case "immich/upload/w/b.jpg": try? Files.removeTree("\(host.media)/upload/w")
                case "immich/upload/c.jpg":
                    // A link to elsewhere in the place of a file is not followed.
                    unlink("\(host.media)/upload/c.jpg")
                    symlink("/etc/passwd", "\(host.media)/upload/c.jpg")
                default: break
                }
                return 0
            }
        }
        #expect(outcome.isCommitted)
        for name in ["u/a.jpg", "w/b.jpg", "c.jpg"] {
            let file = coordinator.files["immich/upload/\(name)"]
            #expect(file?.end?.status == .vanished, "\(name)")
            #expect(file?.received == 0)
        }
        #expect(outcome.progress?.vanished == 3)
    }

    @Test func `names are bytes, links are kept, sockets are named`() throws {
        let host = try FakeHost()
        let folder = "\(host.media)/upload"
        let odd: [UInt8] = [0x61, 0xFF, 0x0A, 0x62]
        let descriptor = try FileDescriptor(open: folder, O_RDONLY | O_DIRECTORY)
        try FileDescriptor(at: descriptor, odd, O_WRONLY | O_CREAT, mode: 0o640).writeAll([1, 2, 3])
        symlink("../nowhere", "\(folder)/link")
        try host.write("twice", "upload/one.jpg")
        link("\(folder)/one.jpg", "\(folder)/two.jpg")
        mkfifo("\(folder)/fifo", 0o600)
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let path = Array("\(folder)/socket".utf8)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
        _ = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        let (outcome, coordinator) = try host.capture()
        #expect(outcome.isCommitted)
        #expect(coordinator.files["immich/upload/\(escaped(odd))"]?.bytes == [1, 2, 3])
        #expect(coordinator.entries["immich/upload/link"]?.target == Array("../nowhere".utf8))
        #expect(coordinator.entries["immich/upload/fifo"]?.kind == .fifo)
        #expect(coordinator.entries["immich/upload/one.jpg"]?.links == 2)
        #expect(
            coordinator.entries["immich/upload/one.jpg"]?.inode
                == coordinator.entries["immich/upload/two.jpg"]?.inode
        )
        #expect(coordinator.skipped == ["immich/upload/socket: a socket"])
        #expect(coordinator.entries["immich/upload/socket"] == nil)
    }

    @Test func `extended attributes travel`() throws {
        let host = try FakeHost()
        try host.write("x", "upload/a.jpg")
        try host.write("", "upload/empty.jpg")
        try host.write("y", "upload/deep/b.jpg")
        let bearers = ["upload", "upload/a.jpg", "upload/empty.jpg", "upload/deep"]
        for bearer in bearers {
            let set = ["setfattr", "-n", "user.camera", "-v", bearer, "\(host.media)/\(bearer)"]
            guard try ChildProcess.run(set).end == .exit(0) else {
                Issue.record("setfattr is missing or the file system has no attributes")
                return
            }
        }
        let (_, coordinator) = try host.capture()
        for bearer in bearers {
            #expect(
                coordinator.entries["immich/\(bearer)"]?.attributes
                    == [Entry.Attribute(name: Array("user.camera".utf8), value: Array(bearer.utf8))]
            )
        }
        #expect(coordinator.entries["immich/upload/deep/b.jpg"]?.attributes == [])
    }

    @Test(arguments: ["thumbs", "upload", "encoded-video"])
    func `a folder without its marker fails the capture and says what to do`(name: String) throws {
        let host = try FakeHost()
        unlink("\(host.media)/\(name)/.immich")
        let (outcome, coordinator) = try host.capture()
        let failure = try #require(outcome.failure)
        #expect(failure.contains("'\(name)' at \(host.media)/\(name) lacks its marker"))
        #expect(coordinator.failure == failure)
        #expect(!coordinator.committed)
        #expect(coordinator.dump.isEmpty)
    }

    @Test func `a missing folder fails the capture`() throws {
        let host = try FakeHost()
        try Files.removeTree("\(host.media)/library")
        let failure = try #require(try host.capture().outcome.failure)
        #expect(failure.contains("'library' cannot be read") && failure.contains("No such file"))
    }

    @Test func `a marker that goes during the capture fails it`() throws {
        let host = try FakeHost()
        try host.write("x", "upload/a.jpg")
        let (outcome, _) = try host.capture { coordinator in
            coordinator.want = { path, _ in
                if path == "immich/upload/a.jpg" { unlink("\(host.media)/library/.immich") }
                return nil
            }
        }
        #expect(outcome.failure?.contains("'library'") == true)
    }

    @Test func `folders on other disks are found through links and mounts`() throws {
        let host = try FakeHost()
        // library: a link; thumbs: a mount of its own; upload/special: a mount below a folder.
        rename("\(host.media)/library", "\(host.folder)/elsewhere")
        symlink("../elsewhere", "\(host.media)/library")
        rename("\(host.media)/thumbs", "\(host.folder)/ssd")
        try Files.makeDirectories("\(host.media)/thumbs")
        try Files.makeDirectories("\(host.folder)/special/deep")
        try Files.writeAtomically([7], to: "\(host.folder)/special/deep/s.jpg")
        try Files.writeAtomically([8], to: "\(host.folder)/elsewhere/l.jpg")
        try Files.writeAtomically([9], to: "\(host.folder)/ssd/t.webp")
        try host.write("hidden by the mount", "upload/special/hidden.jpg")
        host.containers[0] = host.container(
            "immich_server",
            image: "ghcr.io/immich-app/immich-server:release",
            mounts: [
                (host.media, "/data"), ("\(host.folder)/ssd", "/data/thumbs"),
                ("\(host.folder)/special", "/data/upload/special"), ("/etc/localtime", "/etc/localtime"),
            ]
        )
        try host.publish()
        let (outcome, coordinator) = try host.capture()
        #expect(outcome.isCommitted, "\(outcome)")
        #expect(coordinator.files["immich/library/l.jpg"]?.bytes == [8])
        #expect(coordinator.files["immich/thumbs/t.webp"]?.bytes == [9])
        #expect(coordinator.files["immich/upload/special/deep/s.jpg"]?.bytes == [7])
        #expect(coordinator.entries["immich/upload/special/hidden.jpg"] == nil)
        #expect(coordinator.entries["immich/library"]?.kind == .directory)
    }

    @Test func `a file that can't be read is named and the capture goes on`() throws {
        try #require(getuid() == 0, "needs root, to stop being it")
        let host = try FakeHost()
        try host.write("x", "upload/closed.jpg")
        try host.write("x", "upload/open.jpg")
        try host.write("x", "upload/closed/a.jpg")
        chmod("\(host.media)/upload/closed.jpg", 0)
        chmod("\(host.media)/upload/closed", 0)
        let outcome = try Host.reachingFiles(asUser: 65534) { try host.capture() }
        #expect(outcome.outcome.isCommitted, "\(outcome.outcome)")
        #expect(outcome.coordinator.files["immich/upload/closed.jpg"]?.end?.status == .unreadable)
        #expect(outcome.coordinator.files["immich/upload/closed.jpg"]?.end?.errno == EACCES)
        #expect(outcome.coordinator.files["immich/upload/open.jpg"]?.end?.status == .stable)
        #expect(outcome.coordinator.failedFolders == ["immich/upload/closed": EACCES])
        #expect(outcome.outcome.progress?.isIncomplete == true)
    }

    @Test func `the agent hears an abort in the middle of a large file`() throws {
        let host = try FakeHost()
        try host.write(String(repeating: "x", count: 60_000_000), "upload/large.mov")
        let (outcome, coordinator) = try host.capture { coordinator in
            var data = 0
            coordinator.keepsBytes = false
            coordinator.onData = { _ in data += 1 }
            coordinator.abortsAt = { _ in data > 8 }
        }
        guard case .aborted("stop it") = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(coordinator.failure == "")
        #expect((coordinator.files["immich/upload/large.mov"]?.received ?? 0) < 20_000_000)
    }

    @Test func `a stop ends the capture between two frames and tells the coordinator`() throws {
        let host = try FakeHost()
        try host.write(String(repeating: "x", count: 60_000_000), "upload/large.mov")
        let stop = StopFlag()
        let (outcome, coordinator) = try host.capture(stop: stop) { coordinator in
            coordinator.keepsBytes = false
            coordinator.onData = { _ in stop.set() }
        }
        #expect(outcome.failure == "the agent was stopped")
        #expect(coordinator.failure == "the agent was stopped")
    }
}
