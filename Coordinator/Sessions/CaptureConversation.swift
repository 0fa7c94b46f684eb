import Arguments
import Posix
package import Repository
package import Wire

/// The coordinator's side of one capture, from the `capture` frame to the agent's `commit`: the states dumping and
/// files of protocol.md. It stores; it publishes nothing.
package final class CaptureConversation {
    /// New bytes after which what has come so far is made to count for the next capture too, should this one be
    /// killed: packs and index synced, and the checkpoint written.
    private static let checkpointBytes: UInt64 = 2 << 30
    private static let checkpointNanoseconds: Int64 = 120_000_000_000
    /// New bytes, and bytes of records, after which the journal is written.
    private static let journalBytes: Int64 = 8 << 20
    private static let journalRecords = 64 << 10

    private let kind: CaptureKind
    private let stream: FrameStream
    private let repository: Repository
    private let writer: BlobWriter
    private let earlier: [BlobID]
    private let resumed: [Checkpoint.PartialFile]
    private let journal: CaptureJournal?
    private let report: CaptureReport
    /// Called after every frame: keeps locks fresh and progress shown; throws to end the capture.
    private let tick: () throws -> Void

    package private(set) var dump: DumpDescription?
    private var tree: TreeReceiver?
    /// Of all that was stored; nil before the files.
    package var restoreSize: RestoreSize? { tree?.restoreSize }
    private var lastCheckpoint = Time.monotonic()
    private var storedAtCheckpoint: UInt64 = 0
    private var storedInJournal: Int64 = 0
    /// What the last checkpoint took.
    private var checkpointCost: Int64 = 0

    /// What the agent said of the dump, and where it was stored.
    package struct DumpDescription {
        package let name: String
        let kind: DumpKind
        let immichVersion: String
        let postgresVersion: String
        /// When its first frame came: the moment the data is of, by this machine's clock.
        let time: Int64
    }

    /// - Parameters:
    ///   - earlier: Root trees to compare with, the newest snapshot's first.
    ///   - resumed: How far interrupted captures came in files they were receiving.
    ///   - journal: What a killed capture stored; nil for one of the database alone, which neither goes on with an
    ///     earlier one nor takes its place.
    package init(
        _ kind: CaptureKind,
        stream: FrameStream,
        writer: BlobWriter,
        repository: Repository,
        earlier: [BlobID],
        resumed: [Checkpoint.PartialFile],
        journal: CaptureJournal?,
        report: CaptureReport,
        tick: @escaping () throws -> Void
    ) {
        self.kind = kind
        self.stream = stream
        self.writer = writer
        self.repository = repository
        self.earlier = earlier
        self.resumed = resumed
        self.journal = journal
        self.report = report
        self.tick = tick
    }

    /// Receives the dump and the files; gives the root's tree once the agent has committed.
    ///
    /// - Throws: `CaptureError`, `WireError`, and whatever storing throws.
    package func run() throws -> BlobID {
        let node = try receiveDump()
        report.phase = .files
        let tree = try TreeReceiver(
            kind,
            reader: BlobReader(repository, writer.index),
            writer: writer,
            chunker: Chunker(repository.master, .media),
            earlier: earlier,
            resumed: resumed,
            journal: journal,
            dump: node,
            report: report
        )
        self.tree = tree
        return try receiveFiles(tree)
    }

    private func receiveDump() throws -> Node {
        var receiver: DumpReceiver?
        while true {
            let message = try next { bytes in
                guard receiver != nil else {
                    throw WireError.unexpected(type: AgentMessage.dataType, state: "no dump was announced")
                }
                try receiver?.data(bytes)
                self.report.dumpBytes += UInt64(bytes.count)
            }
            switch message {
            case nil: break
            case .dump(let name, let kind, let immichVersion, let postgresVersion)?:
                guard receiver == nil else { throw unexpected(5, "a dump is being received") }
                report.phase = .dump
                report.note(
                    "the dump begins: \(name), Immich \(immichVersion.isEmpty ? "of an unknown version" : immichVersion), "
                        + "PostgreSQL \(postgresVersion)"
                )
                receiver = try DumpReceiver(
                    name: name,
                    kind: kind,
                    writer: writer,
                    chunker: Chunker(repository.master, .dump)
                )
                dump = DumpDescription(
                    name: name,
                    kind: kind,
                    immichVersion: immichVersion,
                    postgresVersion: postgresVersion,
                    time: Time.now()
                )
            case .dumpEnd?:
                guard let node = try receiver?.finish(time: dump?.time ?? 0) else {
                    throw unexpected(7, "no dump was announced")
                }
                let took = Human.duration(nanoseconds: Time.now() - (dump?.time ?? 0))
                report.note("the dump is whole: \(Human.bytes(report.dumpBytes)) in \(took)")
                return node
            case .some(let other): throw unexpected(other.type, "the dump is due")
            }
        }
    }

    private func receiveFiles(_ tree: TreeReceiver) throws -> BlobID {
        while true {
            switch try next(data: tree.data) {
            case nil: break
            case .list(let entries, let last)?:
                try stream.send(.want(tree.list(entries, last: last)))
            case .folderFailed(let code)?: try tree.folderFailed(errno: code)
            case .again?: try tree.again()
            case .fileEnd(let end)?: try tree.fileEnd(end)
            case .attributes(let owner, let attributes)?: try tree.attributes(attributes, of: owner)
            case .skipped(let path, let reason)?: report.skip(path, reason)
            case .commit?:
                guard let root = tree.tree else {
                    throw WireError.malformed("a commit before everything was sent")
                }
                return root
            case .some(let other): throw unexpected(other.type, "files are being received")
            }
            try checkpointIfDue()
        }
    }

    /// The next message, or nil after a `data` frame, whose bytes `data` got; what may come in any state of a
    /// capture is dealt with here.
    private func next(data: (UnsafeRawBufferPointer) throws -> Void) throws -> AgentMessage? {
        try tick()
        let message: AgentMessage? = try stream.receive { type, body in
            if type == AgentMessage.dataType {
                try data(body)
                return nil
            }
            return try AgentMessage(type: type, body: body)
        }
        switch message {
        case .failed(let reason)?: throw CaptureError.agent(reason)
        case .expect(let files, let bytes)?:
            report.expectedFiles = files
            report.expectedBytes = bytes
            return nil
        default: return message
        }
    }

    private func unexpected(_ type: UInt8, _ state: String) -> WireError {
        .unexpected(type: type, state: state)
    }

    // MARK: Checkpoints

    private func checkpointIfDue() throws {
        guard let journal else { return }
        let packed = writer.figures.storedBytes
        if packed - storedInJournal >= Self.journalBytes || journal.pending >= Self.journalRecords {
            storedInJournal = packed
            try journal.write(tree?.partial)
        }
        let now = Time.monotonic()
        let stored = report.bytesSent - storedAtCheckpoint
        guard stored > 0,
            stored >= Self.checkpointBytes || now - lastCheckpoint >= Self.checkpointNanoseconds,
            // Of very wide folders it takes long.
            now - lastCheckpoint >= 20 * checkpointCost
        else { return }
        try checkpoint()
    }

    /// Makes all that has come so far count for the next capture.
    package func checkpoint() throws {
        guard let tree, let journal else { return }
        let start = Time.monotonic()
        let record = try tree.checkpoint()
        try writer.flush()
        try repository.writeSealed(Checkpoint.fileName, record.encoded)
        try journal.restart()
        lastCheckpoint = Time.monotonic()
        checkpointCost = lastCheckpoint - start
        storedAtCheckpoint = report.bytesSent
        report.note(
            "checkpoint: \(Human.count(report.filesSent)) files with \(Human.bytes(report.bytesSent)) count for the next "
                + "backup too"
        )
    }
}
