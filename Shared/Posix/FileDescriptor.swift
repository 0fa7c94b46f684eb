import CLinux
package import Glibc

/// An open file; closed when this value goes.
package struct FileDescriptor: ~Copyable, Sendable {
    package let raw: Int32

    /// Takes over `raw`; nobody else may close it.
    package init(owning raw: Int32) { self.raw = raw }
    deinit { _ = Glibc.close(raw) }

    /// Opens `path`, close-on-exec; `mode` is for `O_CREAT`.
    package init(open path: String, _ flags: Int32, mode: mode_t = 0o600) throws(SystemCallError) {
        let raw = try retryingOnInterrupt("open", path) { Glibc.open(path, flags | O_CLOEXEC, mode) }
        self.init(owning: raw)
    }

    /// Opens `name` (bytes without NUL, one component unless the caller says otherwise) below `directory`.
    package init(
        at directory: borrowing FileDescriptor,
        _ name: [UInt8],
        _ flags: Int32,
        mode: mode_t = 0o600
    ) throws(SystemCallError) {
        let parent = directory.raw
        let raw = try retryingOnInterrupt("openat", escaped(name)) {
            withCName(name) { openat(parent, $0, flags | O_CLOEXEC, mode) }
        }
        self.init(owning: raw)
    }

    /// Opens `path`, of several components joined with `/`, below `directory`, through no symbolic link.
    ///
    /// - Throws: also ENOSYS, where the kernel has no openat2(2).
    package init(beneath directory: Int32, _ path: [UInt8], _ flags: Int32) throws(SystemCallError) {
        let raw = try retryingOnInterrupt("openat2", escaped(path)) {
            withCName(path) { clinux_open_beneath(directory, $0, flags) }
        }
        self.init(owning: raw)
    }

    /// Closes now and reports what `deinit` would have to swallow.
    package consuming func close() throws(SystemCallError) {
        let raw = self.raw
        discard self
        if Glibc.close(raw) != 0 { throw SystemCallError("close", errno: errno) }
    }

    /// Gives the number away; the caller closes it.
    package consuming func release() -> Int32 {
        let raw = self.raw
        discard self
        return raw
    }

    /// Reads once into `buffer`; 0 at the end of the file.
    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(SystemCallError) -> Int {
        try retryingOnInterrupt("read") { Glibc.read(raw, buffer.baseAddress, buffer.count) }
    }

    /// Reads at `offset` (bytes) until `buffer` is full or the file ends; returns the bytes read.
    ///
    /// - Parameter unit: A read that is no multiple of it reached the end. After `setDirect` none could follow it.
    package func pread(into buffer: UnsafeMutableRawBufferPointer, at offset: Int64, unit: Int = 1)
        throws(SystemCallError)
        -> Int
    {
        var done = 0
        while done < buffer.count {
            let got = try retryingOnInterrupt("pread") {
                Glibc.pread(
                    raw,
                    buffer.baseAddress.map { $0 + done },
                    buffer.count - done,
                    off_t(offset) + done
                )
            }
            done += got
            if got == 0 || got % unit != 0 { break }
        }
        return done
    }

    package func writeAll(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError) {
        var done = 0
        while done < bytes.count {
            done += try retryingOnInterrupt("write") {
                Glibc.write(raw, bytes.baseAddress.map { $0 + done }, bytes.count - done)
            }
        }
    }

    package func writeAll(_ bytes: [UInt8]) throws(SystemCallError) {
        do { try bytes.withUnsafeBytes { try writeAll($0) } } catch {
            throw error as? SystemCallError ?? SystemCallError("write", errno: EIO)
        }
    }

    package func pwriteAll(_ bytes: UnsafeRawBufferPointer, at offset: Int64) throws(SystemCallError) {
        var done = 0
        while done < bytes.count {
            done += try retryingOnInterrupt("pwrite") {
                Glibc.pwrite(
                    raw,
                    bytes.baseAddress.map { $0 + done },
                    bytes.count - done,
                    off_t(offset) + done
                )
            }
        }
    }

    /// Reads from the current position to the end, at most `limit` bytes; a longer file is `EFBIG`.
    package func readToEnd(limit: Int) throws(SystemCallError) -> [UInt8] {
        var result: [UInt8] = []
        let step = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
        defer { step.deallocate() }
        while true {
            let got = try read(into: step)
            if got == 0 { return result }
            if result.count + got > limit { throw SystemCallError("read", errno: EFBIG) }
            result.append(contentsOf: UnsafeRawBufferPointer(rebasing: step[..<got]))
        }
    }

    /// Whether the byte at `offset` is in memory already; nil when the file system can't tell.
    package func isCached(at offset: Int64) -> Bool? {
        switch clinux_is_cached(raw, offset) {
        case 1: true
        case 0: false
        default: nil
        }
    }

    package func sync() throws(SystemCallError) { _ = try retryingOnInterrupt("fsync") { fsync(raw) } }

    /// Starts writing dirty pages of a range (bytes) without waiting for it; a hint, errors are dropped.
    package func startWriteback(at offset: Int64, count: Int64) {
        _ = clinux_start_writeback(raw, offset, count)
    }

    /// Lets the page cache forget what of a range is on the disk; a hint.
    ///
    /// - Parameter count: Bytes; 0: to the end.
    package func forgetCached(at offset: Int64 = 0, count: Int = 0) {
        _ = posix_fadvise(raw, off_t(offset), off_t(count), POSIX_FADV_DONTNEED)
    }

    /// Turns on or off that reads and writes go past the page cache; their offset, size and address are then to be
    /// multiples of 4096 (open(2), `O_DIRECT`).
    ///
    /// - Returns: Whether they do now. Not every file system can.
    package func setDirect(_ direct: Bool) -> Bool {
        clinux_set_direct(raw, direct ? 1 : 0) == 0 && direct
    }

    package func status() throws(SystemCallError) -> FileStatus { try FileStatus(at: raw, []) }

    /// Keeps the descriptor from programs that this process starts.
    package func setCloseOnExec() throws(SystemCallError) {
        _ = try retryingOnInterrupt("fcntl") { clinux_set_close_on_exec(raw, 1) }
    }

    package func duplicate() throws(SystemCallError) -> FileDescriptor {
        FileDescriptor(owning: try retryingOnInterrupt("dup") { fcntl(raw, F_DUPFD_CLOEXEC, 0) })
    }

    /// A pipe, both ends close-on-exec.
    package static func pipe() throws(SystemCallError) -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        _ = try retryingOnInterrupt("pipe2") { clinux_pipe(&ends) }
        return (ends[0], ends[1])
    }
}

/// Calls `body` with `name` as a C string. A name with a NUL inside is cut there by C, so callers that take
/// names from outside refuse NUL first.
package func withCName<R>(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> R) -> R {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: name.count + 1) { buffer in
        for (index, byte) in name.enumerated() { buffer[index] = CChar(bitPattern: byte) }
        buffer[name.count] = 0
        return withExtendedLifetime(buffer) { body(UnsafePointer(buffer.baseAddress.unsafelyUnwrapped)) }
    }
}
