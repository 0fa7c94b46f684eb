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
        /// Bytes that were sent for it, repeated ones too.
        let sent: UInt64
    }

    private static let step = 512 << 10
    private static let attempts = 3

    private let stream: FrameStream
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: FileSender.step, alignment: 4096)
    /// Called after each frame of a large file: hears an abort, a stop, and shows progress.
    private let betweenFrames: (_ sent: Int) throws -> Void
    /// The folder of the last file stays open, since its neighbours come next.
    private var pinned: FolderNode?

    init(_ stream: FrameStream, betweenFrames: @escaping (_ sent: Int) throws -> Void) {
        self.stream = stream
        self.betweenFrames = betweenFrames
    }

    deinit {
        pinned?.unpin()
        buffer.deallocate()
    }

    /// Sends one file to its end; only what concerns the connection is thrown.
    func send(_ file: Unsent) throws -> Outcome {
        if case .made(let entries) = file.node.content {
            for case .file(let entry, let bytes) in entries where entry.name == file.entry.name {
                return try sendMade(entry, bytes, from: file.offset)
            }
            return try end(FileEnd(status: .vanished), sent: 0)
        }
        let opened: FileDescriptor
        do throws(SystemCallError) {
            if pinned !== file.node {
                try file.node.pin()
                pinned?.unpin()
                pinned = file.node
            }
            opened = try open(file.entry.name, in: file.node.raw)
        } catch { return try end(failure(error), sent: 0) }
        return try send(file, opened)
    }

    /// The access time is left alone where the kernel lets us.
    private func open(_ name: [UInt8], in folder: Int32) throws(SystemCallError) -> FileDescriptor {
        // Without blocking, because a FIFO may have taken the file's place.
        let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
        let raw = try retryingOnInterrupt("openat", escaped(name)) {
            withCName(name) { name in
                let quiet = openat(folder, name, flags | noAccessTime)
                return quiet < 0 && errno == EPERM ? openat(folder, name, flags) : quiet
            }
        }
        return FileDescriptor(owning: raw)
    }

    private func send(_ file: Unsent, _ opened: borrowing FileDescriptor) throws -> Outcome {
        var sent: UInt64 = 0
        var status: FileStatus
        do throws(SystemCallError) { status = try opened.status() } catch {
            return try end(failure(error), sent: 0)
        }
        guard status.kind == .file else { return try end(FileEnd(status: .vanished), sent: 0) }
        // The part that the coordinator has belongs to the file as it was listed.
        var offset = file.offset
        let isAsListed =
            status.size == file.entry.size && status.mtime == file.entry.mtime
            && status.ctime == file.entry.ctime
            && status.inode == file.entry.inode
        if offset > 0 && (!isAsListed || offset > status.size) {
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
            switch try sendBytes(opened, from: offset, to: status.size, sent: &sent) {
            case .success(let end): read = end
            case .failure(let error): return try end(failure(error), sent: sent)
            }
            do throws(SystemCallError) { after = try opened.status() } catch {
                return try end(failure(error), sent: sent)
            }
            let isStable =
                read == status.size && after.size == status.size && after.mtime == status.mtime
                && after.ctime == status.ctime
            if isStable || attempt == Self.attempts {
                var result = FileEnd(status: isStable ? .stable : .changing)
                result.size = after.size
                result.mtime = after.mtime
                result.ctime = after.ctime
                result.inode = after.inode
                return try end(result, sent: sent)
            }
            try stream.send(AgentMessage.again)
            offset = 0
            status = after
        }
        return try end(FileEnd(status: .changing), sent: sent)
    }

    /// Sends up to `size`, not to the end of a file that grows as fast as it is read.
    ///
    /// - Returns: The position behind the last byte read.
    private func sendBytes(
        _ opened: borrowing FileDescriptor,
        from start: UInt64,
        to size: UInt64,
        sent: inout UInt64
    ) throws -> Result<UInt64, SystemCallError> {
        var position = start
        while position < size {
            let wanted = Int(min(UInt64(Self.step), size - position))
            let got: Int
            do throws(SystemCallError) {
                got = try opened.pread(
                    into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted]),
                    at: Int64(clamping: position)
                )
            } catch { return .failure(error) }
            if got == 0 { break }
            try stream.send(
                type: AgentMessage.dataType,
                body: UnsafeRawBufferPointer(rebasing: buffer[..<got])
            )
            position += UInt64(got)
            sent += UInt64(got)
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
        return try end(result, sent: UInt64(rest.count))
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

    private func end(_ end: FileEnd, sent: UInt64) throws -> Outcome {
        try stream.send(AgentMessage.fileEnd(end))
        return Outcome(end: end, sent: sent)
    }
}
