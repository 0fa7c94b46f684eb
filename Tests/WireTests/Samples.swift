import Digest
import TestSupport
import Wire

extension SplitMix {
    mutating func bytes(_ range: ClosedRange<Int>) -> [UInt8] {
        (0..<Int.random(in: range, using: &self)).map { _ in UInt8.random(in: 0...255, using: &self) }
    }

    mutating func text(_ most: Int = 40) -> String {
        let letters: [Character] = ["a", "Z", "0", " ", "/", "é", "漢", "👩‍🚀", "\n", "\t", "\u{301}", "\\"]
        return String(
            (0..<Int.random(in: 0...most, using: &self)).map { _ in letters.randomElement(using: &self) ?? "x"
            }
        )
    }

    mutating func number<I: FixedWidthInteger>(_ type: I.Type = I.self) -> I {
        switch Int.random(in: 0..<4, using: &self) {
        case 0: I.min
        case 1: I.max
        case 2: I(truncatingIfNeeded: Int.random(in: 0..<256, using: &self))
        default: I(truncatingIfNeeded: next())
        }
    }

    mutating func name() -> [UInt8] {
        while true {
            let name = bytes(1...(Bool.random(using: &self) ? 12 : 255)).map {
                $0 == 0 || $0 == 0x2F ? 0x5F : $0
            }
            if Entry.isName(name) { return name }
        }
    }

    mutating func entry() -> Entry {
        let kinds: [Entry.Kind] = [.file, .directory, .symlink, .fifo, .blockDevice, .characterDevice]
        var entry = Entry(kind: kinds.randomElement(using: &self) ?? .file, name: name())
        entry.permissions = number(UInt32.self) & 0o7777
        entry.uid = number()
        entry.gid = number()
        entry.mtime = number()
        entry.ctime = number()
        entry.inode = number()
        switch entry.kind {
        case .file: entry.size = number(UInt64.self) & UInt64(Int64.max)
        case .symlink: entry.target = bytes(1...60).map { $0 == 0 ? 1 : $0 }
        case .blockDevice, .characterDevice: entry.rdev = number()
        case .directory, .fifo: break
        }
        if Bool.random(using: &self) {
            entry.links = max(2, number())
            entry.device = number()
        }
        if Int.random(in: 0..<4, using: &self) == 0 {
            for _ in 0..<Int.random(in: 1...5, using: &self) {
                entry.attributes.append(Entry.Attribute(name: name(), value: bytes(0...300)))
            }
        }
        return entry
    }

    /// One message of every kind.
    mutating func agentMessages() -> [AgentMessage] {
        var end = FileEnd(
            status: [.stable, .changing, .vanished, .unreadable].randomElement(using: &self) ?? .stable
        )
        end.errno = number()
        end.size = number()
        end.mtime = number()
        end.ctime = number()
        end.inode = number()
        return [
            .join(version: number(), token: text()), .hello(version: number(), program: text()), .wait,
            .request(Bool.random(using: &self) ? .full : .database), .clock(number()),
            .dump(
                name: text(),
                kind: Bool.random(using: &self) ? .database : .cluster,
                immichVersion: text(),
                postgresVersion: text()
            ),
            .dumpEnd,
            .list(
                entries: (0..<Int.random(in: 0...8, using: &self)).map { _ in entry() },
                last: Bool.random(using: &self)
            ),
            .again, .fileEnd(end), .expect(files: number(), bytes: number()), .folderFailed(errno: number()),
            .commit,
            .failed(message: text(200)), .skipped(path: bytes(0...300), reason: text()),
            .attributes(
                of: Bool.random(using: &self) ? .folder : .file,
                (0..<Int.random(in: 1...4, using: &self)).map { _ in
                    Entry.Attribute(name: name(), value: bytes(0...300))
                }
            ),
        ]
    }

    mutating func coordinatorMessages() -> [CoordinatorMessage] {
        [
            .joined(host: text()), .welcome(version: number(), host: text()),
            .capture(
                run: text(),
                kind: Bool.random(using: &self) ? .full : .database,
                scope: Bool.random(using: &self) ? .originals : .everything,
                count: Bool.random(using: &self)
            ),
            .busy(message: text()),
            .want(
                (0..<Int.random(in: 0...9, using: &self)).map { _ in Wanted(index: number(), offset: number())
                }
            ),
            .committed(snapshot: text()), .abort(message: text()), .refused(message: text()),
            .coordinators(
                (0..<Int.random(in: 0...3, using: &self)).map { _ in
                    CoordinatorPlace(address: text(), hostKey: text())
                }
            ),
        ]
    }

    mutating func part() -> Part {
        let hash = bytes(32...32).withUnsafeBytes { SHA256Digest(raw: $0) }
        return Part(length: number(), hash: hash)
    }

    mutating func item() -> Item {
        let entry = entry()
        let parts = entry.kind == .file ? (0..<Int.random(in: 0...4, using: &self)).map { _ in part() } : []
        return Item(entry: entry, parts: parts)
    }

    mutating func restoreRequests() -> [RestoreRequest] {
        [
            .restore(version: number(), token: text()),
            .fetch(
                (0..<Int.random(in: 0...9, using: &self)).map { _ in Wanted(index: number(), offset: number())
                }
            ),
        ]
    }

    mutating func restoreReplies() -> [RestoreReply] {
        var items = (0..<Int.random(in: 0...6, using: &self)).map { _ in item() }
        if let last = items.last, last.entry.kind == .file { items[items.count - 1].partCount += 3 }
        return [
            .restoring(
                Restoring(
                    host: text(),
                    snapshot: text(),
                    time: number(),
                    includes: (0..<Int.random(in: 0...3, using: &self)).map { _ in bytes(0...40) },
                    files: number(),
                    bytes: number(),
                    space: number()
                )
            ),
            .items(items, last: Bool.random(using: &self)),
            .parts((0..<Int.random(in: 0...5, using: &self)).map { _ in part() }),
            .damaged(reason: text()),
            .problem(path: bytes(0...60), Bool.random(using: &self) ? .lost : .leftOut, message: text()),
            .done,
        ]
    }
}

func encoded(_ message: RestoreRequest) -> [UInt8] {
    var writer = ByteWriter()
    message.encode(to: &writer)
    return writer.bytes
}

func encoded(_ message: RestoreReply) -> [UInt8] {
    var writer = ByteWriter()
    message.encode(to: &writer)
    return writer.bytes
}

func encoded(_ message: AgentMessage) -> [UInt8] {
    var writer = ByteWriter()
    message.encode(to: &writer)
    return writer.bytes
}

func encoded(_ message: CoordinatorMessage) -> [UInt8] {
    var writer = ByteWriter()
    message.encode(to: &writer)
    return writer.bytes
}

func agentMessage(_ type: UInt8, _ body: some Sequence<UInt8>) throws -> AgentMessage {
    try Array(body).withUnsafeBytes { try AgentMessage(type: type, body: $0) }
}

func coordinatorMessage(_ type: UInt8, _ body: some Sequence<UInt8>) throws -> CoordinatorMessage {
    try Array(body).withUnsafeBytes { try CoordinatorMessage(type: type, body: $0) }
}
