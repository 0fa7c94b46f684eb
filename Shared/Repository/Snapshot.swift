import JSON

/// What a snapshot file says.
package struct Snapshot: Equatable, Sendable {
    package var time: ZonedTime
    package var parent: BlobID?
    package var tree: BlobID
    /// Absolute, as the admin of the host knows them.
    package var paths: [String]
    package var hostname: String
    package var username: String
    package var uid: UInt32
    package var gid: UInt32
    package var excludes: [String]
    package var tags: [String]
    /// The first incarnation of a snapshot that was rewritten.
    package var original: BlobID?
    package var programVersion: String
    package var summary: Summary?
    /// Ours: stock readers pass over it, and leave it out of a snapshot that they rewrite.
    package var restoreSize: RestoreSize?

    /// restic 0.17 and later.
    package struct Summary: Equatable, Sendable {
        package var backupStart: ZonedTime
        package var backupEnd: ZonedTime
        package var filesNew: UInt64 = 0
        package var filesChanged: UInt64 = 0
        package var filesUnmodified: UInt64 = 0
        package var directoriesNew: UInt64 = 0
        package var directoriesChanged: UInt64 = 0
        package var directoriesUnmodified: UInt64 = 0
        /// Blobs added.
        package var dataBlobs: UInt64 = 0
        package var treeBlobs: UInt64 = 0
        /// Plaintext bytes of the blobs added.
        package var dataAdded: UInt64 = 0
        /// Their bytes in the repository.
        package var dataAddedPacked: UInt64 = 0
        package var totalFiles: UInt64 = 0
        package var totalBytes: UInt64 = 0

        package init(backupStart: ZonedTime, backupEnd: ZonedTime) {
            self.backupStart = backupStart
            self.backupEnd = backupEnd
        }
    }

    package init(
        time: ZonedTime,
        tree: BlobID,
        paths: [String],
        hostname: String,
        username: String = "",
        uid: UInt32 = 0,
        gid: UInt32 = 0,
        tags: [String] = [],
        parent: BlobID? = nil,
        programVersion: String = "",
        summary: Summary? = nil,
        restoreSize: RestoreSize? = nil
    ) {
        self.time = time
        self.parent = parent
        self.tree = tree
        self.paths = paths
        self.hostname = hostname
        self.username = username
        self.uid = uid
        self.gid = gid
        self.excludes = []
        self.tags = tags
        self.original = nil
        self.programVersion = programVersion
        self.summary = summary
        self.restoreSize = restoreSize
    }

    // MARK: Writing

    /// The JSON that a snapshot file seals.
    package func encoded() -> [UInt8] {
        var members: [(String, JSON)] = [("time", JSON(time.text))]
        if let parent { members.append(("parent", JSON(parent.hex))) }
        members.append(("tree", JSON(tree.hex)))
        members.append(("paths", JSON(paths)))
        if !hostname.isEmpty { members.append(("hostname", JSON(hostname))) }
        if !username.isEmpty { members.append(("username", JSON(username))) }
        if uid != 0 { members.append(("uid", JSON(uid))) }
        if gid != 0 { members.append(("gid", JSON(gid))) }
        if !excludes.isEmpty { members.append(("excludes", JSON(excludes))) }
        if !tags.isEmpty { members.append(("tags", JSON(tags))) }
        if let original { members.append(("original", JSON(original.hex))) }
        if !programVersion.isEmpty { members.append(("program_version", JSON(programVersion))) }
        if let summary { members.append(("summary", summary.json)) }
        if let restoreSize { members.append(("holdfast_restore", restoreSize.json)) }
        return JSON(members).encoded(escapeHTML: true)
    }

    // MARK: Reading

    /// - Throws: `RepositoryError.invalid` that says which field is missing or wrong.
    package init(parsing text: [UInt8]) throws(RepositoryError) {
        let json: JSON
        do { json = try JSON(parsing: text) } catch { throw .invalid("\(error)") }
        guard let object = json.object else { throw .invalid("a snapshot that is no JSON object") }
        let fields = SnapshotFields(object: object)
        guard let time = try fields.time("time") else { throw .invalid("a snapshot without a time") }
        guard let tree = try fields.id("tree") else { throw .invalid("a snapshot without a tree") }
        self.time = time
        self.tree = tree
        parent = try fields.id("parent")
        original = try fields.id("original")
        paths = try fields.strings("paths")
        hostname = try fields.string("hostname")
        username = try fields.string("username")
        uid = try fields.number32("uid")
        gid = try fields.number32("gid")
        excludes = try fields.strings("excludes")
        tags = try fields.strings("tags")
        programVersion = try fields.string("program_version")
        if let value = object["summary"], let members = value.object {
            summary = try Summary(SnapshotFields(object: members))
        } else {
            summary = nil
        }
        restoreSize = object["holdfast_restore"].flatMap(RestoreSize.init)
    }
}

extension RestoreSize {
    fileprivate var json: JSON {
        JSON([("files", JSON(files)), ("bytes", JSON(bytes)), ("space", JSON(space))])
    }

    /// Nil for what is no size: then the trees are counted.
    fileprivate init?(_ json: JSON) {
        guard let files = json["files"]?.uint64, let bytes = json["bytes"]?.uint64,
            let space = json["space"]?.uint64
        else { return nil }
        self.init(files: files, bytes: bytes, space: space)
    }
}

extension Snapshot.Summary {
    fileprivate static let counts: [(String, any WritableKeyPath<Snapshot.Summary, UInt64> & Sendable)] = [
        ("files_new", \.filesNew), ("files_changed", \.filesChanged), ("files_unmodified", \.filesUnmodified),
        ("dirs_new", \.directoriesNew), ("dirs_changed", \.directoriesChanged),
        ("dirs_unmodified", \.directoriesUnmodified), ("data_blobs", \.dataBlobs),
        ("tree_blobs", \.treeBlobs),
        ("data_added", \.dataAdded), ("data_added_packed", \.dataAddedPacked),
        ("total_files_processed", \.totalFiles), ("total_bytes_processed", \.totalBytes),
    ]

    fileprivate var json: JSON {
        var members: [(String, JSON)] = [
            ("backup_start", JSON(backupStart.text)), ("backup_end", JSON(backupEnd.text)),
        ]
        for (name, path) in Self.counts { members.append((name, JSON(self[keyPath: path]))) }
        return JSON(members)
    }

    fileprivate init(_ fields: SnapshotFields) throws(RepositoryError) {
        self.init(
            backupStart: try fields.time("backup_start") ?? .missing,
            backupEnd: try fields.time("backup_end") ?? .missing
        )
        for (name, path) in Self.counts { self[keyPath: path] = try fields.number(name) }
    }
}

/// Fields as Go reads them: absent and null are empty, another kind of value is an error.
private struct SnapshotFields {
    let object: JSON.Object

    private func value(_ name: String) -> JSON? {
        guard let value = object[name], !value.isNull else { return nil }
        return value
    }

    private func wrong(_ name: String) -> RepositoryError {
        .invalid("a snapshot with an invalid \"\(name)\"")
    }

    func time(_ name: String) throws(RepositoryError) -> ZonedTime? {
        guard let value = value(name) else { return nil }
        guard let text = value.string, let time = ZonedTime(parsing: text) else { throw wrong(name) }
        return time
    }

    func id(_ name: String) throws(RepositoryError) -> BlobID? {
        guard let value = value(name) else { return nil }
        guard let text = value.string, let id = BlobID(hex: text) else { throw wrong(name) }
        return id
    }

    func string(_ name: String) throws(RepositoryError) -> String {
        guard let value = value(name) else { return "" }
        guard let text = value.string else { throw wrong(name) }
        return text
    }

    func strings(_ name: String) throws(RepositoryError) -> [String] {
        guard let value = value(name) else { return [] }
        guard let texts = value.strings else { throw wrong(name) }
        return texts
    }

    func number(_ name: String) throws(RepositoryError) -> UInt64 {
        guard let value = value(name) else { return 0 }
        guard let number = value.uint64 else { throw wrong(name) }
        return number
    }

    func number32(_ name: String) throws(RepositoryError) -> UInt32 {
        guard let number = UInt32(exactly: try number(name)) else { throw wrong(name) }
        return number
    }
}
