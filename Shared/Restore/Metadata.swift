import Glibc
import Posix
import Wire

/// Owner, mode, extended attributes and time of an entry.
struct Metadata: Sendable {
    let uid: UInt32
    let gid: UInt32
    let permissions: UInt32
    /// Seconds since 1970-01-01T00:00:00Z, and nanoseconds counted forward from them.
    let mtime: (seconds: Int64, nanosecond: Int)
    let attributes: [Entry.Attribute]

    init(_ entry: Entry) {
        uid = entry.uid
        gid = entry.gid
        permissions = entry.permissions
        let second: Int64 = 1_000_000_000
        let nanosecond = (entry.mtime % second + second) % second
        mtime = ((entry.mtime &- nanosecond) / second, Int(nanosecond))
        attributes = entry.attributes
    }

    /// What could not be set for want of rights or of a file system that knows it.
    struct Missed {
        var owner: String?
        var attributes: String?
    }

    private static let setIDBits: UInt32 = 0o6000

    /// Sets everything on an open file or directory. The order matters: a change of owner clears set-id bits
    /// and capabilities, attributes may be access lists that refine the mode, and all of it changes no time but
    /// the time itself. What is so already is left alone, because each change is one more for the file system's journal.
    ///
    /// - Parameter found: What the file system says of it.
    func apply(to file: borrowing FileDescriptor, _ found: FileStatus) throws(SystemCallError) -> Missed {
        var missed = Missed()
        var permissions = permissions
        let isOwned = found.uid == uid && found.gid == gid
        if !isOwned {
            do throws(SystemCallError) { try file.setOwner(uid: uid, gid: gid) } catch {
                guard Self.isWantOfRights(error.code) else { throw error }
                missed.owner = error.reason
                // A program that should run as another user must not run as this one.
                permissions &= ~Self.setIDBits
            }
        }
        if !isOwned || found.mode & 0o7777 != permissions { try file.setPermissions(permissions) }
        for attribute in attributes {
            do throws(SystemCallError) {
                try file.setAttribute(attribute.name, value: attribute.value)
            } catch {
                missed.attributes = "\(escaped(attribute.name)): \(error.reason)"
            }
        }
        try file.setTime(seconds: mtime.seconds, nanosecond: mtime.nanosecond)
        return missed
    }

    /// The same for an entry that cannot be opened: a symbolic link, a fifo, a device.
    func apply(to name: [UInt8], in folder: borrowing FileDescriptor, isLink: Bool) throws(SystemCallError)
        -> Missed
    {
        var missed = Missed()
        let raw = folder.raw
        do throws(SystemCallError) {
            _ = try retryingOnInterrupt("fchownat", escaped(name)) {
                withCName(name) { fchownat(raw, $0, uid, gid, AT_SYMLINK_NOFOLLOW) }
            }
        } catch {
            guard Self.isWantOfRights(error.code) else { throw error }
            missed.owner = error.reason
        }
        if !isLink {
            // No following: the entry was made a moment ago by us and is no link, and mode bits of links do
            // not exist.
            let bits = missed.owner == nil ? permissions : permissions & ~Self.setIDBits
            try setPermissions(bits, of: name, in: folder)
        }
        for attribute in attributes {
            do throws(SystemCallError) {
                try Files.setAttribute(at: folder, name, attribute: attribute.name, value: attribute.value)
            } catch {
                missed.attributes = "\(escaped(attribute.name)): \(error.reason)"
            }
        }
        try Files.setTime(
            at: folder,
            name,
            seconds: mtime.seconds,
            nanosecond: mtime.nanosecond
        )
        return missed
    }

    /// chmod(2) has no form that refuses links, so the entry is pinned with O_PATH and checked first.
    private func setPermissions(_ bits: UInt32, of name: [UInt8], in folder: borrowing FileDescriptor)
        throws(SystemCallError)
    {
        let pinned = try FileDescriptor(at: folder, name, Files.onlyPath | O_NOFOLLOW)
        let kind = try pinned.status().kind
        guard kind == .fifo || kind == .blockDevice || kind == .characterDevice else {
            throw SystemCallError("chmod", errno: ELOOP, escaped(name))
        }
        let path = "/proc/self/fd/\(pinned.raw)"
        _ = try retryingOnInterrupt("chmod", escaped(name)) { chmod(path, bits) }
    }

    private static func isWantOfRights(_ code: Int32) -> Bool {
        // EINVAL: an id that the user namespace does not map.
        code == EPERM || code == EINVAL || code == ENOTSUP
    }
}
