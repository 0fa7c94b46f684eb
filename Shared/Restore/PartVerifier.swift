import Digest
import Posix
import Wire

/// Reads files and compares the hashes of their parts; for one thread.
final class PartVerifier {
    private let context: SHA256Context
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 4096)

    init() throws(DigestError) { context = try SHA256Context() }

    deinit { buffer.deallocate() }

    /// Bytes from the start of the file whose parts are all right.
    ///
    /// - Parameters:
    ///   - skipping: Offsets of parts that are known to be missing and count as right.
    ///   - advanced: Told of bytes as they are read; may throw to end it.
    func rightBytes(
        of parts: [Part],
        in file: borrowing FileDescriptor,
        skipping: Set<UInt64> = [],
        advanced: (UInt64) throws -> Void = { _ in }
    ) throws -> UInt64 {
        var offset: UInt64 = 0
        for part in parts where part.length > 0 {
            if !skipping.contains(offset) {
                guard try hash(of: part.length, at: offset, in: file) == part.hash else { return offset }
                try advanced(UInt64(part.length))
            }
            offset += UInt64(part.length)
        }
        return offset
    }

    private func hash(of length: UInt32, at offset: UInt64, in file: borrowing FileDescriptor) throws
        -> SHA256Digest
    {
        try context.reset()
        var done = 0
        while done < Int(length) {
            let step = UnsafeMutableRawBufferPointer(
                rebasing: buffer[..<min(Int(length) - done, buffer.count)]
            )
            let got = try file.pread(into: step, at: Int64(offset) + Int64(done))
            if got == 0 { break }
            try context.update(UnsafeRawBufferPointer(rebasing: step[..<got]))
            done += got
        }
        return try context.finish()
    }

    /// What a file `name` is called until it is whole: the same in every try, so that a later one finds it.
    func temporaryName(of name: [UInt8], prefix: [UInt8]) throws -> [UInt8] {
        try context.reset()
        try name.withUnsafeBytes { try context.update($0) }
        return prefix + Array(hex(try context.finish().bytes.prefix(8)).utf8)
    }
}
