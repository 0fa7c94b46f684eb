import Posix
import Wire

/// The files' part of a capture: lists ahead, takes the coordinator's answers, sends what it wants.
package final class FilePhase {
    private struct Awaited {
        let node: FolderNode
        let entries: [Entry]
        /// What it counts against the window.
        var weight: Int { max(1, entries.count) }
    }

    /// Entries of one part of a list.
    private static let part = 512

    private static let stepsBetweenLooks = 32

    private let stream: FrameStream
    private var walk: Walk
    private var listed = false
    /// Listed and not yet answered, the oldest first.
    private var awaited = Queue<Awaited>()
    private var unsent = Queue<Unsent>()
    /// Entries that wait for an answer and files that wait to be sent, together: each of the two limits holds.
    private var window = 0
    private let hear: (CoordinatorMessage) throws -> Void
    private let progress: ProgressBox

    /// - Parameter hear: Told of every frame that is no `want`; throws to end the phase.
    init(
        _ stream: FrameStream,
        root: FolderNode,
        progress: ProgressBox,
        hear: @escaping (CoordinatorMessage) throws -> Void
    ) {
        self.stream = stream
        walk = Walk(root)
        self.progress = progress
        self.hear = hear
    }

    /// Runs until every folder was listed and every wanted file sent.
    func run() throws {
        let sender = FileSender(stream) { [self] count in
            progress.sent(bytes: count)
            try takeWaiting()
        }
        var steps = 0
        while true {
            // Looking at the connection costs as much as a small file.
            steps += 1
            if steps % Self.stepsBetweenLooks == 0 { try takeWaiting() }
            if !listed && window + Self.part <= min(WireLimit.unanswered, WireLimit.unsent) {
                try list()
            } else if let file = unsent.popFirst() {
                window -= 1
                let outcome = try sender.send(file)
                progress.sent(bytes: outcome.sent)
                if outcome.leftOut { progress.skipped() }
                progress.ended(file, outcome.end)
            } else if !awaited.isEmpty {
                try take(try stream.receiveFromCoordinator())
            } else if listed {
                return
            }
        }
    }

    private func takeWaiting() throws {
        try progress.tick()
        while try stream.frameWaits() { try take(try stream.receiveFromCoordinator()) }
    }

    private func list() throws {
        switch walk.next(maximum: Self.part) {
        case nil: listed = true
        case .failed(let node, let code):
            // Without one of Immich's six a snapshot would look as if all were deleted.
            if case .onDisk(_, top: true) = node.content {
                let name = escaped(node.name)
                throw CaptureFailure(
                    .folders,
                    "Immich's folder '\(name)' cannot be listed: \(describeErrno(code))"
                )
            }
            progress.folderFailed()
            try stream.send(AgentMessage.folderFailed(errno: code))
        case .list(let node, let entries, let last, let attributes):
            if !attributes.isEmpty { try stream.send(AgentMessage.attributes(of: .folder, attributes)) }
            try stream.send(AgentMessage.list(entries: entries, last: last))
            let part = Awaited(node: node, entries: entries)
            window += part.weight
            awaited.append(part)
            progress.listed(entries.count)
        }
        for (path, reason) in walk.skipped {
            progress.skipped()
            try stream.send(AgentMessage.skipped(path: path, reason: reason))
        }
        walk.skipped.removeAll()
        for note in walk.notes { Log.write(.info, note) }
        walk.notes.removeAll()
    }

    private func take(_ message: CoordinatorMessage) throws {
        guard case .want(let files) = message else { return try hear(message) }
        guard let part = awaited.popFirst() else {
            throw WireError.unexpected(type: message.type, state: "listing")
        }
        window -= part.weight
        var before = -1
        for file in files {
            let index = Int(file.index)
            guard index > before, index < part.entries.count, part.entries[index].kind == .file else {
                throw WireError.malformed("a file is wanted that was not listed")
            }
            before = index
            unsent.append(Unsent(node: part.node, entry: part.entries[index], offset: file.offset))
        }
        window += files.count
        progress.wanted(files.count)
    }
}
