import Arguments
import Catalogue
import Fleet
import Glibc
import Health
import Immich
import Posix
import Postgres
import Repository
import SSH
import Wire

/// One capture, from the locks to the published snapshot, and what is left in order when it fails.
///
/// The order of writes: packs, then the index (both by the writer's `flush`), then the snapshot's file under a
/// temporary name; then one transaction on the connection that holds the locks compares the epoch, moves the file
/// into place and inserts the catalogue's row.
final class CaptureJob {
    private let fleet: FleetConfiguration
    private let host: HostRow
    private let stream: FrameStream
    private let stop: StopFlag
    private let patience: Patience
    private let program: String
    private let server: CatalogueServer
    private let lease: HostLease
    private let repository: Repository
    private let run: RunRow
    private let report = CaptureReport()
    private var writer: BlobWriter?
    private var conversation: CaptureConversation?
    private var lock: KeptLock?
    private var budget: SpaceBudget?
    private var watch: IndexWatch?
    private var lastProgress: Int64 = 0
    /// Until when an agent that was told of the end is heard.
    private var drainEnd: Int64?
    private let kind: CaptureKind
    private let scope: Scope

    private static let unheard = CaptureError.refused("the agent did not stop after its capture was ended")

    /// Takes the locks of the host and its run: one that waits, a full one first, or with `uninvited` the one of that
    /// kind that waits, or a new one. Nil when there is no run to do.
    ///
    /// - Throws: `CatalogueError.locked` when somebody else works on the host.
    init?(
        _ host: HostRow,
        fleet: FleetConfiguration,
        server: CatalogueServer,
        stream: FrameStream,
        stop: StopFlag,
        patience: Patience,
        program: String,
        uninvited: CaptureKind?
    ) throws {
        self.fleet = fleet
        self.server = server
        self.host = host
        self.stream = stream
        self.stop = stop
        self.patience = patience
        self.program = program
        scope = fleet.scope(of: host.name)
        repository = try fleet.openRepository(of: host.name)
        lease = try HostLease(
            host,
            .capture,
            server: server.address,
            epochFloor: Self.recordedEpoch(repository, host)
        )
        // Before anything else, so that no epoch is given out again when the catalogue is made anew.
        try repository.recordEpoch(lease.epoch ?? 0)
        let catalogue = lease.catalogue
        var found: RunRow?
        for kind in uninvited.map({ [$0] }) ?? CaptureKind.allCases where found == nil {
            found = try catalogue.claimRun(for: lease, kind: RunKind(kind))
        }
        let isQueued = found != nil
        if found == nil, let uninvited {
            found = try catalogue.startRun(for: lease, kind: RunKind(uninvited))
        }
        guard let run = found, let kind = run.kind.capture else {
            lease.release()
            patience.end()
            return nil
        }
        self.run = run
        self.kind = kind
        report.note(
            "a \(kind.name) capture starts\(isQueued ? "" : ", as its agent asked for"), "
                + (kind == .full ? "scope \(scope.name), " : "")
                + "epoch \(lease.epoch ?? 0), on \(Posix.Host.name)"
        )
    }

    /// Runs it. What ends only the capture is told to the agent and recorded, and the session goes on; what ends
    /// the connection is thrown.
    ///
    /// - Returns: Nil when the agent was told to start; else why not, and it still waits.
    func perform() throws -> String? {
        defer {
            patience.end()
            releaseLocks()
        }
        do { try takeRepository() } catch { return end(error).reason }
        let snapshot: String
        do {
            let counts = kind == .full && report.expectedFiles == nil
            try stream.send(.capture(run: run.id, kind: kind, scope: scope, count: counts))
            let skew = try stream.agentClockSkew()
            try lease.catalogue.noteContact(host: host.id, clockSkew: skew)
            if abs(Double(skew)) > 1e9 {
                let off = Human.duration(nanoseconds: Int64(clamping: skew.magnitude))
                report.note("the agent's clock is \(off) \(skew > 0 ? "ahead" : "behind")")
            }
            // The agent looks for Immich and starts the dump while the repository is made ready.
            let conversation = try prepare()
            self.conversation = conversation
            snapshot = try publish(conversation.run(), conversation)
        } catch {
            if case CaptureError.tooWide = error { writer?.abandon() } else { keepWhatCame() }
            try endCapture(error)
            return nil
        }
        // From here on an agent that is gone ends the connection and no longer the backup. Whoever hears of the end finds
        // the host free.
        releaseLocks()
        try stream.send(.committed(snapshot: snapshot))
        try stream.flush()
        judge()
        return nil
    }

    // MARK: Before

    /// A damaged file is set aside: the catalogue knows the epochs too, and the next is written anew.
    private static func recordedEpoch(_ repository: Repository, _ host: HostRow) throws -> Int64 {
        do { return try repository.epoch() } catch RepositoryError.damaged(let file, let reason) {
            let place = try repository.setAside("holdfast/epoch")
            Log.write(.warning, "\(host.name): \(file) is damaged (\(reason)) and now lies in \(place)")
            return 0
        }
    }

    /// Takes restic's lock.
    private func takeRepository() throws {
        try lease.removeDeadLocks(of: repository)
        lock = try KeptLock(repository, owner: lease.id)
        if let newest = try lease.catalogue.latestSnapshot(of: host, kind: kind) {
            report.expectedFiles = UInt64(max(0, newest.files))
            report.expectedBytes = UInt64(max(0, newest.bytes))
        }
    }

    /// Puts in order what earlier runs left, and loads what is there.
    private func prepare() throws -> CaptureConversation {
        try lock?.confirm()
        // Written again when its last change, or a join, was cut off before it.
        try repository.keepRecord(
            of: lease.catalogue.host(id: host.id) ?? host,
            keys: lease.catalogue.keys(of: host)
        )
        _ = try repository.removeLeftovers(before: run.started ?? Time.now())
        try repository.syncNames()
        let indexFiles = try repository.list(.index)
        var index = try repository.loadIndex()
        let adoption = try repository.adoptOrphanPacks(into: &index)
        for pack in adoption.aside {
            try event(
                .warning,
                "pack-aside",
                "a pack that an earlier run left was damaged and set aside: \(pack)"
            )
        }
        watch = try IndexWatch(repository, listed: indexFiles, index)
        try SnapshotAdoption(repository, lease).run { index }
        let budget = try SpaceBudget(host.name, fleet, repository, index)
        try budget.checkLimit(nil)
        try budget.checkFree()
        self.budget = budget

        // A snapshot may have been adopted just now.
        let newest = try lease.catalogue.latestSnapshot(of: host, kind: kind)
        // What an interrupted full capture left is for the next full one.
        var checkpoint: Checkpoint?
        var journal: CaptureJournal?
        if kind == .full {
            // A checkpoint that can't be read costs time, not safety.
            checkpoint = (try? repository.readSealed(Checkpoint.fileName)).flatMap { $0 }.flatMap(
                Checkpoint.init
            )
            journal = try CaptureJournal(repository)
            if checkpoint != nil { report.note("it goes on with what an interrupted one left") }
        }
        let writer = try BlobWriter(repository, index)
        self.writer = writer
        return CaptureConversation(
            kind,
            stream: stream,
            writer: writer,
            repository: repository,
            earlier: [newest.flatMap { BlobID(hex: $0.tree) }, checkpoint?.tree].compactMap { $0 },
            resumed: (checkpoint?.partials ?? []) + [journal?.partial].compactMap { $0 },
            journal: journal,
            report: report,
            // This job holds the conversation.
            tick: { [weak self] in try self?.tick() }
        )
    }

    /// Between frames: progress once a second, and the end when the lock is lost or the service stops.
    private func tick() throws {
        patience.heard()
        if let writer { try budget?.checkLimit(writer.figures) }
        try look()
    }

    /// Also while nothing comes from the agent: progress once a second, and the end when somebody asked for it, the lock
    /// is lost or the service stops.
    func look() throws {
        if stop.isSet { throw CaptureError.stopping }
        let now = Time.monotonic()
        if let drainEnd {
            guard now < drainEnd else { throw Self.unheard }
            return
        }
        guard now - lastProgress >= 1_000_000_000 else { return }
        lastProgress = now
        let catalogue = lease.catalogue
        try writeNotes(catalogue)
        let isCancelled = try catalogue.progress(
            run.id,
            lease: lease,
            phase: report.phase.rawValue,
            figures: figures
        )
        if isCancelled { throw CaptureError.cancelled }
        try lock?.requireHeld()
        try budget?.checkFree()
    }

    private func writeNotes(_ catalogue: Catalogue) throws {
        while let note = report.notes.first {
            try catalogue.log(note.text, run: run.id, at: note.time)
            report.dropNote()
        }
    }

    private var figures: RunFigures { report.figures(stored: writer?.figures.storedBytes ?? 0) }

    private func event(_ severity: EventRow.Severity, _ kind: String, _ message: String) throws {
        Log.write(severity == .info ? .info : .warning, "\(host.name): \(message)")
        try lease.catalogue.addEvent(severity, kind: kind, host: host.id, message)
    }

    // MARK: The end

    private func releaseLocks() {
        lock?.release()
        lease.release()
    }

    /// Makes the snapshot of a tree that is stored, and gives its id.
    private func publish(_ tree: BlobID, _ conversation: CaptureConversation) throws -> String {
        guard let dump = conversation.dump, let writer, let epoch = lease.epoch else {
            throw CaptureError.refused("a commit without a dump")
        }
        report.phase = .publish
        lastProgress = 0
        try tick()
        try writer.flush()
        try watch?.requireAll(of: tree, writer)
        try lock?.requireHeld()
        let incomplete = report.problemCount > 0
        let marks = SnapshotMarks(
            epoch: epoch,
            run: run.id,
            kind: kind,
            scope: scope,
            incomplete: incomplete,
            dumpName: dump.name,
            immichVersion: dump.immichVersion,
            postgresVersion: dump.postgresVersion
        )
        let stored = writer.figures
        var summary = Snapshot.Summary(
            backupStart: ZonedTime(nanoseconds: run.started ?? dump.time),
            backupEnd: ZonedTime(nanoseconds: Time.now())
        )
        summary.filesNew = UInt64(report.filesSent)
        summary.filesUnmodified = UInt64(report.filesUnchanged)
        summary.dataBlobs = UInt64(stored.dataBlobs)
        summary.treeBlobs = UInt64(stored.treeBlobs)
        summary.dataAdded = UInt64(stored.plainBytes)
        summary.dataAddedPacked = UInt64(stored.storedBytes)
        summary.totalFiles = UInt64(report.filesSeen + 1)
        summary.totalBytes = report.bytesSeen + report.dumpBytes
        let snapshot = Snapshot(
            time: ZonedTime(nanoseconds: dump.time),
            tree: tree,
            paths: ["/"],
            hostname: host.name,
            username: "holdfast",
            tags: marks.tags,
            programVersion: program,
            summary: summary,
            restoreSize: conversation.restoreSize
        )
        let staged = try repository.stageSnapshot(snapshot.encoded())
        let row = marks.row(id: staged.id, snapshot: snapshot, dumpBytes: report.dumpBytes)
        do { try lease.publish(row) { try staged.publish() } } catch {
            guard case CatalogueError.publishUnknown = error, isPublished(staged.id) else { throw error }
        }
        // The snapshot is there, whatever goes wrong now. Whoever finds no end of the run sees that it is done, and a
        // checkpoint that stays is no more than of no use.
        do {
            if kind == .full {
                try repository.removeSide(Checkpoint.fileName)
                try repository.removeSide(CaptureJournal.fileName)
            }
        } catch {
            Log.write(.warning, "\(host.name): the checkpoint of an earlier run was not removed: \(error)")
        }
        report.note("snapshot \(staged.id.short) is published")
        judge { try Watch.noteVersions(of: host, snapshot: staged.id.hex, $0) }
        do { try record(incomplete ? .incomplete : .done) } catch {
            Log.write(.warning, "\(host.name): the end of the run could not be recorded: \(error)")
        }
        Log.write(
            .notice,
            "\(host.name): snapshot \(staged.id.short) published: \(report.filesSeen) files, "
                + "\(report.filesSent) sent, \(report.problemCount) problems"
        )
        return staged.id.hex
    }

    /// Whether a publication whose answer was lost has happened.
    private func isPublished(_ id: BlobID) -> Bool {
        let rows = try? server.use { try $0.snapshots(of: host) }
        return rows?.contains { $0.id == id.hex } ?? false
    }

    /// Finds out what the run means for the host, before anybody hears of its end and may want to delete something. The
    /// watch would find it too, within its half minute.
    private func judge(_ more: (Catalogue) throws -> Void = { _ in }) {
        do {
            try recording {
                try more($0)
                try Watch.look(at: host, $0, fleet.policy(of: host.name))
            }
        } catch {
            Log.write(.warning, "\(host.name): how it stands after the run could not be recorded: \(error)")
        }
    }

    private func record(_ state: RunRow.State, _ end: CaptureEnd? = nil) throws {
        // Nothing more is written to the repository: whoever hears of the end finds it free for a stock client.
        lock?.release()
        report.noteFiles()
        report.note("\(state.rawValue)\(end.map { ": \($0.reason)" } ?? "")")
        try recording { try writeNotes($0) }
        let problems = report.problems.map { RunProblem(path: $0.path, message: $0.message) }
        if !problems.isEmpty { try recording { try $0.addProblems(problems, run: run.id) } }
        try recording {
            try $0.progress(run.id, lease: lease, phase: report.phase.rawValue, figures: figures)
        }
        try recording {
            try $0.finish(
                run.id,
                lease: lease,
                state: state,
                figures: figures,
                error: end?.reason,
                failure: end?.failure
            )
        }
    }

    /// Writes on the lock's connection or, when that is gone, on a new one.
    private func recording(_ body: (Catalogue) throws -> Void) throws {
        do { try body(lease.catalogue) } catch is PostgresError { try server.use(body) }
    }

    /// Makes what an interrupted capture stored count for the next one, as far as that still works. Without the lock
    /// nothing is written any more: the host may be somebody else's by now.
    private func keepWhatCame() {
        do {
            try lease.verifyStillHeld()
            try conversation?.checkpoint()
        } catch {
            Log.write(.warning, "\(host.name): what the interrupted run stored was not all kept: \(error)")
        }
        writer?.abandon()
    }

    /// Records why the run ended.
    private func end(_ error: any Error) -> CaptureEnd {
        let error = patience.isOver.isSet ? CaptureError.silent : error
        let end = CaptureEnd(error, stopping: stop.isSet, phase: report.phase)
        Log.write(.error, "\(host.name): the backup failed: \(end.reason)")
        do { try record(end.state, end) } catch {
            // The next who looks marks the run as interrupted.
            Log.write(.error, "\(host.name): the end of the run could not be recorded: \(error)")
            return end
        }
        judge()
        return end
    }

    /// Records why a capture ended that the agent takes part in; tells the agent unless it said so itself, or is gone,
    /// in which case the error goes on.
    private func endCapture(_ error: any Error) throws {
        let end = end(error)
        if end.state == .interrupted || error is WireError { throw error }
        if case CaptureError.agent = error { return }
        // The run is over: the next may begin while this agent still hears of it.
        releaseLocks()
        try stream.send(.abort(message: end.reason))
        try drain()
    }

    /// Drops what the agent had under way when it was told of the abort, up to its acknowledgement.
    private func drain() throws {
        let end = Time.monotonic() + 60_000_000_000
        drainEnd = end
        while Time.monotonic() < end {
            let type = try stream.receive { type, _ in type }
            if type == AgentMessage.failed(message: "").type { return }
        }
        throw Self.unheard
    }
}
