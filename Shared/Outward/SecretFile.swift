import Glibc
import Posix

/// A file that holds one secret: its first line counts.
enum SecretFile {
    /// - Throws: `file` when it cannot be read, holds nothing, or everybody on the machine may read it.
    static func read(_ path: String) throws(OutwardError) -> String {
        let bytes: [UInt8]
        do {
            // The descriptor, so that what is looked at is what is read.
            let file = try FileDescriptor(open: path, O_RDONLY)
            var status = stat()
            guard fstat(file.raw, &status) == 0 else { throw SystemCallError("fstat", errno: errno, path) }
            if status.st_mode & 0o004 != 0 {
                throw OutwardError.file(path: path, reason: "can be read by everybody here: chmod o-r it")
            }
            bytes = try file.readToEnd(limit: 64 << 10)
        } catch let error as OutwardError {
            throw error
        } catch let error as SystemCallError {
            throw .file(path: path, reason: "cannot be read: \(error.reason)")
        } catch {
            throw .file(path: path, reason: "cannot be read")
        }
        let first = bytes.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D }).first ?? []
        let text = String(decoding: first, as: UTF8.self)
        guard !text.isEmpty,
            text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F && $0 != "\u{FFFD}" })
        else {
            throw .file(path: path, reason: "does not begin with a line of text, which would be the secret")
        }
        return text
    }
}
