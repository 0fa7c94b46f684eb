import Glibc
import Posix
import Wire

/// The folder that a restore fills, and the marker in it that says of what: by it a later try knows that what it finds
/// was put there by the same restore, and may replace what is not right.
final class RestoreTarget {
    static let marker = Array(".holdfast-restore".utf8)
    private static let headline = "A restore that is not finished: the same command goes on with it.\n"

    let path: String
    let folder: FileDescriptor
    /// An earlier try was here.
    let isResumed: Bool
    /// How the names of files begin that are not whole yet. A random part, so that nobody can put such a name into a
    /// snapshot.
    let temporaryPrefix: [UInt8]
    /// Locked while this restore runs.
    private let markerFile: FileDescriptor

    /// Makes the folder if it is missing and marks it. Of what it may hold besides what an earlier try left, there is
    /// only a new file system's `lost+found`.
    ///
    /// - Throws: `RestoreError`, `SystemCallError`.
    init(_ path: String, of what: Restoring) throws {
        do { try Files.makeDirectories(path) } catch {
            if error.code == ENOTDIR { throw RestoreError.targetNotAFolder(path: path) }
            throw error
        }
        self.path = path
        folder = try FileDescriptor(open: path, O_RDONLY | O_DIRECTORY)
        let names = try Directory.names(path).filter { $0 != Array("lost+found".utf8) }
        let identity = Self.identity(what)
        isResumed = names.contains(Self.marker)
        if isResumed {
            markerFile = try FileDescriptor(at: folder, Self.marker, O_RDWR | O_NOFOLLOW)
            try Self.lock(markerFile, path)
            let text = try markerFile.readToEnd(limit: 16 << 20)
            guard let prefix = Self.prefix(in: text, of: identity) else {
                throw RestoreError.targetOfAnother(path: path)
            }
            temporaryPrefix = prefix
        } else {
            if let found = names.first { throw RestoreError.targetNotEmpty(path: path, found: found) }
            let free = try Files.space(path).free
            if what.space > free {
                throw RestoreError.notEnoughSpace(path: path, needed: what.space, free: free)
            }
            temporaryPrefix = Array(".holdfast-\(randomHex(8))-".utf8)
            markerFile = try FileDescriptor(at: folder, Self.marker, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW)
            try Self.lock(markerFile, path)
            try markerFile.writeAll(Array(Self.headline.utf8) + identity + temporaryPrefix + [0x0A])
            try markerFile.sync()
        }
    }

    /// The lines that must be the same for a restore to go on.
    private static func identity(_ what: Restoring) -> [UInt8] {
        let lines =
            ["host \(escaped(Array(what.host.utf8)))", "snapshot \(escaped(Array(what.snapshot.utf8)))"]
            + Set(what.includes.map(hex)).sorted().map { "include \($0)" } + ["temporary "]
        return Array(lines.joined(separator: "\n").utf8)
    }

    private static func prefix(in text: [UInt8], of identity: [UInt8]) -> [UInt8]? {
        let start = Array(headline.utf8) + identity
        guard text.starts(with: start), text.last == 0x0A else { return nil }
        let prefix = Array(text[start.count...].dropLast())
        let begin = Array(".holdfast-".utf8)
        guard prefix.count == begin.count + 17, prefix.starts(with: begin), prefix.last == 0x2D,
            prefix[begin.count..<prefix.count - 1].allSatisfy({
                (0x30...0x39).contains($0) || (0x61...0x66).contains($0)
            })
        else { return nil }
        return prefix
    }

    private static func lock(_ file: borrowing FileDescriptor, _ path: String) throws {
        let raw = file.raw
        do throws(SystemCallError) {
            _ = try retryingOnInterrupt("flock") { flock(raw, LOCK_EX | LOCK_NB) }
        } catch {
            if error.code == EWOULDBLOCK { throw RestoreError.targetInUse(path: path) }
            // A file system without locks: then nobody is warned.
        }
    }

    /// Everything is there: what is left is the restored tree alone, also after a power cut.
    func finish(isWhole: Bool) throws(SystemCallError) {
        try Files.syncFileSystem(of: folder)
        // What is missing can be tried for again.
        guard isWhole else { return }
        try Files.remove(Self.marker, in: folder)
        try folder.sync()
    }
}

extension Files {
    /// Removes the entry `name` that is no directory; one that is not there is no error.
    static func remove(_ name: [UInt8], in folder: borrowing FileDescriptor) throws(SystemCallError) {
        let raw = folder.raw
        let code = withCName(name) { unlinkat(raw, $0, 0) == 0 ? 0 : errno }
        if code != 0 && code != ENOENT { throw SystemCallError("unlinkat", errno: code, escaped(name)) }
    }

    /// Gives `from` the name `to` in the same folder; what had that name and is no directory is gone.
    static func renameReplacing(in folder: borrowing FileDescriptor, _ from: [UInt8], to: [UInt8])
        throws(SystemCallError)
    {
        let raw = folder.raw
        _ = try retryingOnInterrupt("renameat", escaped(to)) {
            withCName(from) { from in withCName(to) { renameat(raw, from, raw, $0) } }
        }
    }
}
