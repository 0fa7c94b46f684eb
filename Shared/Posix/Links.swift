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

    /// The extended attributes of `name` below `directory`, the link itself when it is one. None where the file
    /// system has none.
    ///
    /// - Throws: what llistxattr(2) and lgetxattr(2) say but ENOTSUP and ENODATA.
    package static func attributes(
        at directory: Int32,
        _ name: [UInt8]
    ) throws(SystemCallError) -> [(name: [UInt8], value: [UInt8])] {
        // There is no call that takes a descriptor and a name; the kernel's own link to the descriptor is one.
        let path = Array("/proc/self/fd/\(directory)/".utf8) + name
        return try readAttributes { buffer, count in
            withCName(path) { clinux_llistxattr($0, buffer, count) }
        } get: { attribute, buffer, count in
            withCName(path) { clinux_lgetxattr($0, attribute, buffer, count) }
        }
    }

    /// As `attributes(at:_:)`, of an open file or directory: one cheap call when there are none.
    package static func attributes(of descriptor: Int32) throws(SystemCallError)
        -> [(name: [UInt8], value: [UInt8])]
    {
        try readAttributes { buffer, count in
            clinux_flistxattr(descriptor, buffer, count)
        } get: { attribute, buffer, count in
            clinux_fgetxattr(descriptor, attribute, buffer, count)
        }
    }

    /// The most that one list of names or one value can take (limits.h of the kernel).
    private static let mostAttributeBytes: UInt64 = 65536

    private static func readAttributes(
        list: (UnsafeMutablePointer<CChar>?, UInt64) -> Int64,
        get: (UnsafePointer<CChar>, UnsafeMutableRawPointer?, UInt64) -> Int64
    ) throws(SystemCallError) -> [(name: [UInt8], value: [UInt8])] {
        func read(_ call: String, _ body: (UnsafeMutableRawPointer?) -> Int64) throws(SystemCallError)
            -> [UInt8]
        {
            var code: Int32 = 0
            let bytes = [UInt8](unsafeUninitializedCapacity: Int(mostAttributeBytes)) { buffer, count in
                let got = body(UnsafeMutableRawPointer(buffer.baseAddress))
                if got < 0 { code = errno }
                count = max(0, Int(got))
            }
            if code == 0 || code == ENOTSUP || code == ENODATA { return bytes }
            throw SystemCallError(call, errno: code)
        }
        // Asked for the size first, so that entries without attributes cost no buffer.
        let size = list(nil, 0)
        if size < 0 {
            let code = errno
            if code == ENOTSUP || code == ENODATA { return [] }
            throw SystemCallError("listxattr", errno: code)
        }
        if size == 0 { return [] }
        let names = try read("listxattr") {
            list($0?.assumingMemoryBound(to: CChar.self), mostAttributeBytes)
        }
        var result: [(name: [UInt8], value: [UInt8])] = []
        for name in names.split(separator: 0) {
            let value = try read("getxattr") { buffer in
                withCName(Array(name)) { get($0, buffer, mostAttributeBytes) }
            }
            result.append((Array(name), value))
        }
        return result
    }
}
