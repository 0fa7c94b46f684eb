import TestSupport
import Wire

/// The agent's part of a capture: a valid conversation over a made-up library, which a mutator then spoils.
final class AgentScript {
    private enum Place { case root, deployment, immich, top, dump, inside }

    private struct Folder {
        let id: UInt64
        let place: Place
        let depth: Int
    }

    private struct Wish {
        let entry: Entry
        var position: UInt64
    }

    private var random: SplitMix
    /// Of the library; the same for many conversations, so that most of it is known from earlier.
    private let shape: UInt64
    private var mutator: FrameMutator
    private let kind: CaptureKind
    private let deep: Bool
    private let abortAfter: Int
    private(set) var frames = 0
    private var dumpFrames: Int
    private var dumpState = 0
    private var due: [[Folder]] = []
    /// Parts of the list under way.
    private var parts: [(entries: [Entry], folder: Folder?)] = []
    private var awaited: [[Entry]] = []
    private var firstAwaited = 0
    private var wishes: [Wish] = []
    private var firstWish = 0
    private var isSending = false
    private var saidAttributes = false
    private var ended = false

    init(seed: UInt64, shape: UInt64, rate: Int, _ kind: CaptureKind) {
        self.kind = kind
        random = SplitMix(seed)
        self.shape = shape
        mutator = FrameMutator(rate: rate)
        deep = random.once(in: 40)
        abortAfter = random.once(in: 12) ? random.below(400) : .max
        dumpFrames = 1 + random.below(4)
        due = [[Folder(id: 1, place: .root, depth: 0)]]
    }

    var changed: Int { mutator.changed }

    /// The next bytes for the coordinator; nil at the end of the connection.
    func more() -> [UInt8]? {
        if ended || mutator.isClosed { return nil }
        guard let frame = next() else { return nil }
        frames += 1
        return mutator.bytes(frame, &random)
    }

    /// Takes what the coordinator said.
    func hear(_ frame: Frame) {
        guard
            let message = try? frame.body.withUnsafeBytes({
                try CoordinatorMessage(type: frame.type, body: $0)
            }),
            case .want(let files) = message, firstAwaited < awaited.count
        else { return }
        let entries = awaited[firstAwaited]
        firstAwaited += 1
        for file in files where Int(file.index) < entries.count {
            wishes.append(Wish(entry: entries[Int(file.index)], position: file.offset))
        }
    }

    private func next() -> Frame? {
        if frames >= abortAfter {
            ended = true
            return Frame(AgentMessage.failed(message: "the fuzzer had enough"))
        }
        if let frame = dump() { return frame }
        if random.once(in: 200) {
            return Frame(AgentMessage.expect(files: random.next(), bytes: random.next()))
        }
        if random.once(in: 200) {
            return Frame(AgentMessage.skipped(path: random.bytes(random.below(300)), reason: "left out"))
        }
        if isSending || firstWish < wishes.count && (random.once(in: 2) || nothingToList) { return send() }
        if let frame = list() { return frame }
        if firstWish < wishes.count { return send() }
        ended = true
        return Frame(AgentMessage.commit)
    }

    private var nothingToList: Bool { parts.isEmpty && due.allSatisfy(\.isEmpty) }

    private func dump() -> Frame? {
        let line = Array(String(repeating: "COPY public.asset (id, checksum) FROM stdin;\n", count: 40).utf8)
        switch dumpState {
        case 0:
            dumpState = 1
            return Frame(
                AgentMessage.dump(
                    name: "immich-db-backup-20260102T030405-v3.1.0-pg15.18.sql",
                    kind: .database,
                    immichVersion: "v3.1.0",
                    postgresVersion: "15.18"
                )
            )
        case 1:
            dumpState = 2
            return Frame(6, Array("--\n-- PostgreSQL database dump\n--\n".utf8) + line)
        case 2 where dumpFrames > 0:
            dumpFrames -= 1
            return Frame(6, line + random.bytes(random.below(100)).map { $0 & 0x1F | 0x60 } + [0x0A])
        case 2:
            dumpState = 3
            return Frame(6, Array("\n--\n-- PostgreSQL database dump complete\n--\n".utf8))
        case 3:
            dumpState = 4
            return Frame(AgentMessage.dumpEnd)
        default: return nil
        }
    }

    // MARK: Lists

    private func list() -> Frame? {
        if parts.isEmpty {
            while let top = due.last, top.isEmpty { due.removeLast() }
            guard let folder = due.last?.first else { return nil }
            if folder.place != .root && !saidAttributes && random.once(in: 12) {
                saidAttributes = true
                return Frame(AgentMessage.attributes(of: .folder, [attribute(&random)]))
            }
            saidAttributes = false
            due[due.count - 1].removeFirst()
            if folder.place == .inside && random.once(in: 300) {
                return Frame(AgentMessage.folderFailed(errno: 13))
            }
            let (entries, folders) = content(folder)
            let size = random.once(in: 4) ? 1 + random.below(20) : 512
            var rest = entries[...]
            repeat {
                parts.append((Array(rest.prefix(size)), nil))
                rest = rest.dropFirst(size)
            } while !rest.isEmpty
            due.append(folders)
        }
        let part = parts.removeFirst()
        awaited.append(part.entries)
        return Frame(AgentMessage.list(entries: part.entries, last: parts.isEmpty))
    }

    /// A folder's entries, the same at each call but for a few that changed.
    private func content(_ folder: Folder) -> (entries: [Entry], folders: [Folder]) {
        var shaped = SplitMix(shape ^ folder.id)
        var entries: [Entry] = []
        var folders: [Folder] = []
        func add(_ name: String, _ place: Place) {
            var entry = Entry(kind: .directory, name: Array(name.utf8))
            entry.permissions = 0o755
            entry.inode = shaped.next()
            folders.append(Folder(id: shaped.next(), place: place, depth: folder.depth + 1))
            entries.append(entry)
        }
        switch folder.place {
        case .root:
            add("deployment", .deployment)
            add("immich", .immich)
        case .immich where kind == .database: add("backups", .dump)
        case .immich:
            for name in ["backups", "encoded-video", "library", "profile", "thumbs", "upload"] {
                add(name, .top)
            }
        // Now and then with what does not belong there.
        case .dump: if random.once(in: 8) { entries.append(file("extra", nil, &shaped)) }
        case .top, .deployment, .inside:
            if folder.place == .top { entries.append(file(".immich", 13, &shaped)) }
            if folder.place == .inside && deep && folder.depth < 1010 { add("deep", .inside) }
            let wide = shaped.once(in: 60)
            for index in 0..<(wide ? 700 : shaped.below(12)) {
                let number = String(index)
                let name = "e" + String(repeating: "0", count: 4 - number.count) + number
                switch shaped.below(24) {
                case 0...2 where folder.depth < 7 && index < 16: add(name, .inside)
                case 3: entries.append(special(name, &shaped))
                default: entries.append(file(name, nil, &shaped))
                }
            }
        }
        return (entries, folders)
    }

    private func file(_ name: String, _ size: UInt64?, _ shaped: inout SplitMix) -> Entry {
        var entry = Entry(kind: .file, name: Array(name.utf8))
        entry.permissions = 0o644
        entry.inode = shaped.next() | 1
        entry.mtime = Int64(bitPattern: shaped.next() >> 3)
        entry.ctime = entry.mtime
        let width = shaped.below(1000)
        entry.size =
            size
            ?? UInt64(
                width == 0 ? shaped.below(24 << 20) : width < 60 ? shaped.below(200_000) : shaped.below(3000)
            )
        if shaped.once(in: 30) { (entry.links, entry.device) = (2, 7) }
        if random.once(in: 15) { entry.ctime = Int64(random.below(1 << 40)) }
        return entry
    }

    private func special(_ name: String, _ shaped: inout SplitMix) -> Entry {
        var entry = Entry(
            kind: shaped.pick([.symlink, .fifo, .blockDevice, .characterDevice]),
            name: Array(name.utf8)
        )
        if shaped.once(in: 10) { entry.attributes = [attribute(&shaped)] }
        if entry.kind == .symlink { entry.target = Array("../../elsewhere".utf8) }
        if entry.kind == .blockDevice || entry.kind == .characterDevice { entry.rdev = shaped.next() }
        return entry
    }

    private func attribute(_ random: inout SplitMix) -> Entry.Attribute {
        Entry.Attribute(name: Array("user.x".utf8), value: random.bytes(random.below(90)))
    }

    // MARK: Files

    private func send() -> Frame? {
        if random.once(in: 60) { return Frame(AgentMessage.attributes(of: .file, [attribute(&random)])) }
        let wish = wishes[firstWish]
        let left = wish.entry.size > wish.position ? wish.entry.size - wish.position : 0
        isSending = true
        if random.once(in: 400) {
            wishes[firstWish].position = 0
            return Frame(AgentMessage.again)
        }
        if left > 0 && !random.once(in: 500) {
            let count = Int(min(left, UInt64(random.once(in: 20) ? 1 + random.below(300) : 512 << 10)))
            wishes[firstWish].position += UInt64(count)
            // Few distinct bytes: what is tested is not the storing.
            return Frame(
                6,
                [UInt8](repeating: UInt8(truncatingIfNeeded: wish.entry.inode >> 8), count: count)
            )
        }
        isSending = false
        firstWish += 1
        var end = FileEnd(status: left > 0 ? random.pick([.changing, .vanished, .unreadable]) : .stable)
        if random.once(in: 100) { end.status = random.pick([.stable, .changing, .vanished, .unreadable]) }
        end.errno = 5
        (end.size, end.mtime, end.ctime, end.inode) = (
            wish.entry.size, wish.entry.mtime, wish.entry.ctime, wish.entry.inode
        )
        return Frame(AgentMessage.fileEnd(end))
    }
}
