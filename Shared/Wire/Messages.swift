/// The version both sides must speak.
package let protocolVersion: UInt16 = 3

/// Limits of protocol.md that both sides keep.
package enum WireLimit {
    /// Bytes of one frame's body.
    package static let body = 1 << 20
    /// Entries listed but not yet answered.
    package static let unanswered = 8192
    /// Files wanted but not yet sent.
    package static let unsent = 8192
    package static let entriesPerFolder = 2_000_000
    package static let depth = 1000
    /// Of one fleet.
    package static let coordinators = 16
}

/// What is captured of an Immich host's folders.
package enum Scope: UInt8, Sendable, CaseIterable {
    /// What Immich can't make again: upload, library, profile, motion videos, and the markers of all folders.
    case originals = 0
    /// All six folders whole.
    case everything = 1

    package var name: String { self == .originals ? "originals" : "everything" }
    package init?(name: String) {
        guard let scope = Scope.allCases.first(where: { $0.name == name }) else { return nil }
        self = scope
    }
}

/// What a capture takes. Snapshots carry it as their tag `kind:full` or `kind:database`.
package enum CaptureKind: UInt8, Sendable, CaseIterable {
    /// The dump and the folders.
    case full = 0
    /// The dump alone: never offered where a library is wanted.
    case database = 1

    package var name: String { self == .full ? "full" : "database" }
    package init?(name: String) {
        guard let kind = CaptureKind.allCases.first(where: { $0.name == name }) else { return nil }
        self = kind
    }
}

extension CaptureKind {
    fileprivate init(from reader: inout ByteReader) throws(WireError) {
        guard let kind = CaptureKind(rawValue: try reader.number()) else {
            throw .malformed("unknown kind of capture")
        }
        self = kind
    }
}

/// Which of PostgreSQL's programs made a dump, and so what it holds.
package enum DumpKind: UInt8, Sendable {
    /// `pg_dump`: one database.
    case database = 0
    /// `pg_dumpall`: every database and role.
    case cluster = 1
}

/// How the sending of one file ended.
package struct FileEnd: Equatable, Sendable {
    package enum Status: UInt8, Sendable {
        /// Size and times were the same before and after it was read.
        case stable = 0
        /// It kept changing; what was sent is how it was read last.
        case changing = 1
        /// It was gone when it was to be read.
        case vanished = 2
        /// It could not be read; `errno` says why.
        case unreadable = 3
    }
    package var status: Status
    package var errno: Int32 = 0
    /// What the file system said after the last read; bytes and nanoseconds since 1970-01-01T00:00:00Z.
    package var size: UInt64 = 0
    package var mtime: Int64 = 0
    package var ctime: Int64 = 0
    package var inode: UInt64 = 0

    package init(status: Status) { self.status = status }
}

/// A frame from the agent. `data` is not among them: its bytes are handed on without a copy.
package enum AgentMessage: Equatable, Sendable {
    case join(version: UInt16, token: String)
    case hello(version: UInt16, program: String)
    case wait
    case request(CaptureKind)
    case dump(name: String, kind: DumpKind, immichVersion: String, postgresVersion: String)
    case dumpEnd
    case list(entries: [Entry], last: Bool)
    case again
    case fileEnd(FileEnd)
    case expect(files: UInt64, bytes: UInt64)
    case folderFailed(errno: Int32)
    case commit
    case failed(message: String)
    case skipped(path: [UInt8], reason: String)
    case attributes(of: Owner, [Entry.Attribute])
    /// The time on the agent's machine, nanoseconds since 1970-01-01T00:00:00Z.
    case clock(Int64)

    /// Whose extended attributes a message is about.
    package enum Owner: UInt8, Sendable {
        /// The folder whose list comes next.
        case folder = 0
        /// The file whose `fileEnd` comes next.
        case file = 1
    }

    package static let dataType: UInt8 = 6

    package var type: UInt8 {
        switch self {
        case .join: 1
        case .hello: 2
        case .wait: 3
        case .request: 4
        case .dump: 5
        case .dumpEnd: 7
        case .list: 8
        case .again: 9
        case .fileEnd: 10
        case .expect: 11
        case .folderFailed: 12
        case .commit: 13
        case .failed: 14
        case .skipped: 15
        case .attributes: 16
        case .clock: 17
        }
    }

    package func encode(to writer: inout ByteWriter) {
        switch self {
        case .join(let version, let token):
            writer.number(version)
            writer.text(token)
        case .hello(let version, let program):
            writer.number(version)
            writer.text(program)
        case .wait, .dumpEnd, .again, .commit: break
        case .request(let kind): writer.number(kind.rawValue)
        case .dump(let name, let kind, let immichVersion, let postgresVersion):
            writer.text(name)
            writer.number(kind.rawValue)
            writer.text(immichVersion)
            writer.text(postgresVersion)
        case .list(let entries, let last):
            writer.number(UInt8(last ? 1 : 0))
            writer.number(UInt32(entries.count))
            for entry in entries { entry.encode(to: &writer) }
        case .fileEnd(let end):
            writer.number(end.status.rawValue)
            writer.number(UInt32(bitPattern: end.errno))
            writer.number(end.size)
            writer.number(end.mtime)
            writer.number(end.ctime)
            writer.number(end.inode)
        case .expect(let files, let bytes):
            writer.number(files)
            writer.number(bytes)
        case .folderFailed(let code): writer.number(UInt32(bitPattern: code))
        case .failed(let message): writer.text(message)
        case .skipped(let path, let reason):
            writer.long(path)
            writer.text(reason)
        case .attributes(let owner, let attributes):
            writer.number(owner.rawValue)
            Entry.Attribute.encode(attributes, to: &writer)
        case .clock(let time): writer.number(time)
        }
    }

    package init(type: UInt8, body: UnsafeRawBufferPointer) throws(WireError) {
        var reader = ByteReader(body)
        switch type {
        case 1: self = .join(version: try reader.number(), token: try reader.text())
        case 2: self = .hello(version: try reader.number(), program: try reader.text())
        case 3: self = .wait
        case 4: self = .request(try CaptureKind(from: &reader))
        case 5:
            let name = try reader.text()
            guard let kind = DumpKind(rawValue: try reader.number()) else {
                throw .malformed("unknown kind of dump")
            }
            self = .dump(
                name: name,
                kind: kind,
                immichVersion: try reader.text(),
                postgresVersion: try reader.text()
            )
        case 7: self = .dumpEnd
        case 8:
            let last = try reader.number(UInt8.self)
            guard last <= 1 else { throw .malformed("a flag that is neither 0 nor 1") }
            let count = Int(try reader.number(UInt32.self))
            var entries: [Entry] = []
            // So that a small body can't reserve much memory.
            guard count <= body.count / Entry.minimumBytes else {
                throw .malformed("more entries than the body can hold")
            }
            entries.reserveCapacity(count)
            for _ in 0..<count { entries.append(try Entry(from: &reader)) }
            self = .list(entries: entries, last: last == 1)
        case 9: self = .again
        case 10:
            guard let status = FileEnd.Status(rawValue: try reader.number()) else {
                throw .malformed("unknown end of a file")
            }
            var end = FileEnd(status: status)
            end.errno = Int32(bitPattern: try reader.number(UInt32.self))
            end.size = try reader.number()
            end.mtime = try reader.number()
            end.ctime = try reader.number()
            end.inode = try reader.number()
            self = .fileEnd(end)
        case 11: self = .expect(files: try reader.number(), bytes: try reader.number())
        case 12: self = .folderFailed(errno: Int32(bitPattern: try reader.number(UInt32.self)))
        case 13: self = .commit
        case 14: self = .failed(message: try reader.text())
        case 15: self = .skipped(path: try reader.long(), reason: try reader.text())
        case 16:
            guard let owner = Owner(rawValue: try reader.number()) else {
                throw .malformed("attributes of nobody")
            }
            self = .attributes(of: owner, try Entry.Attribute.list(from: &reader))
        case 17: self = .clock(try reader.number())
        default: throw .malformed("unknown type \(type)")
        }
        try reader.end()
    }
}

/// A file to send: its place in the answered list, and the byte to start at.
package struct Wanted: Equatable, Sendable {
    package var index: UInt32
    package var offset: UInt64
    package init(index: UInt32, offset: UInt64) {
        self.index = index
        self.offset = offset
    }

    static func encode(_ files: [Wanted], to writer: inout ByteWriter) {
        writer.number(UInt32(files.count))
        for file in files {
            writer.number(file.index)
            writer.number(file.offset)
        }
    }

    /// - Parameter bytes: Of the whole body.
    static func read(_ reader: inout ByteReader, bytes: Int) throws(WireError) -> [Wanted] {
        let count = Int(try reader.number(UInt32.self))
        guard count <= bytes / 12 else { throw .malformed("more files than the body can hold") }
        var files: [Wanted] = []
        files.reserveCapacity(count)
        for _ in 0..<count { files.append(Wanted(index: try reader.number(), offset: try reader.number())) }
        return files
    }
}

/// Where a coordinator of the fleet is, and the host key that it shows.
package struct CoordinatorPlace: Equatable, Hashable, Sendable {
    /// `nas.lan:2222`; not checked by the wire.
    package var address: String
    /// `SHA256:…`; not checked by the wire.
    package var hostKey: String

    package init(address: String, hostKey: String) {
        self.address = address
        self.hostKey = hostKey
    }

    static func encode(_ places: [CoordinatorPlace], to writer: inout ByteWriter) {
        let places = places.prefix(WireLimit.coordinators)
        writer.number(UInt8(places.count))
        for place in places {
            writer.text(place.address)
            writer.text(place.hostKey)
        }
    }

    static func read(_ reader: inout ByteReader) throws(WireError) -> [CoordinatorPlace] {
        let count = Int(try reader.number(UInt8.self))
        guard count <= WireLimit.coordinators else { throw .malformed("too many coordinators") }
        var places: [CoordinatorPlace] = []
        for _ in 0..<count {
            places.append(CoordinatorPlace(address: try reader.text(), hostKey: try reader.text()))
        }
        return places
    }
}

/// A frame from the coordinator.
package enum CoordinatorMessage: Equatable, Sendable {
    case joined(host: String)
    case welcome(version: UInt16, host: String)
    case capture(run: String, kind: CaptureKind, scope: Scope, count: Bool)
    case busy(message: String)
    case want([Wanted])
    case committed(snapshot: String)
    case abort(message: String)
    case refused(message: String)
    /// All that the agent may go to.
    case coordinators([CoordinatorPlace])

    package var type: UInt8 {
        switch self {
        case .joined: 65
        case .welcome: 66
        case .capture: 67
        case .busy: 68
        case .want: 69
        case .committed: 70
        case .abort: 71
        case .refused: 72
        case .coordinators: 73
        }
    }

    package func encode(to writer: inout ByteWriter) {
        switch self {
        case .joined(let host): writer.text(host)
        case .welcome(let version, let host):
            writer.number(version)
            writer.text(host)
        case .capture(let run, let kind, let scope, let count):
            writer.text(run)
            writer.number(kind.rawValue)
            writer.number(scope.rawValue)
            writer.number(UInt8(count ? 1 : 0))
        case .want(let files): Wanted.encode(files, to: &writer)
        case .committed(let snapshot): writer.text(snapshot)
        case .busy(let message), .abort(let message), .refused(let message): writer.text(message)
        case .coordinators(let places): CoordinatorPlace.encode(places, to: &writer)
        }
    }

    package init(type: UInt8, body: UnsafeRawBufferPointer) throws(WireError) {
        var reader = ByteReader(body)
        switch type {
        case 65: self = .joined(host: try reader.text())
        case 66: self = .welcome(version: try reader.number(), host: try reader.text())
        case 67:
            let run = try reader.text()
            let kind = try CaptureKind(from: &reader)
            guard let scope = Scope(rawValue: try reader.number()) else { throw .malformed("unknown scope") }
            let count = try reader.number(UInt8.self)
            guard count <= 1 else { throw .malformed("a flag that is neither 0 nor 1") }
            self = .capture(run: run, kind: kind, scope: scope, count: count == 1)
        case 68: self = .busy(message: try reader.text())
        case 69: self = .want(try Wanted.read(&reader, bytes: body.count))
        case 70: self = .committed(snapshot: try reader.text())
        case 71: self = .abort(message: try reader.text())
        case 72: self = .refused(message: try reader.text())
        case 73: self = .coordinators(try CoordinatorPlace.read(&reader))
        default: throw .malformed("unknown type \(type)")
        }
        try reader.end()
    }
}
