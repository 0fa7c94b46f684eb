import Glibc
import Posix
package import Repository
import Wire

/// What was stored since the last checkpoint, written down as it comes, so that a killed coordinator costs the next
/// run little more than the pack that was open. Checkpoints close packs and write index files, which would make very many of them; this costs
/// one write(2) for each 8 MiB. It is not synced: a power cut costs some of it, which is then sent again.
///
/// It lies in the repository's `holdfast/interrupted.log`: 4 bytes of length and a sealed batch of records, again
/// and again. What of it the repository does not hold (a pack that was not whole) is left out by who reads it.
package final class CaptureJournal {
    package static let fileName = "interrupted.log"

    /// A file as it was when it had been read.
    struct Key: Hashable {
        /// Stands for the path of its folder.
        let folder: UInt64
        let name: [UInt8]
        let size: UInt64
        let mtime: Int64
        let ctime: Int64
        let inode: UInt64
    }

    private static let most = 256 << 20
    private static let purpose = Array("holdfast journal 1\n".utf8)

    /// Of earlier runs, and not met yet by this one.
    private var known: [Key: [BlobID]] = [:]
    /// The file that an earlier run was receiving last.
    package private(set) var partial: Checkpoint.PartialFile?

    private let file: FileDescriptor
    private let sealer: Sealer
    private var batch = ByteWriter()
    /// The file that is being received, as far as it was written down.
    private var begun: (path: [[UInt8]], chunks: Int)?

    /// Opens the host's journal and reads what earlier runs left. One that can't be read costs time, not safety.
    package init(_ repository: Repository) throws {
        sealer = try Sealer(repository.master)
        file = try FileDescriptor(
            open: repository.sidePath(Self.fileName),
            O_RDWR | O_CREAT | O_APPEND,
            mode: 0o600
        )
        let bytes = (try? file.readToEnd(limit: Self.most)) ?? []
        // Behind what can't be read nothing could be found again.
        try truncate(to: load(bytes))
    }

    /// Every blob that the host's journal names, as far as it can be read; nothing is written.
    static func blobs(in repository: Repository) -> [BlobID] {
        guard let journal = try? CaptureJournal(reading: repository) else { return [] }
        return journal.known.values.flatMap { $0 } + (journal.partial?.content ?? [])
    }

    private init(reading repository: Repository) throws {
        sealer = try Sealer(repository.master)
        file = try FileDescriptor(open: repository.sidePath(Self.fileName), O_RDONLY)
        _ = load(try file.readToEnd(limit: Self.most))
    }

    /// Reads batches; gives the end of the last good one.
    private func load(_ bytes: [UInt8]) -> Int {
        var end = 0
        while bytes.count - end >= 4 {
            let length = bytes[end..<end + 4].reversed().reduce(0) { $0 << 8 | Int($1) }
            guard length <= bytes.count - end - 4,
                let plain = try? sealer.open(Array(bytes[end + 4..<end + 4 + length])),
                plain.starts(with: Self.purpose),
                (try? plain.withUnsafeBytes {
                    try read(UnsafeRawBufferPointer(rebasing: $0[Self.purpose.count...]))
                })
                    != nil
            else { return end }
            end += 4 + length
        }
        return end
    }

    private func truncate(to length: Int) throws {
        _ = try retryingOnInterrupt("ftruncate") { ftruncate(file.raw, length) }
    }

    // MARK: Reading

    private func read(_ records: UnsafeRawBufferPointer) throws {
        var reader = ByteReader(records)
        while !reader.isAtEnd {
            if try reader.number(UInt8.self) == 0 {
                let key = Key(
                    folder: try reader.number(),
                    name: try reader.short(),
                    size: try reader.number(),
                    mtime: try reader.number(),
                    ctime: try reader.number(),
                    inode: try reader.number()
                )
                known[key] = try blobs(&reader)
                partial = nil
            } else {
                try readPart(&reader)
            }
        }
    }

    private func readPart(_ reader: inout ByteReader) throws {
        let first = try reader.number(UInt32.self)
        if first == 0 {
            var path: [[UInt8]] = []
            for _ in 0..<(try reader.number(UInt16.self)) { path.append(try reader.short()) }
            partial = Checkpoint.PartialFile(
                path: path,
                size: try reader.number(),
                mtime: try reader.number(),
                ctime: try reader.number(),
                inode: try reader.number(),
                content: []
            )
        }
        let more = try blobs(&reader)
        guard let count = partial?.content.count, count == Int(first) else { return partial = nil }
        partial?.content += more
    }

    private func blobs(_ reader: inout ByteReader) throws -> [BlobID] {
        let count = Int(try reader.number(UInt32.self))
        var result: [BlobID] = []
        for _ in 0..<count {
            guard let id = BlobID(bytes: try reader.take(BlobID.byteCount)) else { break }
            result.append(id)
        }
        return result
    }

    /// What an earlier run stored of this file; it is given once.
    func take(_ key: Key) -> [BlobID]? { known.isEmpty ? nil : known.removeValue(forKey: key) }

    // MARK: Writing

    /// Notes a file that is stored whole.
    func add(_ key: Key, _ content: [BlobID]) {
        batch.number(UInt8(0))
        batch.number(key.folder)
        batch.short(key.name)
        batch.number(key.size)
        batch.number(key.mtime)
        batch.number(key.ctime)
        batch.number(key.inode)
        add(content[...])
        begun = nil
    }

    private func add(_ blobs: ArraySlice<BlobID>) {
        batch.number(UInt32(blobs.count))
        for id in blobs { batch.append(id.bytes) }
    }

    private func add(_ part: Checkpoint.PartialFile) {
        var first = 0
        if let begun, begun.path == part.path, begun.chunks <= part.content.count { first = begun.chunks }
        guard first < part.content.count else { return }
        batch.number(UInt8(1))
        batch.number(UInt32(first))
        if first == 0 {
            batch.number(UInt16(part.path.count))
            for name in part.path { batch.short(name) }
            batch.number(part.size)
            batch.number(part.mtime)
            batch.number(part.ctime)
            batch.number(part.inode)
        }
        add(part.content[first...])
        begun = (part.path, part.content.count)
    }

    /// Writes what was noted, with the file that is being received.
    func write(_ current: Checkpoint.PartialFile?) throws {
        if let current { add(current) }
        guard !batch.bytes.isEmpty else { return }
        let sealed = try sealer.seal(Self.purpose + batch.bytes)
        var length = ByteWriter()
        length.number(UInt32(sealed.count))
        try file.writeAll(length.bytes + sealed)
        batch.removeAll()
    }

    /// Bytes that wait to be written.
    var pending: Int { batch.bytes.count }

    /// Forgets what a checkpoint has taken over; what earlier runs left and this one has not come to yet stays.
    func restart() throws {
        batch.removeAll()
        begun = nil
        try truncate(to: 0)
        let rest = known
        for (key, content) in rest {
            add(key, content)
            if pending > 1 << 20 { try write(nil) }
        }
        try write(nil)
    }
}
