import Glibc
package import Posix

/// All entries below a folder with everything a restore has to bring back, for comparing two folders.
package struct TreeListing: Equatable {
    package struct Entry: Equatable {
        package var kind: FileStatus.Kind
        /// The low twelve bits of the mode.
        package var permissions: UInt32
        package var uid: UInt32
        package var gid: UInt32
        /// Nanoseconds since 1970-01-01T00:00:00Z.
        package var mtime: Int64
        package var size: UInt64
        package var rdev: UInt64
        /// Of a symbolic link.
        package var target: [UInt8]
        package var attributes: [String: [UInt8]]
        /// Of the content of a file.
        package var checksum: UInt64
        /// The first path of a file with several names; nil for others.
        package var sameFileAs: [UInt8]?
    }

    /// By path below the folder, names joined with `/`; the folder itself is the empty path.
    package var entries: [[UInt8]: Entry] = [:]

    /// - Parameter below: Opened, not followed; paths of any length are read.
    package init(_ path: String) throws {
        var seen: [UInt64: [UInt8]] = [:]
        try visit(FileDescriptor(open: path, O_RDONLY | O_DIRECTORY), [], &seen)
    }

    private mutating func visit(
        _ folder: consuming FileDescriptor,
        _ path: [UInt8],
        _ seen: inout [UInt64: [UInt8]]
    )
        throws
    {
        if path.isEmpty { entries[[]] = try entry(folder.raw, [0x2E], []) }
        var directory = try Directory(folder)
        for name in try directory.sortedNames() {
            let inner = path.isEmpty ? name : path + [0x2F] + name
            let status = try FileStatus(at: directory.descriptor, name)
            var entry = try entry(directory.descriptor, name, inner)
            if status.kind == .file, status.links > 1 {
                entry.sameFileAs = seen[status.inode] ?? inner
                seen[status.inode] = seen[status.inode] ?? inner
            }
            entries[inner] = entry
            if status.kind == .directory {
                let raw = directory.descriptor
                let opened = try retryingOnInterrupt("openat", escaped(name)) {
                    withCName(name) { openat(raw, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) }
                }
                try visit(FileDescriptor(owning: opened), inner, &seen)
            }
        }
    }

    private func entry(_ folder: Int32, _ name: [UInt8], _ path: [UInt8]) throws -> Entry {
        let status = try FileStatus(at: folder, name)
        var attributes: [String: [UInt8]] = [:]
        for attribute in try Files.attributes(at: folder, name) {
            attributes[escaped(attribute.name)] = attribute.value
        }
        return Entry(
            kind: status.kind,
            permissions: status.mode & 0o7777,
            uid: status.uid,
            gid: status.gid,
            mtime: status.mtime,
            size: status.kind == .file ? status.size : 0,
            rdev: status.rdev,
            target: status.kind == .symlink ? try Files.linkTarget(at: folder, name) : [],
            attributes: attributes,
            checksum: status.kind == .file ? try checksum(folder, name) : 0,
            sameFileAs: nil
        )
    }

    private func checksum(_ folder: Int32, _ name: [UInt8]) throws -> UInt64 {
        let raw = try retryingOnInterrupt("openat", escaped(name)) {
            withCName(name) { openat(folder, $0, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) }
        }
        let file = FileDescriptor(owning: raw)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { buffer.deallocate() }
        var result: UInt64 = 0xCBF2_9CE4_8422_2325
        var offset: Int64 = 0
        while true {
            let got = try file.pread(into: buffer, at: offset)
            if got == 0 { return result }
            offset += Int64(got)
            // The last words are padded; the size is compared beside this.
            for index in got..<min(buffer.count, (got + 7) & ~7) { buffer[index] = 0 }
            for index in stride(from: 0, to: got, by: 8) {
                result =
                    (result ^ buffer.loadUnaligned(fromByteOffset: index, as: UInt64.self))
                    &* 0x0000_0100_0000_01B3
                result ^= result >> 29
            }
        }
    }

    /// One line for each path that is missing, extra or different; nothing when the two are alike.
    package func differences(to other: TreeListing, ignoring: Set<[UInt8]> = []) -> [String] {
        var result: [String] = []
        for (path, entry) in entries where !ignoring.contains(path) {
            guard let found = other.entries[path] else {
                result.append("missing: \(escaped(path))")
                continue
            }
            if found != entry { result.append("\(escaped(path)): \(entry) became \(found)") }
        }
        for path in other.entries.keys where entries[path] == nil && !ignoring.contains(path) {
            result.append("extra: \(escaped(path))")
        }
        return result.sorted()
    }
}
