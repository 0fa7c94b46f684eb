import Catalogue
import Posix
import Repository
import Wire

/// What a snapshot says of itself in its tags, so that the catalogue's row can be made again from the file: restic
/// keeps tags through every rewriting.
struct SnapshotMarks {
    var epoch: Int64
    /// UUID.
    var run: String?
    var kind: CaptureKind
    /// Nil for one of the database alone.
    var scope: Scope?
    var incomplete: Bool
    var dumpName: String?
    var immichVersion: String?
    var postgresVersion: String?

    private static let mark = "holdfast"

    var tags: [String] {
        var tags = [Self.mark, "kind:\(kind.name)", "epoch:\(epoch)"]
        if let scope { tags.append("scope:\(scope.name)") }
        if let run { tags.append("run:\(run)") }
        if let dumpName { tags.append("dump:\(dumpName)") }
        if let immichVersion { tags.append("immich:\(immichVersion)") }
        if let postgresVersion { tags.append("postgres:\(postgresVersion)") }
        if incomplete { tags.append("incomplete") }
        return tags
    }

    /// A comma in a tag can't be named on restic's command line.
    private static func tagText(_ text: String) -> String {
        String(text.prefix(64).map { $0 == "," ? " " : $0 })
    }

    init(
        epoch: Int64,
        run: String?,
        kind: CaptureKind,
        scope: Scope?,
        incomplete: Bool,
        dumpName: String?,
        immichVersion: String?,
        postgresVersion: String?
    ) {
        self.epoch = epoch
        self.run = run
        self.kind = kind
        self.scope = kind == .full ? scope : nil
        self.incomplete = incomplete
        self.dumpName = dumpName
        self.immichVersion = immichVersion.map(Self.tagText)
        self.postgresVersion = postgresVersion.map(Self.tagText)
    }

    /// Nil for a snapshot that Holdfast did not make.
    init?(tags: [String]) {
        guard tags.contains(Self.mark) else { return nil }
        func value(_ name: String) -> String? {
            tags.first { $0.hasPrefix(name + ":") }.map { String($0.dropFirst(name.count + 1)) }
        }
        let scope = value("scope").flatMap { Scope(name: $0) }
        guard let epoch = value("epoch").flatMap({ Int64($0) }),
            let kind = CaptureKind(name: value("kind") ?? ""), kind == .database || scope != nil
        else { return nil }
        self.init(
            epoch: epoch,
            run: value("run"),
            kind: kind,
            scope: scope,
            incomplete: tags.contains("incomplete"),
            dumpName: value("dump"),
            immichVersion: value("immich"),
            postgresVersion: value("postgres")
        )
    }

    /// The catalogue's row of a snapshot with these marks.
    func row(id: BlobID, snapshot: Snapshot, dumpBytes: UInt64?) -> SnapshotRow {
        SnapshotRow(
            id: id.hex,
            kind: kind,
            run: run,
            time: snapshot.time.nanoseconds,
            tree: snapshot.tree.hex,
            epoch: epoch,
            scope: scope?.name ?? "",
            dumpName: dumpName,
            dumpBytes: dumpBytes.map { Int64(clamping: $0) },
            immichVersion: immichVersion,
            postgresVersion: postgresVersion,
            files: Int64(clamping: snapshot.summary?.totalFiles ?? 0),
            bytes: Int64(clamping: snapshot.summary?.totalBytes ?? 0),
            storedBytes: Int64(clamping: snapshot.summary?.dataAddedPacked ?? 0),
            incomplete: incomplete
        )
    }
}
