import Digest
import Posix
package import Repository
import Restore
package import Wire

/// The side of a restore that has the snapshot: lists ahead, takes the answers, sends the content (protocol.md).
package final class SnapshotSender {
    private struct Listed {
        let items: [Item]
        var weight: Int { max(1, items.count) }
    }

    private let repository: Repository
    private let index: BlobIndex
    /// From the start; each `run` goes through a copy.
    private let walk: RestoreWalk
    /// What is told first.
    package let what: Restoring

    private var awaited = Queue<Listed>()
    private var unsent = Queue<(item: Item, offset: UInt64)>()
    /// Entries that wait for an answer and files that wait to be sent, together; and their parts.
    private var window = 0
    private var partsAhead = 0

    /// Bytes of one `data` frame.
    private static let frame = 256 << 10
    /// Listing pauses while so many parts wait.
    private static let partsEnough = 1 << 16

    /// Learns what there is to do: from the snapshot, or for parts of one, and for one that does not say it, from a walk.
    ///
    /// - Parameters:
    ///   - host: Whose snapshot it is, for the other side.
    ///   - include: Paths in the snapshot as bytes, names joined with `/`: what lies at or below one of them is
    ///     restored. None: everything.
    /// - Throws: `RestoreError.nothingReadable`, `.notInSnapshot`.
    package init(
        _ repository: Repository,
        _ index: BlobIndex,
        host: String,
        id: String,
        snapshot: Snapshot,
        include: [[UInt8]]
    ) throws {
        self.repository = repository
        self.index = index
        let selection = Selection(include)
        walk = try RestoreWalk(BlobReader(repository, index), index, snapshot.tree, selection)
        let said = include.isEmpty ? snapshot.restoreSize : nil
        let size = try said ?? RestoreSize(walking: walk, selection)
        what = Restoring(
            host: host,
            snapshot: id,
            time: snapshot.time.nanoseconds,
            includes: selection.includes.map { Array($0.joined(separator: [0x2F])) },
            files: size.files,
            bytes: size.bytes,
            space: size.space
        )
    }

    /// Sends everything that `what` says, from `restoring` to `done`.
    ///
    /// - Parameter tick: Called between frames; throws to end it.
    /// - Throws: `WireError` for a side that does not keep to the protocol, the channel's errors, those of `tick`,
    ///   `SystemCallError`.
    package func run(_ stream: FrameStream, tick: () throws -> Void = {}) throws {
        try stream.send(RestoreReply.restoring(what))
        var walk = self.walk
        let feed = try BlobFeed(repository, index)
        var isListed = false
        while true {
            try tick()
            while try stream.frameWaits() { try takeAnswer(stream, feed) }
            if !isListed, window + RestoreLimit.entries <= RestoreLimit.ahead, partsAhead <= Self.partsEnough
            {
                if let step = try walk.next() { try list(step, stream) } else { isListed = true }
            } else if let (item, offset) = unsent.popFirst() {
                try send(item, from: offset, stream, feed, tick)
                window -= 1
                partsAhead -= item.parts.count
            } else if !awaited.isEmpty {
                try takeAnswer(stream, feed)
            } else if isListed {
                break
            }
        }
        try stream.send(RestoreReply.done)
        try stream.flush()
    }

    private func list(_ step: RestoreWalk.Step, _ stream: FrameStream) throws {
        for problem in step.problems {
            try stream.send(
                RestoreReply.problem(path: problem.path, problem.trouble, message: problem.message)
            )
        }
        // A file of many parts ends its frame; the rest of them follows.
        var from = 0
        repeat {
            let long = step.items[from...].firstIndex { $0.parts.count > RestoreLimit.partsPerFrame }
            let end = long.map { $0 + 1 } ?? step.items.count
            let items = Array(step.items[from..<end])
            var told = items
            if let last = items.last, long != nil {
                told[told.count - 1] = Item(
                    entry: last.entry,
                    parts: Array(last.parts.prefix(RestoreLimit.partsPerFrame)),
                    partCount: last.parts.count
                )
            }
            try stream.send(RestoreReply.items(told, last: step.isLast && end == step.items.count))
            if let last = items.last, long != nil {
                for start in stride(
                    from: RestoreLimit.partsPerFrame,
                    to: last.parts.count,
                    by: RestoreLimit.partsPerFrame
                ) {
                    let parts = last.parts[start...].prefix(RestoreLimit.partsPerFrame)
                    try stream.send(RestoreReply.parts(Array(parts)))
                }
            }
            let listed = Listed(items: items)
            window += listed.weight
            partsAhead += items.reduce(0) { $0 + $1.parts.count }
            awaited.append(listed)
            from = end
        } while from < step.items.count
    }

    private func takeAnswer(_ stream: FrameStream, _ feed: BlobFeed) throws {
        let answer = try stream.receive { try RestoreRequest(type: $0, body: $1) }
        guard case .fetch(let files) = answer, let listed = awaited.popFirst() else {
            throw WireError.unexpected(type: answer.type, state: "restoring")
        }
        var before = -1
        var parts = listed.items.reduce(0) { $0 + $1.parts.count }
        for file in files {
            let index = Int(file.index)
            guard index > before, index < listed.items.count, listed.items[index].entry.kind == .file else {
                throw WireError.malformed("a file is wanted that was not listed")
            }
            before = index
            let item = listed.items[index]
            parts -= item.parts.count
            var start: UInt64 = 0
            for part in item.parts {
                if start >= file.offset, let id = BlobID(bytes: part.hash.bytes), part.length > 0 {
                    feed.wish(id)
                }
                guard start >= file.offset || start + UInt64(part.length) <= file.offset else {
                    throw WireError.malformed("a file is wanted from the middle of a part")
                }
                start += UInt64(part.length)
            }
            guard file.offset <= item.entry.size, !item.parts.isEmpty else {
                throw WireError.malformed("a file is wanted from behind its end")
            }
            unsent.append((item, file.offset))
        }
        window += files.count - listed.weight
        partsAhead -= parts
    }

    private func send(
        _ item: Item,
        from offset: UInt64,
        _ stream: FrameStream,
        _ feed: BlobFeed,
        _ tick: () throws -> Void
    ) throws {
        var start: UInt64 = 0
        for part in item.parts {
            defer { start += UInt64(part.length) }
            if start < offset { continue }
            if part.length == 0 {
                try stream.send(
                    RestoreReply.damaged(reason: "no index lists the blob \(hex(part.hash.bytes))")
                )
                continue
            }
            try feed.next { bytes in
                guard bytes.count == Int(part.length) else {
                    throw WireError.malformed("a blob of another length than its index says")
                }
                for position in stride(from: 0, to: bytes.count, by: Self.frame) {
                    let frame = bytes[position..<min(position + Self.frame, bytes.count)]
                    try stream.send(
                        type: RestoreReply.dataType,
                        body: UnsafeRawBufferPointer(rebasing: frame)
                    )
                    if position > 0 {
                        try tick()
                        while try stream.frameWaits() { try takeAnswer(stream, feed) }
                    }
                }
            } damaged: { reason in
                try stream.send(RestoreReply.damaged(reason: reason))
            }
        }
    }
}
