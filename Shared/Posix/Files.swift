import CLinux
package import Glibc

/// Small whole files and folders by path.
package enum Files {
    /// Reads a whole file of at most `limit` bytes.
    package static func read(_ path: String, limit: Int = 64 << 20) throws(SystemCallError) -> [UInt8] {
        let file = try FileDescriptor(open: path, O_RDONLY)
        do { return try file.readToEnd(limit: limit) } catch {
            throw SystemCallError(error.call, errno: error.code, path)
        }
    }

    /// Puts `bytes` at `path` so that it is there whole or not at all, also after a power cut: temporary name
    /// beside it, sync, rename, sync of the folder.
    package static func writeAtomically(_ bytes: [UInt8], to path: String, mode: mode_t = 0o600)
        throws(SystemCallError)
    {
        let temporary = path + temporaryMark + randomHex(8)
        do throws(SystemCallError) {
            let file = try FileDescriptor(open: temporary, O_WRONLY | O_CREAT | O_EXCL, mode: mode)
            try file.writeAll(bytes)
            try file.sync()
            try file.close()
            try rename(temporary, to: path)
        } catch {
            unlink(temporary)
            throw error.subject == nil ? SystemCallError(error.call, errno: error.code, path) : error
        }
        try syncDirectory(parent(path))
    }

    /// Between a name and random digits: a file that `writeAtomically` has not finished.
    package static let temporaryMark = "-tmp-"

    package static func rename(_ from: String, to: String) throws(SystemCallError) {
        _ = try retryingOnInterrupt("rename", to) { Glibc.rename(from, to) }
    }

    /// Removes a file; one that is not there is no error.
    package static func remove(_ path: String) throws(SystemCallError) {
        if unlink(path) != 0, errno != ENOENT { throw SystemCallError("unlink", errno: errno, path) }
    }

    package static func syncDirectory(_ path: String) throws(SystemCallError) {
        let directory = try FileDescriptor(open: path, O_RDONLY | O_DIRECTORY)
        // Some network file systems cannot sync a directory; their rename is durable or nothing is.
        do throws(SystemCallError) { try directory.sync() } catch {
            if error.code != EINVAL && error.code != ENOTSUP {
                throw SystemCallError("fsync", errno: error.code, path)
            }
        }
    }

    /// Makes a folder and the missing ones above it.
    package static func makeDirectories(_ path: String, mode: mode_t = 0o700) throws(SystemCallError) {
        if mkdir(path, mode) == 0 { return }
        let code = errno
        if code == EEXIST {
            if try FileStatus(path: path).kind == .directory { return }
            throw SystemCallError("mkdir", errno: ENOTDIR, path)
        }
        guard code == ENOENT, parent(path) != path else { throw SystemCallError("mkdir", errno: code, path) }
        try makeDirectories(parent(path), mode: mode)
        if mkdir(path, mode) != 0, errno != EEXIST { throw SystemCallError("mkdir", errno: errno, path) }
    }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// The folder that holds `path`.
    package static func parent(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Free and total bytes of the file system of `path`.
    package static func space(_ path: String) throws(SystemCallError) -> (free: UInt64, total: UInt64) {
        let directory = try FileDescriptor(open: path, O_RDONLY)
        var free: UInt64 = 0
        var total: UInt64 = 0
        if clinux_file_system_space(directory.raw, &free, &total) != 0 {
            throw SystemCallError("statvfs", errno: errno, path)
        }
        return (free, total)
    }

    /// Removes a folder and all below it without following symbolic links; one that is not there is no error.
    package static func removeTree(_ path: String) throws(SystemCallError) {
        let status: FileStatus
        do { status = try FileStatus(path: path, follow: false) } catch {
            if error.code == ENOENT { return }
            throw error
        }
        guard status.kind == .directory else { return try remove(path) }
        try removeContents(FileDescriptor(open: path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
        if rmdir(path) != 0 { throw SystemCallError("rmdir", errno: errno, path) }
    }

    private static func removeContents(_ folder: consuming FileDescriptor) throws(SystemCallError) {
        var directory = try Directory(folder)
        for name in try directory.sortedNames() {
            let parent = directory.descriptor
            if try FileStatus(at: parent, name).kind == .directory {
                let raw = try retryingOnInterrupt("openat", escaped(name)) {
                    withCName(name) { openat(parent, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) }
                }
                try removeContents(FileDescriptor(owning: raw))
                if withCName(name, { unlinkat(parent, $0, AT_REMOVEDIR) }) != 0 {
                    throw SystemCallError("rmdir", errno: errno, escaped(name))
                }
            } else if withCName(name, { unlinkat(parent, $0, 0) }) != 0 {
                throw SystemCallError("unlink", errno: errno, escaped(name))
            }
        }
    }
}

/// `count` random bytes from the kernel.
package func randomBytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        // getrandom(2) without flags fails only for a bad address.
        let code = clinux_random(buffer.baseAddress, count)
        precondition(code == 0, "getrandom: errno \(errno)")
        initialized = count
    }
}

/// `count` random bytes as 2 · `count` lower-case hexadecimal digits.
package func randomHex(_ count: Int) -> String { hex(randomBytes(count)) }

/// Lower-case hexadecimal digits.
package func hex(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var result: [UInt8] = []
    for byte in bytes {
        result.append(digits[Int(byte >> 4)])
        result.append(digits[Int(byte & 15)])
    }
    return String(decoding: result, as: UTF8.self)
}

/// The bytes of an even number of hexadecimal digits of either case, or nil.
package func bytes(hex text: some StringProtocol) -> [UInt8]? {
    func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit - 0x30
        case 0x61...0x66: digit - 0x61 + 10
        case 0x41...0x46: digit - 0x41 + 10
        default: nil
        }
    }
    let digits = Array(text.utf8)
    guard digits.count % 2 == 0 else { return nil }
    var result: [UInt8] = []
    result.reserveCapacity(digits.count / 2)
    for index in stride(from: 0, to: digits.count, by: 2) {
        guard let high = value(digits[index]), let low = value(digits[index + 1]) else { return nil }
        result.append(high << 4 | low)
    }
    return result
}
