import Glibc
import Posix
import Synchronization

/// A directory of the target, open as long as something in it is still to be done. Its metadata is set then, after that
/// of all below it, because everything that is done inside a directory changes its time and may need rights that its
/// final mode does not give.
final class RestoreFolder: Sendable {
    let descriptor: FileDescriptor
    let name: [UInt8]
    let parent: RestoreFolder?
    /// This restore made it, so whatever is in it is new.
    let isFresh: Bool
    /// What it shall look like in the end; nil for the target itself.
    private let metadata: Metadata?
    /// The listing of it, folders in it, and files on their way into it.
    private let pending = Atomic<Int>(1)

    /// The target.
    init(_ target: borrowing FileDescriptor, isFresh: Bool) throws(SystemCallError) {
        descriptor = try target.duplicate()
        name = []
        parent = nil
        self.isFresh = isFresh
        metadata = nil
    }

    /// Makes the directory `name` in `parent`, or with `replacing` takes the one that is there, and in place of anything
    /// else puts it. It is never reached through a symbolic link.
    ///
    /// - Throws: `mkdirat` with EEXIST when something has the name already.
    init(_ name: [UInt8], in parent: RestoreFolder, _ metadata: Metadata) throws(SystemCallError) {
        var isFresh = true
        do throws(SystemCallError) { try Self.make(name, parent.descriptor) } catch {
            guard error.code == EEXIST, !parent.isFresh else { throw error }
            if try FileStatus(at: parent.descriptor.raw, name).kind == .directory {
                isFresh = false
                try Self.unlock(name, parent.descriptor)
            } else {
                try Files.remove(name, in: parent.descriptor)
                try Self.make(name, parent.descriptor)
            }
        }
        descriptor = try FileDescriptor(at: parent.descriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        self.name = name
        self.parent = parent
        self.isFresh = isFresh
        self.metadata = metadata
        parent.begin()
    }

    private static func make(_ name: [UInt8], _ parent: borrowing FileDescriptor) throws(SystemCallError) {
        let raw = parent.raw
        _ = try retryingOnInterrupt("mkdirat", escaped(name)) { withCName(name) { mkdirat(raw, $0, 0o700) } }
    }

    /// An earlier try may have given it its final mode, with which a user who is not root can't go on. chmod(2) has no
    /// form that refuses links, so the directory is pinned first.
    private static func unlock(_ name: [UInt8], _ parent: borrowing FileDescriptor) throws(SystemCallError) {
        let pinned = try FileDescriptor(at: parent, name, Files.onlyPath | O_NOFOLLOW | O_DIRECTORY)
        _ = chmod("/proc/self/fd/\(pinned.raw)", 0o700)
    }

    /// In the snapshot, names joined with `/`.
    var path: [UInt8] {
        var names: [[UInt8]] = []
        var next: RestoreFolder? = self
        while let folder = next {
            if folder.parent != nil { names.append(folder.name) }
            next = folder.parent
        }
        return Array(names.reversed().joined(separator: [0x2F]))
    }

    /// Names from the target down.
    var names: [[UInt8]] {
        var names: [[UInt8]] = []
        var next: RestoreFolder? = self
        while let folder = next, folder.parent != nil {
            names.append(folder.name)
            next = folder.parent
        }
        return names.reversed()
    }

    /// The path of an entry in here.
    func path(of name: [UInt8]) -> [UInt8] { path.isEmpty ? name : path + [0x2F] + name }

    /// Something more is to be done in here.
    func begin() { pending.add(1, ordering: .relaxed) }

    /// Something is done; with the last of it the folder is, and one thing less is to be done in the one above.
    func finishOne(_ state: RestoreState) {
        var next: RestoreFolder? = self
        while let folder = next,
            folder.pending.subtract(1, ordering: .acquiringAndReleasing).newValue == 0
        {
            folder.complete(state)
            next = folder.parent
        }
    }

    private func complete(_ state: RestoreState) {
        guard let metadata else { return }
        do throws(SystemCallError) {
            state.missed(try metadata.apply(to: descriptor, descriptor.status()), path)
        } catch {
            if !state.failsAll(error) { state.problem(path, .failed(error.description)) }
        }
    }
}
