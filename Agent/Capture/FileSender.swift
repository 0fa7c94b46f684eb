import Glibc
import Posix
import Wire

/// A file that the coordinator wants.
struct Unsent {
    let node: FolderNode
    let entry: Entry
    let offset: UInt64
}

/// Reads wanted files and sends them as frames.
final class FileSender {
    /// How one file went, for the report.
    struct Outcome {
        let end: FileEnd
        /// Bytes sent that `betweenFrames` was not told of.
        var sent = 0
        /// Whether extended attributes could not be sent.
        var leftOut = false
    }

    private static let step = 512 << 10
    private static let attempts = 3

    private let stream: FrameStream
    /// Called after each frame of a large file: hears an abort, a stop, and shows progress.
    private let betweenFrames: (_ sent: Int) throws -> Void
    /// The folder of the last file and the one that small files are found from stay open: the next is mostly near.
    private var pinned: FolderNode?
    private var base: FolderNode?

    init(_ stream: FrameStream, betweenFrames: @escaping (_ sent: Int) throws -> Void) {
        self.stream = stream
        self.betweenFrames = betweenFrames
    }

    deinit {
        pinned?.unpin()
        base?.unpin()
    }

    /// Sends one file to its end; only what concerns the connection is thrown.
    func send(_ file: Unsent) throws -> Outcome {
        if case .made(let entries) = file.node.content {
            for case .file(let entry, let bytes) in entries where entry.name == file.entry.name {
                return try sendMade(entry, bytes, from: file.offset)
            }
            return try end(FileEnd(status: .vanished))
        }
        if let outcome = try sendAsListed(file) { return outcome }
        let opened: FileDescriptor
        do throws(SystemCallError) {
            if pinned !== file.node {
                try file.node.pin()
                pinned?.unpin()
                pinned = file.node
            }
            opened = try open(file.entry.name, in: file.node.raw)
        } catch { return try end(failure(error)) }
        return try send(file, opened)
    }

    /// The short way of a small file that is still as it was listed: found without opening the folders above it (it is
    /// known by its inode), read in one step, looked at once.
    ///
    /// - Returns: Nil when it has to go the long way, which also finds out why.
    private func sendAsListed(_ file: Unsent) throws -> Outcome? {
        let entry = file.entry
        guard file.offset == 0, entry.size <= UInt64(Self.step), let opened = openFromBase(file) else {
            return nil
        }
        var failed = false
        let got = try stream.send(type: AgentMessage.dataType, upTo: Int(entry.size)) { buffer in
            do throws(SystemCallError) { return try opened.pread(into: buffer, at: 0) } catch {
                failed = true
                return 0
            }
        }
        let after = try? opened.status()
        guard !failed, let after, after.kind == .file, UInt64(got) == entry.size, isAsListed(after, entry)
        else {
            if got > 0 { try stream.send(AgentMessage.again) }
            return nil
        }
        var result = FileEnd(status: .stable)
        result.note(after)
        var outcome = try end(result, file, opened)
        outcome.sent = got
        return outcome
    }

    private func openFromBase(_ file: Unsent) -> FileDescriptor? {
        guard let (node, below) = file.node.base else { return nil }
        do throws(SystemCallError) {
            if base !== node {
                try node.pin()
                base?.unpin()
                base = node
            }
            let path = below.isEmpty ? file.entry.name : below + [0x2F] + file.entry.name
            return try FileDescriptor(beneath: node.raw, path, Self.flags | noAccessTime)
        } catch { return nil }
    }

    private func isAsListed(_ status: FileStatus, _ entry: Entry) -> Bool {
        status.size == entry.size && status.mtime == entry.mtime && status.ctime == entry.ctime
            && status.inode == entry.inode
    }

    /// Without blocking, because a FIFO may have taken the file's place.
    private static let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC

    /// The access time is left alone where the kernel lets us.
    private func open(_ name: [UInt8], in folder: Int32) throws(SystemCallError) -> FileDescriptor {
        let raw = try retryingOnInterrupt("openat", escaped(name)) {
            withCName(name) { name in
                let quiet = openat(folder, name, Self.flags | noAccessTime)
                return quiet < 0 && errno == EPERM ? openat(folder, name, Self.flags) : quiet
            }
        }
        return FileDescriptor(owning: raw)
    }

    private func send(_ file: Unsent, _ opened: borrowing FileDescriptor) throws -> Outcome {
        var status: FileStatus
        do throws(SystemCallError) { status = try opened.status() } catch {
            return try end(failure(error))
        }
        guard status.kind == .file else { return try end(FileEnd(status: .vanished)) }
        // The part that the coordinator has belongs to the file as it was listed.
        var offset = file.offset
        if offset > 0 && (!isAsListed(status, file.entry) || offset > status.size) {
            try stream.send(AgentMessage.again)
            offset = 0
        }
        let large = status.size > 128 << 10
        // What is read for the capture alone shall not push out what the machine works with.
        let givesBack = large && opened.isCached(at: Int64(clamping: offset)) == false
        if large { posix_fadvise(opened.raw, 0, 0, POSIX_FADV_SEQUENTIAL) }
        defer { if givesBack { posix_fadvise(opened.raw, 0, 0, POSIX_FADV_DONTNEED) } }
        for attempt in 1...Self.attempts {
            let read: UInt64
            let after: FileStatus
            switch try sendBytes(opened, from: offset, to: status.size) {
            case .success(let end): read = end
            case .failure(let error): return try end(failure(error))
            }
            do throws(SystemCallError) { after = try opened.status() } catch {
                return try end(failure(error))
            }
            let isStable =
                read == status.size && after.size == status.size && after.mtime == status.mtime
                && after.ctime == status.ctime
            if isStable || attempt == Self.attempts {
                var result = FileEnd(status: isStable ? .stable : .changing)
                result.note(after)
                return try end(result, file, opened)
            }
            try stream.send(AgentMessage.again)
            offset = 0
            status = after
        }
        return try end(FileEnd(status: .changing))
    }

    /// Sends up to `size`, not to the end of a file that grows as fast as it is read.
    ///
    /// - Returns: The position behind the last byte read.
    private func sendBytes(
        _ opened: borrowing FileDescriptor,
        from start: UInt64,
        to size: UInt64
    ) throws -> Result<UInt64, SystemCallError> {
        var position = start
        while position < size {
            let wanted = Int(min(UInt64(Self.step), size - position))
            var failure: SystemCallError?
            let got = try stream.send(type: AgentMessage.dataType, upTo: wanted) { buffer in
                do throws(SystemCallError) {
                    return try opened.pread(into: buffer, at: Int64(clamping: position))
                } catch {
                    failure = error
                    return 0
                }
            }
            if let failure { return .failure(failure) }
            if got == 0 { break }
            position += UInt64(got)
            try betweenFrames(got)
        }
        return .success(position)
    }

    private func sendMade(_ entry: Entry, _ bytes: [UInt8], from offset: UInt64) throws -> Outcome {
        let rest = bytes.dropFirst(Int(clamping: offset))
        try rest.withUnsafeBytes { rest in
            for start in stride(from: 0, to: rest.count, by: Self.step) {
                let part = rest[start..<min(start + Self.step, rest.count)]
                try stream.send(type: AgentMessage.dataType, body: UnsafeRawBufferPointer(rebasing: part))
            }
        }
        try betweenFrames(rest.count)
        var result = FileEnd(status: .stable)
        result.size = entry.size
        result.mtime = entry.mtime
        result.ctime = entry.ctime
        result.inode = entry.inode
        return try end(result)
    }

    private func failure(_ error: SystemCallError) -> FileEnd {
        switch error.code {
        // ELOOP: a link has taken its place; ESTALE, ENOTDIR: its folder is another one.
        case ENOENT, ELOOP, ESTALE, ENOTDIR: return FileEnd(status: .vanished)
        default:
            var result = FileEnd(status: .unreadable)
            result.errno = error.code
            return result
        }
    }

    private func end(_ end: FileEnd) throws -> Outcome {
        try stream.send(AgentMessage.fileEnd(end))
        return Outcome(end: end)
    }

    /// The end of a file that was read, with its extended attributes before.
    private func end(_ end: FileEnd, _ file: Unsent, _ opened: borrowing FileDescriptor) throws -> Outcome {
        let raw = opened.raw
        let attributes = AttributeSet { () throws(SystemCallError) in try Files.attributes(of: raw) }
        if !attributes.kept.isEmpty { try stream.send(AgentMessage.attributes(of: .file, attributes.kept)) }
        if let problem = attributes.problem {
            let path = file.node.snapshotPath + [0x2F] + file.entry.name
            try stream.send(AgentMessage.skipped(path: path, reason: problem))
        }
        try stream.send(AgentMessage.fileEnd(end))
        return Outcome(end: end, leftOut: attributes.problem != nil)
    }
}

extension FileEnd {
    fileprivate mutating func note(_ status: FileStatus) {
        size = status.size
        mtime = status.mtime
        ctime = status.ctime
        inode = status.inode
    }
}
