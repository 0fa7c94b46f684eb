package import Digest

/// Limits of a restore that both sides keep.
package enum RestoreLimit {
    /// Entries listed and not yet answered, and files wanted and not yet sent, together.
    package static let ahead = 4096
    /// Entries of one `items` frame.
    package static let entries = 256
    /// Parts of one frame.
    package static let partsPerFrame = 4096
    /// Parts of all files that are listed and not yet sent: 128 GiB of a dump, 8 TiB and more of others.
    package static let parts = 1 << 21
    /// Folders below each other: as many as a path of 4096 bytes can have.
    package static let depth = 2048
}

/// A part of a file's content.
package struct Part: Equatable, Sendable {
    /// Bytes; 0 for a part of unknown length, which only the last of a file may be and which never comes.
    package var length: UInt32
    package var hash: SHA256Digest

    package init(length: UInt32, hash: SHA256Digest) {
        self.length = length
        self.hash = hash
    }

    static let bytes = 4 + SHA256Digest.byteCount

    func encode(to writer: inout ByteWriter) {
        writer.number(length)
        writer.raw(hash.bytes)
    }

    init(from reader: inout ByteReader) throws(WireError) {
        length = try reader.number()
        guard let hash = SHA256Digest(bytes: try reader.take(SHA256Digest.byteCount)) else {
            throw .malformed("a hash that is none")
        }
        self.hash = hash
    }
}

/// An entry of a folder that is to be restored, with the parts of its content when it is a file.
package struct Item: Equatable, Sendable {
    package var entry: Entry
    /// The first of them; the others follow in `parts` frames when `partCount` is greater.
    package var parts: [Part]
    package var partCount: Int

    package init(entry: Entry, parts: [Part], partCount: Int? = nil) {
        self.entry = entry
        self.parts = parts
        self.partCount = partCount ?? parts.count
    }

    func encode(to writer: inout ByteWriter) {
        entry.encode(to: &writer)
        guard entry.kind == .file else { return }
        writer.number(UInt32(partCount))
        writer.number(UInt16(parts.count))
        for part in parts { part.encode(to: &writer) }
    }

    init(from reader: inout ByteReader) throws(WireError) {
        entry = try Entry(from: &reader)
        guard entry.kind == .file else {
            parts = []
            partCount = 0
            return
        }
        partCount = Int(try reader.number(UInt32.self))
        let count = Int(try reader.number(UInt16.self))
        guard count <= partCount, partCount <= RestoreLimit.parts else {
            throw .malformed("a file of too many parts")
        }
        parts = try Part.read(count, &reader)
    }
}

extension Part {
    static func read(_ count: Int, _ reader: inout ByteReader) throws(WireError) -> [Part] {
        guard count <= RestoreLimit.partsPerFrame else { throw .malformed("too many parts in one frame") }
        var parts: [Part] = []
        parts.reserveCapacity(count)
        for _ in 0..<count { parts.append(try Part(from: &reader)) }
        return parts
    }
}

/// What is about to be restored.
package struct Restoring: Equatable, Sendable {
    package var host: String
    /// The snapshot's id.
    package var snapshot: String
    /// Nanoseconds since 1970-01-01T00:00:00Z: of what time its data are.
    package var time: Int64
    /// Paths in the snapshot that are asked for; none: everything.
    package var includes: [[UInt8]]
    package var files: UInt64
    /// Of file content; a file with several names once.
    package var bytes: UInt64
    /// Bytes that it takes on a disk, about.
    package var space: UInt64

    package init(
        host: String,
        snapshot: String,
        time: Int64,
        includes: [[UInt8]],
        files: UInt64,
        bytes: UInt64,
        space: UInt64
    ) {
        self.host = host
        self.snapshot = snapshot
        self.time = time
        self.includes = includes
        self.files = files
        self.bytes = bytes
        self.space = space
    }
}

/// A frame of a restore from the side that shall have the files.
package enum RestoreRequest: Equatable, Sendable {
    case restore(version: UInt16, token: String)
    case fetch([Wanted])

    package static let restoreType: UInt8 = 32

    package var type: UInt8 {
        switch self {
        case .restore: Self.restoreType
        case .fetch: 33
        }
    }

    package func encode(to writer: inout ByteWriter) {
        switch self {
        case .restore(let version, let token):
            writer.number(version)
            writer.text(token)
        case .fetch(let files): Wanted.encode(files, to: &writer)
        }
    }

    package init(type: UInt8, body: UnsafeRawBufferPointer) throws(WireError) {
        var reader = ByteReader(body)
        switch type {
        case 32: self = .restore(version: try reader.number(), token: try reader.text())
        case 33: self = .fetch(try Wanted.read(&reader, bytes: body.count))
        default: throw .malformed("unknown type \(type)")
        }
        try reader.end()
    }
}

/// A frame of a restore from the side that has the snapshot. `data` is not among them: its bytes are handed on without
/// a copy.
package enum RestoreReply: Equatable, Sendable {
    case restoring(Restoring)
    case items([Item], last: Bool)
    /// Further parts of the last entry of the `items` before.
    case parts([Part])
    /// The next part of the file that is being sent cannot be had, and why.
    case damaged(reason: String)
    case problem(path: [UInt8], Trouble, message: String)
    case done

    /// What a `problem` is.
    package enum Trouble: UInt8, Sendable, CaseIterable {
        /// Something of the snapshot cannot be restored.
        case lost = 0
        /// It is left out because it would mean nothing: a socket.
        case leftOut = 1
    }

    package static let dataType: UInt8 = 99
    package static let types: ClosedRange<UInt8> = 96...102

    package var type: UInt8 {
        switch self {
        case .restoring: 96
        case .items: 97
        case .parts: 98
        case .damaged: 100
        case .problem: 101
        case .done: 102
        }
    }

    package func encode(to writer: inout ByteWriter) {
        switch self {
        case .restoring(let what):
            writer.text(what.host)
            writer.text(what.snapshot)
            writer.number(what.time)
            writer.number(UInt16(what.includes.count))
            for path in what.includes { writer.long(path) }
            writer.number(what.files)
            writer.number(what.bytes)
            writer.number(what.space)
        case .items(let items, let last):
            writer.number(UInt8(last ? 1 : 0))
            writer.number(UInt16(items.count))
            for item in items { item.encode(to: &writer) }
        case .parts(let parts):
            writer.number(UInt16(parts.count))
            for part in parts { part.encode(to: &writer) }
        case .damaged(let reason): writer.text(reason)
        case .problem(let path, let trouble, let message):
            writer.long(path)
            writer.number(trouble.rawValue)
            writer.text(message)
        case .done: break
        }
    }

    package init(type: UInt8, body: UnsafeRawBufferPointer) throws(WireError) {
        var reader = ByteReader(body)
        switch type {
        case 96:
            let (host, snapshot) = (try reader.text(), try reader.text())
            let time = try reader.number(Int64.self)
            var includes: [[UInt8]] = []
            for _ in 0..<(try reader.number(UInt16.self)) { includes.append(try reader.long()) }
            self = .restoring(
                Restoring(
                    host: host,
                    snapshot: snapshot,
                    time: time,
                    includes: includes,
                    files: try reader.number(),
                    bytes: try reader.number(),
                    space: try reader.number()
                )
            )
        case 97:
            let last = try reader.number(UInt8.self)
            guard last <= 1 else { throw .malformed("a flag that is neither 0 nor 1") }
            let count = Int(try reader.number(UInt16.self))
            guard count <= RestoreLimit.entries else { throw .malformed("too many entries in one frame") }
            var items: [Item] = []
            for index in 0..<count {
                let item = try Item(from: &reader)
                guard index == count - 1 || item.partCount == item.parts.count else {
                    throw .malformed("parts that are missing in the middle of a list")
                }
                items.append(item)
            }
            self = .items(items, last: last == 1)
        case 98: self = .parts(try Part.read(Int(try reader.number(UInt16.self)), &reader))
        case 100: self = .damaged(reason: try reader.text())
        case 101:
            let path = try reader.long()
            guard let trouble = Trouble(rawValue: try reader.number()) else {
                throw .malformed("unknown kind of problem")
            }
            self = .problem(path: path, trouble, message: try reader.text())
        case 102: self = .done
        default: throw .malformed("unknown type \(type)")
        }
        try reader.end()
    }
}

extension FrameStream {
    package func send(_ message: RestoreRequest) throws {
        try send(type: message.type) { message.encode(to: &$0) }
    }
    package func send(_ message: RestoreReply) throws {
        try send(type: message.type) { message.encode(to: &$0) }
    }
}
