import CLinux
import Glibc

/// Putting entries below an open folder. Names are single components; nothing here follows a symbolic link.
extension Files {
    /// `O_PATH`: pins an entry without opening it.
    package static let onlyPath = Int32(CLINUX_O_PATH)

    /// Gives `from` the name `to` in the same folder, if nothing has that name yet.
    ///
    /// - Throws: `renameat2` with EEXIST when the name is taken.
    package static func renameWithoutReplacing(
        in directory: borrowing FileDescriptor,
        _ from: [UInt8],
        to: [UInt8]
    ) throws(SystemCallError) {
        let raw = directory.raw
        let code = withCName(from) { from in
            withCName(to) { clinux_rename_without_replacing(raw, from, $0) == 0 ? 0 : errno }
        }
        if code == 0 { return }
        // File systems without that flag (FUSE, some network ones): look first.
        guard code == EINVAL || code == ENOSYS || code == ENOTSUP else {
            throw SystemCallError("renameat2", errno: code, escaped(to))
        }
        if (try? FileStatus(at: raw, to)) != nil {
            throw SystemCallError("renameat2", errno: EEXIST, escaped(to))
        }
        _ = try retryingOnInterrupt("renameat", escaped(to)) {
            withCName(from) { from in withCName(to) { renameat(raw, from, raw, $0) } }
        }
    }

    /// Sets an extended attribute of `name` below `directory`, of the link itself when it is one.
    package static func setAttribute(
        at directory: borrowing FileDescriptor,
        _ name: [UInt8],
        attribute: [UInt8],
        value: [UInt8]
    ) throws(SystemCallError) {
        // There is no call that takes a descriptor and a name; the kernel's own link to the descriptor is one.
        let path = Array("/proc/self/fd/\(directory.raw)/".utf8) + name
        _ = try retryingOnInterrupt("lsetxattr", escaped(attribute)) {
            withCName(path) { path in
                withCName(attribute) { clinux_lsetxattr(path, $0, value, UInt64(value.count)) }
            }
        }
    }

    /// Sets the modification time (and the access time to the same) of `name` below `directory`.
    ///
    /// - Parameters:
    ///   - seconds: Since 1970-01-01T00:00:00Z.
    ///   - nanosecond: 0 to 999,999,999.
    package static func setTime(
        at directory: borrowing FileDescriptor,
        _ name: [UInt8],
        seconds: Int64,
        nanosecond: Int
    ) throws(SystemCallError) {
        let raw = directory.raw
        let time = timespec(tv_sec: Int(seconds), tv_nsec: nanosecond)
        _ = try retryingOnInterrupt("utimensat", escaped(name)) {
            withCName(name) { utimensat(raw, $0, [time, time], AT_SYMLINK_NOFOLLOW) }
        }
    }

    /// Writes everything of the file system that holds `descriptor` to the disk.
    package static func syncFileSystem(of descriptor: borrowing FileDescriptor) throws(SystemCallError) {
        let raw = descriptor.raw
        _ = try retryingOnInterrupt("syncfs") { clinux_sync_file_system(raw) }
    }
}

extension FileDescriptor {
    package func setAttribute(_ attribute: [UInt8], value: [UInt8]) throws(SystemCallError) {
        let raw = raw
        _ = try retryingOnInterrupt("fsetxattr", escaped(attribute)) {
            withCName(attribute) { clinux_fsetxattr(raw, $0, value, UInt64(value.count)) }
        }
    }

    package func setOwner(uid: UInt32, gid: UInt32) throws(SystemCallError) {
        let raw = raw
        _ = try retryingOnInterrupt("fchown") { fchown(raw, uid, gid) }
    }

    /// - Parameter permissions: The low twelve bits of a mode.
    package func setPermissions(_ permissions: UInt32) throws(SystemCallError) {
        let raw = raw
        _ = try retryingOnInterrupt("fchmod") { fchmod(raw, permissions) }
    }

    /// Sets the modification time and the access time to the same; see `Files.setTime`.
    package func setTime(seconds: Int64, nanosecond: Int) throws(SystemCallError) {
        let raw = raw
        let time = timespec(tv_sec: Int(seconds), tv_nsec: nanosecond)
        _ = try retryingOnInterrupt("futimens") { futimens(raw, [time, time]) }
    }

    /// Sets the file's size in bytes; what is added reads as zeros.
    package func truncate(to size: Int64) throws(SystemCallError) {
        let raw = raw
        _ = try retryingOnInterrupt("ftruncate") { ftruncate(raw, off_t(size)) }
    }
}
