import Posix
import Wire

/// How far a capture is, and in the end what came of it.
package struct Progress: Equatable, Sendable {
    package enum Phase: String, Sendable {
        case finding = "looking for Immich"
        case dumping = "dumping the database"
        case files = "sending files"
        case committing = "publishing"
    }

    package var phase = Phase.finding
    package var dumpBytes: UInt64 = 0
    /// Entries listed.
    package var listed: UInt64 = 0
    /// Files the coordinator asked for, and those sent.
    package var wanted: UInt64 = 0
    package var files: UInt64 = 0
    /// Bytes of files sent.
    package var bytes: UInt64 = 0
    package var unreadable: UInt64 = 0
    package var changing: UInt64 = 0
    package var vanished: UInt64 = 0
    package var failedFolders: UInt64 = 0
    package var skipped: UInt64 = 0
    /// Escaped paths of unreadable and changing files, the first few.
    package var named: [String] = []

    package init() {}

    /// Whether something could not be taken as it is.
    package var isIncomplete: Bool { unreadable + changing + failedFolders > 0 }
}

/// Gathers progress and shows it a few times a second.
final class ProgressBox {
    private(set) var value = Progress()
    private let show: (Progress) -> Void
    private let always: () throws -> Void
    private var last: Int64 = 0

    /// - Parameter always: Called at every tick; throws to end the capture.
    init(show: @escaping (Progress) -> Void, always: @escaping () throws -> Void) {
        self.show = show
        self.always = always
    }

    func tick() throws {
        try always()
        let now = Time.monotonic()
        if now - last < 100_000_000 { return }
        last = now
        show(value)
    }

    func begin(_ phase: Progress.Phase) {
        value.phase = phase
        show(value)
    }

    func dumped(_ count: Int) { value.dumpBytes += UInt64(count) }
    func listed(_ count: Int) { value.listed += UInt64(count) }
    func wanted(_ count: Int) { value.wanted += UInt64(count) }
    func sent(bytes: Int) { value.bytes += UInt64(bytes) }
    func folderFailed() { value.failedFolders += 1 }
    func skipped() { value.skipped += 1 }

    func ended(_ file: Unsent, _ end: FileEnd) {
        value.files += 1
        switch end.status {
        case .stable: return
        case .vanished: value.vanished += 1
        case .changing:
            value.changing += 1
            name(file, "it keeps changing")
        case .unreadable:
            value.unreadable += 1
            name(file, describeErrno(end.errno))
        }
    }

    private func name(_ file: Unsent, _ why: String) {
        guard value.named.count < 20 else { return }
        value.named.append("\(escaped(file.node.snapshotPath + [0x2F] + file.entry.name)): \(why)")
    }
}
