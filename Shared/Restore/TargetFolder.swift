import Glibc
import Posix
import Repository

/// A directory of the target that is open while something in it is still to be done.
final class OpenFolder: Sendable {
    let descriptor: FileDescriptor
    init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
}

/// A directory of the snapshot as it has to look in the end. Set last, the deepest first, because everything
/// that is done inside a directory changes its time and may need rights that its final mode does not give.
struct FolderRecord {
    /// Number of the record of the directory above; nil for those in the target itself.
    let parent: Int?
    /// Directories above it below the target.
    let depth: Int
    let name: [UInt8]
    let metadata: Metadata
}

extension FileDescriptor {
    /// Opens a directory below this one that must not be a symbolic link.
    func openFolder(_ name: [UInt8]) throws(SystemCallError) -> FileDescriptor {
        try FileDescriptor(at: self, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    }
}

enum TargetFolder {
    /// Makes the folder if it is missing and opens it. It must hold nothing (a new file system's `lost+found`
    /// does not count).
    static func open(_ path: String) throws -> FileDescriptor {
        do { try Files.makeDirectories(path) } catch {
            if error.code == ENOTDIR { throw RestoreError.targetNotAFolder(path: path) }
            throw error
        }
        for name in try Directory.names(path) where name != Array("lost+found".utf8) {
            throw RestoreError.targetNotEmpty(path: path, found: name)
        }
        return try FileDescriptor(open: path, O_RDONLY | O_DIRECTORY)
    }
}

/// Opens directories that were made before, each step one name down from the target's own descriptor, and keeps
/// the way to the last one open, because the next one is mostly near it.
final class ReopenedFolders {
    private let target: OpenFolder
    private let records: [FolderRecord]
    private var way: [(record: Int, folder: OpenFolder)] = []

    init(_ target: OpenFolder, _ records: [FolderRecord]) {
        self.target = target
        self.records = records
    }

    /// - Parameter number: Of a record; nil is the target.
    func open(_ number: Int?) throws(SystemCallError) -> OpenFolder {
        var missing: [Int] = []
        var next = number
        while let number = next {
            let depth = records[number].depth
            if depth < way.count, way[depth].record == number { break }
            missing.append(number)
            next = records[number].parent
        }
        way.removeLast(way.count - (next.map { records[$0].depth + 1 } ?? 0))
        for number in missing.reversed() {
            let above = way.last?.folder ?? target
            way.append((number, OpenFolder(try above.descriptor.openFolder(records[number].name))))
        }
        return way.last?.folder ?? target
    }
}
