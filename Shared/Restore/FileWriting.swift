import Glibc
import Posix
import Wire

extension FileWork {
    /// Files of so many bytes begin their way to the disk at once, so that the sync in the end is short.
    static let writeback: UInt64 = 1 << 20

    /// Writes bytes of the file under its temporary name. What goes wrong is kept in `failure`, or ends the whole
    /// restore.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, _ state: RestoreState) {
        defer { state.advance(files: 0, bytes: UInt64(bytes.count)) }
        guard failure == nil else { return }
        do throws(SystemCallError) {
            let file = try opened()
            // Zeros are left out, so that a sparse file stays one.
            if Self.isZero(bytes) { return }
            try file.descriptor.pwriteAll(bytes, at: Int64(offset))
            writtenEnd = offset + UInt64(bytes.count)
        } catch { fail(error, state) }
    }

    /// Gives the file its size and begins to bring it to the disk.
    func endWriting(_ state: RestoreState) {
        guard failure == nil else { return }
        do throws(SystemCallError) {
            let file = try opened()
            if writtenEnd != entry.size { try file.descriptor.truncate(to: Int64(entry.size)) }
            if entry.size >= Self.writeback {
                file.descriptor.startWriteback(at: 0, count: Int64(entry.size))
            }
        } catch { fail(error, state) }
    }

    private func opened() throws(SystemCallError) -> OpenFile {
        if let file { return file }
        let flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW
        // For us alone until it is somebody else's; and for us to write to, should this try be cut and another go on.
        let isOurs = entry.uid == Self.user.uid && entry.gid == Self.user.gid
        let mode = 0o600 | (isOurs ? mode_t(entry.permissions & 0o777) : 0)
        let descriptor = try FileDescriptor(at: folder.descriptor, temporary, flags, mode: mode)
        // Best effort: reading it back would change its access time, once more work for the file system.
        _ = fcntl(descriptor.raw, F_SETFL, noAccessTime)
        let opened = OpenFile(descriptor)
        file = opened
        return opened
    }

    /// Who new files belong to, unless the folder or the file system says otherwise.
    private static let user = (uid: geteuid(), gid: getegid())

    private func fail(_ error: SystemCallError, _ state: RestoreState) {
        if state.failsAll(error) {
            removeTemporary()
        } else {
            failure = error.description
        }
    }

    private static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 4096, let base = bytes.baseAddress, bytes[0] == 0 else { return false }
        return memcmp(base, base + 1, bytes.count - 1) == 0
    }
}
