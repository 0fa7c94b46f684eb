import Glibc
import Posix

/// What lies below a folder, a line an entry, so that two folders can be compared.
struct FolderListing {
    /// By path below the folder, escaped: type, permissions, owner, size, time of change and a hash of the bytes;
    /// of folders neither size nor time.
    private(set) var entries: [String: String] = [:]

    init(_ path: String) throws { try add(FileDescriptor(open: path, O_RDONLY | O_DIRECTORY), "") }

    private mutating func add(_ folder: consuming FileDescriptor, _ prefix: String) throws {
        var directory = try Directory(folder)
        for name in try directory.sortedNames() {
            let status = try FileStatus(at: directory.descriptor, name)
            let path = prefix + escaped(name)
            var line = "\(status.kind) \(String(status.mode & 0o7777, radix: 8)) \(status.uid):\(status.gid)"
            switch status.kind {
            case .directory:
                let raw = try opened(name, at: directory.descriptor, O_RDONLY | O_DIRECTORY)
                try add(FileDescriptor(owning: raw), path + "/")
            case .file:
                let file = FileDescriptor(owning: try opened(name, at: directory.descriptor, O_RDONLY))
                line += " \(status.size) \(status.mtime) \(try Self.hash(file))"
            default: line += " \(status.mtime)"
            }
            entries[path] = line
        }
    }

    private func opened(_ name: [UInt8], at parent: Int32, _ flags: Int32) throws -> Int32 {
        try retryingOnInterrupt("openat", escaped(name)) { withCName(name) { openat(parent, $0, flags) } }
    }

    /// FNV-1a over words: quick enough for a debug build, and no accident keeps it the same.
    private static func hash(_ file: borrowing FileDescriptor) throws -> UInt64 {
        var state: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in try file.readToEnd(limit: 1 << 30) {
            state = (state ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
        }
        return state
    }

    /// Lines that are not the same in both, for those paths that `included` takes.
    func differences(from other: FolderListing, where included: (String) -> Bool = { _ in true }) -> [String]
    {
        Set(entries.keys).union(other.entries.keys).filter(included).sorted().compactMap { path in
            let (ours, theirs) = (entries[path], other.entries[path])
            return ours == theirs ? nil : "\(path): \(ours ?? "missing") | \(theirs ?? "missing")"
        }
    }
}
