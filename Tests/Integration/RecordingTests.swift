import Glibc
import JSON
import Posix
import TestSupport
import Testing

@Suite("The recording layer", .serialized)
struct RecordingTests {
    /// What strace calls them, and what the layer does.
    private static let calls: [(name: String, kind: FaultLayer.Kind)] = [
        ("write", .write), ("pwrite64", .write), ("writev", .write), ("pwritev", .write),
        ("pwritev2", .write), ("fsync", .sync), ("fdatasync", .sync), ("syncfs", .sync),
        ("rename", .rename), ("renameat", .rename), ("renameat2", .rename), ("link", .link),
        ("linkat", .link), ("unlink", .unlink), ("unlinkat", .unlink), ("rmdir", .unlink),
        ("mkdir", .mkdir), ("mkdirat", .mkdir), ("ftruncate", .truncate), ("truncate", .truncate),
        ("open", .create), ("openat", .create), ("creat", .create), ("copy_file_range", .write),
        ("sendfile", .write), ("splice", .write), ("fallocate", .write), ("openat2", .create),
    ]

    @Test(.enabled(if: Programs.exists("strace"), "strace is not installed"))
    func `it misses no step by which a session changes files`() throws {
        let rig = try FaultRig()
        try rig.agent.run()
        defer { rig.agent.stop(SIGKILL) }
        try rig.change()
        let session = try eventually("the session waits") { rig.installation.sessions().first }
        // Its greeting is over when it sleeps.
        Time.sleep(seconds: 1)
        let log = rig.installation.folder + "/strace.log"
        let strace = try ChildProcess(
            [
                "strace", "-f", "-y", "-qq", "-o", log, "-e",
                "trace=" + Self.calls.map(\.name).joined(separator: ","), "-p", "\(session)",
            ],
            output: .nothing,
            error: .nothing
        )
        let tracer = strace.pid
        defer {
            kill(tracer, SIGINT)
            waitpid(tracer, nil, 0)
        }
        _ = try eventually("strace is attached") { () -> Bool? in
            let status = String(decoding: try Files.read("/proc/\(session)/status"), as: UTF8.self)
            return status.contains("TracerPid:\t\(tracer)") ? true : nil
        }
        try rig.layer.set(.init(.session, FaultLayer.Kind.files))
        let outcome = try rig.installation.coordinator("backup", "lisbon")
        #expect(outcome.status == 0, "\(outcome)")
        let steps = try rig.layer.steps()
        try rig.layer.clear()

        var seen: [FaultLayer.Kind: Int] = [:]
        for line in String(decoding: try Files.read(log), as: UTF8.self).split(separator: "\n") {
            guard
                line.contains(rig.installation.folder + "/repositories")
                    || line.contains(rig.installation.folder + "/state"),
                let call = line.split(separator: " ").dropFirst().first.map({ $0.prefix { $0 != "(" } }),
                let kind = Self.calls.first(where: { $0.name == call })?.kind,
                kind != .create || line.contains("O_CREAT")
            else { continue }
            seen[kind, default: 0] += 1
        }
        var counted: [FaultLayer.Kind: Int] = [:]
        for step in steps { counted[step.kind, default: 0] += 1 }
        #expect(counted == seen)
        #expect(steps.allSatisfy { $0.pid == session })
        for kind: FaultLayer.Kind in [.create, .write, .sync, .rename, .unlink] {
            #expect(counted[kind] ?? 0 > 0)
        }
        print("a backup of two new photos: \(counted.map { "\($0.value) \($0.key.rawValue)" }.sorted())")
    }

    @Test func `a run is the same steps each time, with the commits and messages`() throws {
        let rig = try FaultRig()
        for _ in 0..<2 {
            try rig.change()
            try rig.layer.set(.init([.session], FaultLayer.Kind.durable))
            let start = Time.monotonic()
            try rig.backup()
            print(
                "durable steps of a session: \(rig.layer.count), \((Time.monotonic() - start) / 1_000_000) ms"
            )
            #expect(try rig.layer.steps().count == rig.layer.count)
            #expect(try rig.layer.steps().contains { $0.kind == .commit && $0.path == "COMMIT" })
            for role: FaultLayer.Roles in [.session, .agent] {
                try rig.change()
                try rig.layer.set(.init(role, FaultLayer.Kind.messages))
                try rig.backup()
                print("messages of \(role): \(rig.layer.count)")
            }
        }
        try rig.layer.clear()
    }
}
