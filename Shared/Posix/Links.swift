import CLinux
import Glibc

/// `O_NOATIME`, which reads without touching the access time; only for a file's owner and for root.
package let noAccessTime = Int32(CLINUX_O_NOATIME)

extension Files {
    /// Target of the symbolic link `name` below `directory`; bytes.
    package static func linkTarget(at directory: Int32, _ name: [UInt8]) throws(SystemCallError) -> [UInt8] {
        var failure: SystemCallError?
        let target = [UInt8](unsafeUninitializedCapacity: 65536) { buffer, count in
            let got = withCName(name) { name in
                buffer.withMemoryRebound(to: CChar.self) { bytes in
                    bytes.baseAddress.map { readlinkat(directory, name, $0, bytes.count) } ?? -1
                }
            }
            if got < 0 { failure = SystemCallError("readlinkat", errno: errno, escaped(name)) }
            count = max(0, got)
        }
        if let failure { throw failure }
        return target
    }

    /// The extended attributes of `name` below `directory`, the link itself when it is one; an empty name is the
    /// directory. None where the file system has none. One system call when there are none.
    ///
    /// - Throws: what llistxattr(2) and lgetxattr(2) say but ENOTSUP and ENODATA.
    package static func attributes(
        at directory: Int32,
        _ name: [UInt8]
    ) throws(SystemCallError) -> [(name: [UInt8], value: [UInt8])] {
        // There is no call that takes a descriptor and a name; the kernel's own link to the descriptor is one.
        let path = Array("/proc/self/fd/\(directory)/".utf8) + (name.isEmpty ? [0x2E] : name)
        func read(_ call: String, _ body: (UnsafeMutableRawPointer?, UInt64) -> Int64) throws(SystemCallError)
            -> [UInt8]
        {
            var code: Int32 = 0
            let bytes = [UInt8](unsafeUninitializedCapacity: 65536) { buffer, count in
                let got = body(UnsafeMutableRawPointer(buffer.baseAddress), 65536)
                if got < 0 { code = errno }
                count = max(0, Int(got))
            }
            if code == 0 || code == ENOTSUP || code == ENODATA { return bytes }
            throw SystemCallError(call, errno: code, escaped(name))
        }
        // Asked for the size first, so that entries without attributes cost no buffer.
        let size = withCName(path) { clinux_llistxattr($0, nil, 0) }
        if size < 0 {
            let code = errno
            if code == ENOTSUP || code == ENODATA { return [] }
            throw SystemCallError("llistxattr", errno: code, escaped(name))
        }
        if size == 0 { return [] }
        let list = try read("llistxattr") { buffer, count in
            withCName(path) { clinux_llistxattr($0, buffer?.assumingMemoryBound(to: CChar.self), count) }
        }
        var result: [(name: [UInt8], value: [UInt8])] = []
        for attribute in list.split(separator: 0) {
            let value = try read("lgetxattr") { buffer, count in
                withCName(path) { path in
                    withCName(Array(attribute)) { clinux_lgetxattr(path, $0, buffer, count) }
                }
            }
            result.append((Array(attribute), value))
        }
        return result
    }
}
