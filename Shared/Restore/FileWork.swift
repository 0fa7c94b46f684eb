import Posix
import Wire

/// What the names of one file have in common; nil for a file with one name.
struct LinkKey: Hashable {
    let inode: UInt64
    let device: UInt64

    init?(_ entry: Entry) {
        guard entry.kind == .file, entry.links > 1, entry.inode != 0 else { return nil }
        inode = entry.inode
        device = entry.device
    }
}

/// A file that another name may turn out to be one with.
final class FirstName: @unchecked Sendable {
    // `isWhole` is the thread's that finishes all names of the file, or set before it hears of them; all else is fixed or
    // the receiver's.
    let folder: [[UInt8]]
    let name: [UInt8]
    let parts: [Part]
    /// Names that are still to come.
    var awaited: UInt32
    var isWhole = false
    /// Of `RestoreThreads`.
    var lane: Int?

    init(_ item: Item, in folder: RestoreFolder) {
        self.folder = folder.names
        name = item.entry.name
        parts = item.parts
        awaited = item.entry.links - 1
    }
}

/// An open file that one thread hands to the other.
final class OpenFile: Sendable {
    let descriptor: FileDescriptor
    init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
}

/// A file on its way into the target. One thread at a time has it: first the receiver's, which writes it unless it is
/// small, then one of `RestoreThreads`.
final class FileWork: @unchecked Sendable {
    let entry: Entry
    let parts: [Part]
    let folder: RestoreFolder
    /// What it is called until it is whole.
    let temporary: [UInt8]
    let first: FirstName?
    /// Something that an earlier try left has its name and goes when this is whole.
    var replaces = false
    /// Bytes that an earlier try left under the temporary name, compared with their hashes.
    var kept: UInt64 = 0
    var damages: [RestoreProblem.DamagedPart] = []

    /// All bytes of a small file, which is not written yet.
    var content: [UInt8] = []
    var file: OpenFile?
    /// Where the last byte was written; behind it there may be a hole.
    var writtenEnd: UInt64 = 0
    var failure: String?

    init(_ item: Item, in folder: RestoreFolder, temporary: [UInt8], first: FirstName?) {
        entry = item.entry
        parts = item.parts
        self.folder = folder
        self.temporary = temporary
        self.first = first
    }

    var path: [UInt8] { folder.path(of: entry.name) }

    /// Best effort.
    func removeTemporary() { try? Files.remove(temporary, in: folder.descriptor) }
}

/// A further name of a file.
struct LinkWork: Sendable {
    let name: [UInt8]
    let folder: RestoreFolder
    let first: FirstName
    let temporary: [UInt8]
}
