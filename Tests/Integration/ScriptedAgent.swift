import Glibc
import Posix
import SSH
import Wire

/// An agent that a test writes: it joins with a key of its own and says what it is told to, sense or nonsense.
final class ScriptedAgent {
    struct Aborted: Error, CustomStringConvertible {
        let message: String
        var description: String { "aborted: \(message)" }
    }

    let key: KeyPair
    /// Where it connects.
    var port: UInt16
    private let hostKey: Fingerprint
    /// Nanoseconds by which its clock is ahead.
    var clockSkew: Int64 = 0
    /// What it was told of the fleet last.
    private(set) var coordinators: [CoordinatorPlace] = []
    private(set) var channel: SSHChannel
    private(set) var stream: FrameStream

    /// Joins `installation` as a new host of this name.
    init(_ installation: Installation, host: String) throws {
        key = try KeyPair.generate()
        port = installation.port
        guard let token = JoinToken(try installation.addHost(host)),
            let hostKey = Fingerprint(bytes: token.fingerprint)
        else { throw Late(what: "a join token") }
        self.hostKey = hostKey
        channel = try SSHClient.connect(host: "127.0.0.1", port: port, expectedHostKey: hostKey, key: key)
        stream = FrameStream(channel)
        try stream.send(AgentMessage.join(version: protocolVersion, token: token.text))
        guard case .joined = try stream.receiveFromCoordinator() else { throw Late(what: "joined") }
        channel.close()
    }

    /// Connects and greets.
    func connect() throws {
        channel = try SSHClient.connect(host: "127.0.0.1", port: port, expectedHostKey: hostKey, key: key)
        stream = FrameStream(channel)
        try stream.send(AgentMessage.hello(version: protocolVersion, program: "script"))
        guard case .welcome = try stream.receiveFromCoordinator() else { throw Late(what: "welcome") }
        try tellTime()
    }

    private func tellTime() throws {
        try stream.send(AgentMessage.clock(Time.now() &+ clockSkew))
        try stream.flush()
    }

    /// Asks for a capture and waits until it starts.
    func request(_ kind: CaptureKind = .full) throws {
        try stream.send(AgentMessage.request(kind))
        let answer = try hear()
        guard case .capture(_, kind, _, _) = answer else { throw Aborted(message: "\(answer)") }
        try tellTime()
    }

    /// The next that the coordinator says beside where others are.
    func hear() throws -> CoordinatorMessage {
        while true {
            let message = try stream.receiveFromCoordinator()
            guard case .coordinators(let places) = message else { return message }
            coordinators = places
        }
    }

    /// Sends a whole dump of at least `size` bytes.
    func dump(_ size: Int = 2000) throws {
        try beginDump()
        try data(Array(String(repeating: "SELECT 1;\n", count: size / 10).utf8))
        try data(Array("\n--\n-- PostgreSQL database dump complete\n--\n".utf8))
        try stream.send(AgentMessage.dumpEnd)
    }

    func beginDump() throws {
        try stream.send(
            AgentMessage.dump(
                name: "immich-db-backup-20260102T030405-v3.1.0-pg15.18.sql",
                kind: .database,
                immichVersion: "v3.1.0",
                postgresVersion: "15.18"
            )
        )
        try data(Array("--\n-- PostgreSQL database dump\n--\n".utf8))
    }

    func data(_ bytes: [UInt8]) throws {
        for start in stride(from: 0, to: bytes.count, by: 512 << 10) {
            try bytes[start..<min(start + 512 << 10, bytes.count)].withUnsafeBytes {
                try stream.send(type: AgentMessage.dataType, body: $0)
            }
        }
    }

    /// Sends a part of a list and gives what is wanted of it.
    @discardableResult
    func list(_ entries: [Entry], last: Bool = true) throws -> [Wanted] {
        try stream.send(AgentMessage.list(entries: entries, last: last))
        switch try stream.receiveFromCoordinator() {
        case .want(let files): return files
        case .abort(let message):
            try stream.send(AgentMessage.failed(message: ""))
            try stream.flush()
            throw Aborted(message: message)
        case let other: throw Late(what: "want, not \(other)")
        }
    }

    static func folder(_ name: String) -> Entry {
        var entry = Entry(kind: .directory, name: Array(name.utf8))
        entry.permissions = 0o755
        return entry
    }

    static func file(_ name: String, _ size: Int) -> Entry {
        var entry = Entry(kind: .file, name: Array(name.utf8))
        entry.size = UInt64(size)
        entry.inode = 99
        return entry
    }

    /// Lists all that comes before `immich/upload`, whose list is due then.
    func listUpToUpload() throws {
        try list([Self.folder("immich")])
        let names = ["backups", "encoded-video", "library", "profile", "thumbs", "upload"]
        try list(names.map(Self.folder))
        for _ in names.dropLast() {
            // Known from earlier runs, it is not wanted.
            if !(try list([Self.marker]).isEmpty) { try send(Self.marker, []) }
        }
    }

    /// What every one of Immich's folders holds.
    static var marker: Entry { file(".immich", 0) }

    /// Lists `entries` beside the marker, and sends that.
    func listWithMarker(_ entries: [Entry], last: Bool = true) throws -> [Wanted] {
        let wanted = try list([Self.marker] + entries, last: last)
        guard wanted.first?.index == 0 else { return wanted }
        try send(Self.marker, [])
        return Array(wanted.dropFirst())
    }

    /// A whole capture of the database alone, from the request on; gives the snapshot.
    func backUpDatabase(_ size: Int = 2000) throws -> String {
        try connect()
        defer { channel.close(seconds: 1) }
        try request(.database)
        try dump(size)
        try list([Self.folder("immich")])
        try list([Self.folder("backups")])
        try list([])
        return try commit()
    }

    /// From the request to the place where `immich/upload` is to be listed.
    func begin() throws {
        try connect()
        try request()
        try dump()
        try listUpToUpload()
    }

    /// Sends the bytes of a wanted file, and its end.
    func send(_ entry: Entry, _ bytes: [UInt8], saying size: Int? = nil) throws {
        try data(bytes)
        var end = FileEnd(status: .stable)
        (end.size, end.mtime, end.ctime, end.inode) = (
            UInt64(size ?? bytes.count), entry.mtime, entry.ctime, entry.inode
        )
        try stream.send(AgentMessage.fileEnd(end))
    }

    /// Says that all is sent; gives the snapshot.
    func commit() throws -> String {
        try stream.send(AgentMessage.commit)
        switch try stream.receiveFromCoordinator() {
        case .committed(let snapshot): return snapshot
        case .abort(let message):
            try stream.send(AgentMessage.failed(message: ""))
            try stream.flush()
            throw Aborted(message: message)
        case let other: throw Late(what: "committed, not \(other)")
        }
    }

    /// A whole, honest backup of `count` random files of `size` bytes.
    func backUp(_ count: Int, of size: Int) throws -> String {
        try begin()
        defer { channel.close(seconds: 1) }
        let files = (0..<count).map { Self.file("photo-\(10_000_000 + $0)", size) }
        for wanted in try listWithMarker(files) {
            try send(files[Int(wanted.index) - 1], randomBytes(size))
        }
        return try commit()
    }

    /// Reads until the other side ends the connection; gives the last thing it said.
    func untilEnd() throws -> CoordinatorMessage? {
        var last: CoordinatorMessage?
        do {
            try stream.flush()
            while true { last = try stream.receiveFromCoordinator() }
        } catch { return last }
    }
}
