import Glibc
import JSON
import Posix
import SSH
import TestSupport
import Testing
import Wire

/// An agent with a good key that lies, against the real coordinator: its own run ends with a reason, the
/// coordinator's memory stays bounded, and another host's backup runs through beside it.
@Suite("A hostile agent", .serialized)
struct HostileAgentTests {
    // Tests of this suite run one after the other.
    private struct Place: @unchecked Sendable {
        let installation: Installation
        let liar: ScriptedAgent
        let neighbour: ScriptedAgent

        init(extra: String = "") throws {
            installation = try Installation(extra: extra)
            try installation.initialise()
            try installation.serve()
            liar = try ScriptedAgent(installation, host: "liar")
            neighbour = try ScriptedAgent(installation, host: "neighbour")
        }

        /// What the repository of the liar says of itself.
        func check() throws -> Outcome {
            try installation.coordinator("check", "liar", "--read-data", "--json")
        }
    }

    private static let shared = Result { try Place() }

    /// Watches how much memory the sessions take while a test runs.
    private final class MemoryWatch: Sendable {
        private let peak: Posix.Thread.Peak
        private let thread: Posix.Thread.Running

        init(_ installation: Installation) throws {
            let peak = Posix.Thread.Peak()
            self.peak = peak
            let folder = installation.folder
            thread = try Posix.Thread.Running(every: 0.02) {
                for pid in Installation.sessions(of: folder) { peak.note(residentPeak(pid)) }
            }
        }

        /// The most that one session had resident, in bytes.
        func end() -> Int {
            thread.end()
            return peak.value
        }
    }

    // MARK: Frames

    /// Each is sent where `immich/upload` is to be listed; the session ends with a reason.
    static let lies: [(name: String, lie: @Sendable (ScriptedAgent) throws -> Void)] = [
        ("a name with a slash", { try $0.list([ScriptedAgent.file("a/b", 1)]) }),
        ("the name ..", { try $0.list([ScriptedAgent.file("..", 1)]) }),
        ("a name with a NUL", { try $0.list([ScriptedAgent.file("a\0b", 1)]) }),
        ("an empty name", { try $0.list([ScriptedAgent.file("", 1)]) }),
        ("a name of 256 bytes", { try $0.list([ScriptedAgent.file(String(repeating: "n", count: 256), 1)]) }),
        (
            "names that do not ascend",
            { try $0.list([ScriptedAgent.file("b", 1), ScriptedAgent.file("a", 1)]) }
        ),
        ("one name twice", { try $0.list([ScriptedAgent.file("b", 1), ScriptedAgent.file("b", 1)]) }),
        ("bytes that nobody wanted", { try $0.data([1, 2, 3]) }),
        ("the end of no file", { try $0.stream.send(AgentMessage.fileEnd(FileEnd(status: .stable))) }),
        ("again without a file", { try $0.stream.send(AgentMessage.again) }),
        ("a commit before everything was sent", { try $0.stream.send(AgentMessage.commit) }),
        ("a second dump", { try $0.beginDump() }),
        ("a greeting in between", { try $0.stream.send(AgentMessage.hello(version: 1, program: "x")) }),
        ("a clock in between", { try $0.stream.send(AgentMessage.clock(0)) }),
        ("wait in between", { try $0.stream.send(AgentMessage.wait) }),
        (
            "a frame over the limit",
            { agent in try [UInt8]([0, 0, 0, 1, 8]).withUnsafeBytes { try agent.channel.write($0) } }
        ),
        (
            "an unknown type",
            { agent in try agent.stream.send(type: 200, body: UnsafeRawBufferPointer(start: nil, count: 0)) }
        ),
        (
            "a file longer than it says",
            { agent in
                let file = ScriptedAgent.file("x", 10)
                _ = try agent.listWithMarker([file])
                try agent.send(file, [UInt8](repeating: 1, count: 5000), saying: 10)
            }
        ),
        (
            "a file shorter than it says",
            { agent in
                let file = ScriptedAgent.file("x", 10_000)
                _ = try agent.listWithMarker([file])
                try agent.send(file, [1, 2, 3], saying: 10_000)
            }
        ),
        (
            "extended attributes in a list",
            { agent in
                var file = ScriptedAgent.file("x", 1)
                file.attributes = [Entry.Attribute(name: [0x61], value: [1])]
                try agent.list([file])
            }
        ),
        (
            "a folder below the thousandth",
            { agent in
                _ = try agent.listWithMarker([ScriptedAgent.folder("d")])
                for _ in 0..<1001 { try agent.list([ScriptedAgent.folder("d")]) }
            }
        ),
    ]

    @Test(arguments: 0..<lies.count)
    func `a lie ends the session with a reason and leaves nothing damaged`(number: Int) throws {
        let place = try Self.shared.get()
        let (name, lie) = Self.lies[number]
        let before = place.installation.serveLog.utf8.count
        func said() -> String { String(place.installation.serveLog.utf8.dropFirst(before)) ?? "" }
        try place.liar.begin()
        // The end may come while it still talks.
        do { try lie(place.liar) } catch {}
        _ = try place.liar.untilEnd()
        place.liar.channel.close(seconds: 1)
        let failed = try eventually("the run is over, after \(name)") { () -> Substring? in
            said().split(separator: "\n").first { $0.contains("the backup failed") }
        }
        #expect(failed.contains("frame") || failed.contains("not allowed"), "\(name): \(failed)")
        #expect(!said().contains("signal"), "\(name)")
    }

    @Test func `after all lies the repository is whole and an honest backup works`() throws {
        let place = try Self.shared.get()
        _ = try place.liar.backUp(3, of: 1000)
        let check = try place.check()
        #expect(check.json?["verdict"]?.string == "passed", "\(check)")
    }

    // MARK: Too much

    @Test func `folders that are too wide end the run with a word, and a neighbour's backup runs beside it`()
        throws
    {
        let place = try Place()
        let watch = try MemoryWatch(place.installation)
        let neighbour = Unchecked(place.neighbour)
        let start = Time.monotonic()
        let honest = try Posix.Thread("neighbour") { _ = try neighbour.value.backUp(20, of: 1_000_000) }
        try place.liar.begin()
        var listed = 0
        var reason = ""
        do {
            if isLong {
                // Ten million short names of what has no bytes to send, on several levels.
                for level in 0..<10 {
                    var entries: [Entry] = level == 0 ? [ScriptedAgent.marker] : []
                    for number in 0..<1_000_000 {
                        entries.append(Entry(kind: .fifo, name: Array("f\(10_000_000 + number)".utf8)))
                        if entries.count == 10_000 {
                            try place.liar.list(entries, last: false)
                            listed += entries.count
                            entries = []
                        }
                    }
                    try place.liar.list(entries + [ScriptedAgent.folder("z")])
                }
            } else {
                // Few entries with large attributes come to the same.
                _ = try place.liar.listWithMarker((0..<3000).map { ScriptedAgent.folder("f\(10_000 + $0)") })
                let value = [UInt8](repeating: 7, count: 1_000_000)
                let large = [Entry.Attribute(name: Array("user.x".utf8), value: value)]
                for _ in 0..<3000 {
                    try place.liar.stream.send(AgentMessage.attributes(of: .folder, large))
                    try place.liar.list([])
                    listed += 1
                }
            }
        } catch { reason = "\(error)" }
        #expect(reason.contains("too many entries"), "after \(listed): \(reason)")
        try honest.join()
        let seconds = Double(Time.monotonic() - start) / 1e9
        let peak = watch.end()
        print(
            "\(listed) entries until the limit; a session's peak \(peak >> 20) MiB; with the neighbour's backup \(seconds) s"
        )
        #expect(peak < 3 << 30)
        // The session lives, and so does its key.
        try place.liar.request()
        place.liar.channel.close(seconds: 1)
    }

    @Test func `a dump without end stops at the host's limit, and the next run works once that is raised`()
        throws
    {
        let place = try Place(extra: "hosts: { liar: { size_limit: 40 MB } }")
        let first = try place.liar.backUp(2, of: 100_000)
        try place.liar.connect()
        try place.liar.request()
        try place.liar.beginDump()
        var sent = 0
        let block = randomBytes(1 << 20)
        var reason = ""
        while reason.isEmpty && sent < 400 {
            try place.liar.data(Array(block[(sent % 1000)...]) + randomBytes(1000))
            try place.liar.stream.flush()
            sent += 1
            // Not the same chunks again and again.
            try place.liar.data(randomBytes(1 << 20))
            if try place.liar.stream.frameWaits(),
                case .abort(let text) = try place.liar.stream.receiveFromCoordinator()
            {
                reason = text
            }
        }
        try place.liar.stream.send(AgentMessage.failed(message: ""))
        try place.liar.stream.flush()
        place.liar.channel.close(seconds: 1)
        #expect(reason.contains("size_limit") && reason.contains("raise"), "after \(sent) MiB: \(reason)")
        #expect(try place.installation.run(of: "liar")?["failure"]?.string == "limit")

        // Files end at the same limit, and what came of them is kept and counts.
        #expect(throws: ScriptedAgent.Aborted.self) { try place.liar.backUp(60, of: 1_000_000) }
        let stored = try Outcome.of(["du", "-sb", place.installation.repository("liar")])
        let bytes = stored.output.split(separator: "\t").first.flatMap { Int($0) } ?? 0
        print("the limit is 40 MB; the repository takes \(bytes) bytes")
        #expect(bytes > 39_000_000 && bytes < 60_000_000)

        // Older snapshots are there, other hosts notice nothing, and while the limit holds nothing new comes.
        #expect(try place.check().json?["verdict"]?.string == "passed")
        let listed = try place.installation.coordinator("ls", "liar", "--snapshot", first)
        #expect(listed.status == 0, "\(listed)")
        _ = try place.neighbour.backUp(2, of: 100_000)
        #expect(throws: ScriptedAgent.Aborted.self) { try place.liar.backUp(1, of: 10) }
        try place.installation.configure { text in
            let others = text.split(separator: "\n").filter { !$0.hasPrefix("hosts") }
            return others.joined(separator: "\n") + "\nhosts: { liar: { size_limit: 1 GB } }\n"
        }
        _ = try place.liar.backUp(2, of: 100_000)
    }

    @Test func `an agent that reads nothing costs no memory`() throws {
        let place = try Self.shared.get()
        let watch = try MemoryWatch(place.installation)
        try place.liar.begin()
        // Each is answered; the answers fill what is between us, and then the coordinator waits.
        let channel = Unchecked(place.liar.channel)
        let flood = try Posix.Thread("flood") {
            let list = Frames.emptyLists(20_000)
            for _ in 0..<100 { try list.withUnsafeBytes { try channel.value.write($0) } }
        }
        Time.sleep(seconds: isLong ? 20 : 4)
        channel.value.breaker.breakOff()
        try? flood.join()
        let peak = watch.end()
        print("unread answers: a session's peak \(peak >> 20) MiB")
        #expect(peak < 300 << 20)
    }

    // MARK: Strangers

    @Test func `a hundred strangers keep nobody out`() throws {
        let place = try Self.shared.get()
        var strangers: [Int32] = []
        defer { for socket in strangers { close(socket) } }
        for _ in 0..<100 {
            strangers.append(
                try dialTCP(host: "127.0.0.1", port: place.installation.port, seconds: 5).release()
            )
        }
        #expect(place.installation.sessions().count < 50)
        // One who is connected works on, and a newcomer gets in as soon as a stranger's few seconds are over.
        let start = Time.monotonic()
        _ = try eventually("an agent gets in") { () -> Bool? in
            do {
                _ = try place.neighbour.backUp(2, of: 10_000)
                return true
            } catch is SSHError {
                Time.sleep(seconds: 0.5)
                return nil
            }
        }
        print("an agent got in beside a hundred strangers after \(Double(Time.monotonic() - start) / 1e9) s")
    }

    @Test func `keys that nobody knows, a hundred at once, cost bounded memory and end`() throws {
        let place = try Self.shared.get()
        let watch = try MemoryWatch(place.installation)
        let port = place.installation.port
        let hostKey = try KeyPair.load(place.installation.folder + "/state/host_key").publicKey.fingerprint
        var threads: [@Sendable () -> Void] = []
        for _ in 0..<100 {
            threads.append {
                guard let key = try? KeyPair.generate() else { return }
                let channel = try? SSHClient.connect(
                    host: "127.0.0.1",
                    port: port,
                    expectedHostKey: hostKey,
                    key: key,
                    seconds: 10
                )
                channel?.close(seconds: 1)
            }
        }
        let running = try threads.map { try Posix.Thread.Running(once: $0) }
        for thread in running { thread.end() }
        let peak = watch.end()
        print("a hundred unknown keys: a session's peak \(peak >> 20) MiB")
        #expect(peak < 150 << 20)
        _ = try eventually("all are gone") { place.installation.sessions().isEmpty ? true : nil }
    }
}

/// The most memory that a process ever had resident, in bytes.
func residentPeak(_ pid: pid_t) -> Int {
    for line in ((try? Files.read("/proc/\(pid)/status")) ?? []).split(separator: 0x0A)
    where line.starts(with: "VmHWM:".utf8) {
        let number = line.split(whereSeparator: { $0 == 0x20 || $0 == 0x09 }).compactMap {
            Int(String(decoding: $0, as: UTF8.self))
        }
        return (number.first ?? 0) << 10
    }
    return 0
}

enum Frames {
    /// So many lists without entries, of which none is a folder's last.
    static func emptyLists(_ count: Int) -> [UInt8] {
        [[UInt8]](repeating: [5, 0, 0, 0, 8, 0, 0, 0, 0, 0], count: count).flatMap { $0 }
    }
}
