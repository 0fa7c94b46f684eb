import Glibc
import Posix
import Wire

/// One end of a socket pair as a channel.
final class SocketChannel: ByteChannel, @unchecked Sendable {
    // The descriptor is fixed; each end is used by one thread, `cut` by any.
    private let descriptor: Int32
    init(owning descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }

    static func pair() -> (SocketChannel, SocketChannel) {
        var ends: [Int32] = [0, 0]
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
        return (SocketChannel(owning: ends[0]), SocketChannel(owning: ends[1]))
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        try retryingOnInterrupt("read") { Glibc.read(descriptor, buffer.baseAddress, buffer.count) }
    }
    func write(_ bytes: UnsafeRawBufferPointer) throws {
        var done = 0
        while done < bytes.count {
            done += try retryingOnInterrupt("send") {
                send(
                    descriptor,
                    bytes.baseAddress.map { $0 + done },
                    bytes.count - done,
                    Int32(MSG_NOSIGNAL)
                )
            }
        }
    }
    func inputWaits() throws -> Bool {
        var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&wait, 1, 0) > 0
    }
    /// As when the other machine is gone.
    func cut() { shutdown(descriptor, Int32(SHUT_RDWR)) }
}

/// A coordinator that keeps what it is told, and checks that the agent keeps to the protocol.
final class FakeCoordinator: @unchecked Sendable {
    // One thread runs it; the test reads after that has ended.
    struct File {
        var entry: Entry
        var bytes: [UInt8] = []
        var received: UInt64 = 0
        var end: FileEnd?
        var agains = 0
    }
    var kind = CaptureKind.full
    var scope = Scope.everything
    var counts = false
    /// Which files to ask for, and from where; nil: not at all.
    var want: (_ path: String, Entry) -> UInt64? = { _, _ in 0 }
    /// Called at each frame of file data, with the path of the file.
    var onData: (_ path: String) throws -> Void = { _ in }
    /// Called at each frame of the dump.
    var onDumpFrame: () throws -> Void = {}
    var keepsBytes = true
    /// Sends `abort` when true for the number of frames received so far.
    var abortsAt: (Int) -> Bool = { _ in false }

    private(set) var dumpName = ""
    private(set) var dumpKind: DumpKind?
    private(set) var dump: [UInt8] = []
    private(set) var dumpEnded = false
    /// Every path in the order in which it was told.
    private(set) var paths: [String] = []
    private(set) var entries: [String: Entry] = [:]
    private(set) var files: [String: File] = [:]
    private(set) var fileOrder: [String] = []
    private(set) var skipped: [String] = []
    private(set) var failedFolders: [String: Int32] = [:]
    private(set) var failure: String?
    private(set) var expected: (files: UInt64, bytes: UInt64)?
    private(set) var committed = false
    private(set) var problem: String?
    private(set) var maximumUnanswered = 0

    private let stream: FrameStream
    private var frames = 0
    private var pending: [(path: String, offset: UInt64)] = []
    private var next = 0
    private var stack: [[String]] = [[""]]
    private var collected: [Entry] = []
    private var last: [UInt8]?
    private var attributesOfNext: [Entry.Attribute]?
    private var aborted = false

    init(_ channel: any ByteChannel) { stream = FrameStream(channel) }
    init(_ stream: FrameStream) { self.stream = stream }

    struct Breach: Error { let what: String }

    /// Starts a capture after `wait` or `request` and runs it to its end.
    func run() throws {
        do { try converse() } catch let breach as Breach {
            problem = breach.what
            throw breach
        }
    }

    private func converse() throws {
        let first = try stream.receive { try AgentMessage(type: $0, body: $1) }
        switch first {
        case .wait, .request: break
        default: throw Breach(what: "\(first) while idle")
        }
        let asked = Time.now()
        try stream.send(CoordinatorMessage.capture(run: "run-1", kind: kind, scope: scope, count: counts))
        try stream.flush()
        guard case .clock(let time) = try stream.receive({ try AgentMessage(type: $0, body: $1) }),
            (asked...Time.now()).contains(time)
        else { throw Breach(what: "a capture without the agent's clock") }
        while true {
            let isOver = try stream.receive { type, body in try take(type, body) }
            frames += 1
            if isOver { break }
            if abortsAt(frames) && !aborted {
                aborted = true
                try stream.send(CoordinatorMessage.abort(message: "stop it"))
                try stream.flush()
            }
        }
        if committed {
            try stream.send(CoordinatorMessage.committed(snapshot: "abc123"))
            try stream.flush()
        }
    }

    private func take(_ type: UInt8, _ body: UnsafeRawBufferPointer) throws -> Bool {
        if type == AgentMessage.dataType {
            if aborted { return false }
            if !dumpEnded {
                dump.append(contentsOf: body)
                try onDumpFrame()
                return false
            }
            guard next < pending.count else { throw Breach(what: "data that nobody wanted") }
            let path = pending[next].path
            if keepsBytes { files[path]?.bytes.append(contentsOf: body) }
            files[path]?.received += UInt64(body.count)
            try onData(path)
            return false
        }
        let message = try AgentMessage(type: type, body: body)
        if case .failed(let text) = message {
            failure = text
            return true
        }
        if aborted { return false }
        switch message {
        case .dump(let name, let kind, _, _): (dumpName, dumpKind) = (name, kind)
        case .dumpEnd: dumpEnded = true
        case .expect(let files, let bytes): expected = (files, bytes)
        case .skipped(let path, let reason): skipped.append("\(escaped(path)): \(reason)")
        case .folderFailed(let code): failedFolders[try nextFolder()] = code
        case .list(let part, let isLast): try list(part, isLast)
        case .attributes(.folder, let attributes): attributesOfNext = attributes
        case .attributes(.file, let attributes):
            guard next < pending.count else { throw Breach(what: "attributes without a file") }
            entries[pending[next].path]?.attributes = attributes
        case .again:
            guard next < pending.count else { throw Breach(what: "again without a file") }
            files[pending[next].path]?.bytes = []
            files[pending[next].path]?.agains += 1
        case .fileEnd(let end):
            guard next < pending.count else { throw Breach(what: "a file's end without a file") }
            files[pending[next].path]?.end = end
            fileOrder.append(pending[next].path)
            next += 1
        case .commit:
            if next != pending.count {
                throw Breach(what: "commit with \(pending.count - next) files unsent")
            }
            if stack.contains(where: { !$0.isEmpty }) { throw Breach(what: "commit before all is listed") }
            committed = true
            return true
        default: throw Breach(what: "\(message) during a capture")
        }
        return false
    }

    /// The folder that the next list is about.
    private func nextFolder() throws -> String {
        while let top = stack.last {
            if let first = top.first {
                stack[stack.count - 1].removeFirst()
                return first
            }
            stack.removeLast()
        }
        throw Breach(what: "a list of no folder")
    }

    private var current: String?

    private func list(_ part: [Entry], _ isLast: Bool) throws {
        let folder: String
        if let current { folder = current } else { folder = try nextFolder() }
        current = folder
        if let attributes = attributesOfNext { entries[folder]?.attributes = attributes }
        attributesOfNext = nil
        var wanted: [Wanted] = []
        for (index, entry) in part.enumerated() {
            if let last, !last.lexicographicallyPrecedes(entry.name) {
                throw Breach(what: "names out of order")
            }
            last = entry.name
            let path = shown(entry.name, in: folder)
            paths.append(path)
            entries[path] = entry
            guard entry.kind == .file, let offset = want(path, entry) else { continue }
            wanted.append(Wanted(index: UInt32(index), offset: offset))
            pending.append((path, offset))
            files[path] = File(entry: entry)
        }
        if !dumpEnded { throw Breach(what: "a list before the dump") }
        collected += part
        if isLast {
            stack.append(
                collected.filter { $0.kind == .directory }.map { shown($0.name, in: folder) }
            )
            collected = []
            last = nil
            current = nil
        }
        maximumUnanswered = max(maximumUnanswered, part.count)
        if pending.count - next > WireLimit.unsent { throw Breach(what: "too many files unsent") }
        try stream.send(CoordinatorMessage.want(wanted))
        try stream.flush()
    }
}

private func shown(_ name: [UInt8], in folder: String) -> String {
    let text = name.contains { $0 < 0x20 } ? nil : String(validating: name, as: UTF8.self)
    return (folder.isEmpty ? "" : folder + "/") + (text ?? escaped(name))
}
