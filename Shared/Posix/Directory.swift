import Glibc

/// An open directory and what is in it.
package struct Directory: ~Copyable {
    private let stream: OpaquePointer
    package let descriptor: Int32

    /// Takes over `descriptor`, which is closed with this value.
    package init(_ descriptor: consuming FileDescriptor) throws(SystemCallError) {
        let raw = descriptor.release()
        guard let stream = fdopendir(raw) else {
            let code = errno
            _ = Glibc.close(raw)
            throw SystemCallError("fdopendir", errno: code)
        }
        self.stream = stream
        self.descriptor = raw
    }
    deinit { closedir(stream) }

    /// The next name, without `.` and `..`, in the file system's own order; nil at the end.
    package mutating func next() throws(SystemCallError) -> [UInt8]? {
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                let code = errno
                if code != 0 { throw SystemCallError("readdir", errno: code) }
                return nil
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                tuple.withMemoryRebound(to: UInt8.self, capacity: 256) { bytes in
                    Array(
                        UnsafeBufferPointer(
                            start: bytes,
                            count: strlen(tuple.withMemoryRebound(to: CChar.self, capacity: 256) { $0 })
                        )
                    )
                }
            }
            if name == [0x2E] || name == [0x2E, 0x2E] { continue }
            return name
        }
    }

    /// All names of the directory `path`, in byte order.
    package static func names(_ path: String) throws(SystemCallError) -> [[UInt8]] {
        var directory = try Directory(FileDescriptor(open: path, O_RDONLY | O_DIRECTORY))
        return try directory.sortedNames()
    }

    /// The remaining names in byte order (unsigned).
    package mutating func sortedNames() throws(SystemCallError) -> [[UInt8]] {
        var result: [[UInt8]] = []
        while let name = try next() { result.append(name) }
        result.sort { $0.lexicographicallyPrecedes($1) }
        return result
    }
}
