import CLinux
import Glibc

/// What the file system says of one entry.
package struct FileStatus: Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        case file, directory, symlink, fifo, socket, blockDevice, characterDevice, unknown
    }

    /// `st_mode`: type and permission bits.
    package var mode: UInt32
    package var uid: UInt32
    package var gid: UInt32
    package var links: UInt32
    package var inode: UInt64
    /// `makedev` of the file system.
    package var device: UInt64
    /// `makedev` of a device node.
    package var rdev: UInt64
    /// Bytes.
    package var size: UInt64
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    package var mtime: Int64
    package var ctime: Int64

    package init(
        mode: UInt32,
        uid: UInt32,
        gid: UInt32,
        links: UInt32,
        inode: UInt64,
        device: UInt64,
        rdev: UInt64,
        size: UInt64,
        mtime: Int64,
        ctime: Int64
    ) {
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.links = links
        self.inode = inode
        self.device = device
        self.rdev = rdev
        self.size = size
        self.mtime = mtime
        self.ctime = ctime
    }

    /// Looks at `name` below `directory` (a descriptor or `AT_FDCWD`); an empty name is the descriptor itself.
    package init(at directory: Int32, _ name: [UInt8], follow: Bool = false) throws(SystemCallError) {
        var found = clinux_status()
        _ = try retryingOnInterrupt("statx", name.isEmpty ? nil : escaped(name)) {
            withCName(name) { clinux_status_at(directory, $0, follow ? 1 : 0, &found) }
        }
        self.init(
            mode: found.mode,
            uid: found.uid,
            gid: found.gid,
            links: found.links,
            inode: found.inode,
            device: found.device,
            rdev: found.rdev,
            size: found.size,
            mtime: found.mtime,
            ctime: found.ctime
        )
    }

    package init(path: String, follow: Bool = true) throws(SystemCallError) {
        try self.init(at: AT_FDCWD, Array(path.utf8), follow: follow)
    }

    package var kind: Kind {
        switch mode & UInt32(S_IFMT) {
        case UInt32(S_IFREG): .file
        case UInt32(S_IFDIR): .directory
        case UInt32(S_IFLNK): .symlink
        case UInt32(S_IFIFO): .fifo
        case UInt32(S_IFSOCK): .socket
        case UInt32(S_IFBLK): .blockDevice
        case UInt32(S_IFCHR): .characterDevice
        default: .unknown
        }
    }
}
