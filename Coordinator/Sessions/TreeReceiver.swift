import Glibc
import Posix
import Repository
import Wire

/// Builds a snapshot's tree from what the agent describes and sends. It decides which files are wanted by comparing
/// with earlier trees (the newest snapshot's and an interrupted capture's), cuts and stores what comes, and writes
/// every folder's tree as soon as nothing in it is missing.
///
/// Memory: the folders on the way down to the one being listed and those with files still to come, whose nodes
/// together take at most `mostOpenBytes`; the same folders of earlier trees, as much again; and one chunk.
final class TreeReceiver {
    private let reader: BlobReader
    private let writer: BlobWriter
    private let chunker: Chunker
    /// How far earlier runs came in files that this one has not come to yet.
    private var resumed: [Checkpoint.PartialFile]
    private let journal: CaptureJournal?
    private let dump: Node
    private let report: CaptureReport

    /// From the root down to the folder whose list is due; empty when the walk is over.
    private var listing: [OpenFolder] = []
    private let root: OpenFolder
    /// Wanted files in the order in which they will come.
    private var wanted: [(folder: OpenFolder, slot: Int, start: [BlobID])] = []
    private var firstWanted = 0
    private var current: Incoming?
    private var openBytes = 0
    private var earlierBytes = 0

    /// Bytes of nodes: about two million entries with short names.
    static let mostOpenBytes = 1 << 30
    /// The root's tree, once everything is here.
    private(set) var tree: BlobID?
    /// Of the folders that are complete.
    private var size = RestoreSizeCounter()
    /// Of everything, once `tree` is there.
    var restoreSize: RestoreSize { size.size }

    private struct Incoming {
        let folder: OpenFolder
        let slot: Int
        var content: [BlobID] = []
        /// Bytes received.
        var received: UInt64 = 0
        var attributes: [Node.Attribute] = []
        let compression: Compression

        init(folder: OpenFolder, slot: Int) {
            self.folder = folder
            self.slot = slot
            compression = MediaFormat.compression(folder.nodes[slot].name)
        }
    }

    /// - Parameters:
    ///   - reader: Reads the earlier trees.
    ///   - earlier: Root trees to compare with, the newest first.
    ///   - resumed: How far interrupted captures came in files they were receiving.
    ///   - journal: What a killed one stored, and where this one writes down what it stores; nil for one that is over
    ///     too soon to be gone on with.
    ///   - dump: The node of the stored dump, to stand in `immich/backups`.
    init(
        _ kind: CaptureKind,
        reader: BlobReader,
        writer: BlobWriter,
        chunker: Chunker,
        earlier: [BlobID],
        resumed: [Checkpoint.PartialFile],
        journal: CaptureJournal?,
        dump: Node,
        report: CaptureReport
    ) throws {
        self.reader = reader
        self.writer = writer
        self.chunker = chunker
        self.resumed = resumed
        self.journal = journal
        self.dump = dump
        self.report = report
        let before = Self.load(earlier, reader, room: Self.mostOpenBytes)
        root = OpenFolder(name: [], place: .root(kind), parent: nil, slot: 0, earlier: before)
        earlierBytes = before.reduce(0) { $0 + $1.memory }
        listing = [root]
    }

    private static func load(_ trees: [BlobID], _ reader: BlobReader, room: Int) -> [EarlierFolder] {
        // An earlier tree that can't be read, or has no room, costs time, not safety: its files are sent again.
        var room = room
        return trees.compactMap { id in
            guard let tree = try? Tree(parsing: reader.read(id, .tree)) else { return nil }
            let folder = EarlierFolder(tree.nodes)
            room -= folder.memory
            return room < 0 ? nil : folder
        }
    }

    // MARK: Listing

    /// Takes (a part of) the entries of the folder whose list is due, and answers which files to send.
    func list(_ entries: [Entry], last: Bool) throws -> [Wanted] {
        guard let folder = listing.last else { throw WireError.malformed("a list after the walk was over") }
        guard folder.nodes.count + entries.count <= WireLimit.entriesPerFolder else {
            throw WireError.malformed("more than \(WireLimit.entriesPerFolder) entries in one folder")
        }
        var answer: [Wanted] = []
        let before = folder.memory
        defer { openBytes += folder.memory - before }
        for (index, entry) in entries.enumerated() {
            if let previous = folder.nodes.last, !previous.name.lexicographicallyPrecedes(entry.name) {
                throw WireError.malformed("names of a folder do not ascend")
            }
            if let wish = try take(entry, in: folder) {
                answer.append(Wanted(index: UInt32(index), offset: wish))
            }
        }
        guard wanted.count - firstWanted <= WireLimit.unsent + WireLimit.unanswered else {
            throw WireError.malformed("listing runs too far ahead of sending")
        }
        try checkMemory(folder, openBytes + folder.memory - before)
        if last { try endOfList(folder) }
        return answer
    }

    private func checkMemory(_ folder: OpenFolder, _ bytes: Int) throws {
        guard bytes > Self.mostOpenBytes else { return }
        throw CaptureError.tooWide(
            "\(shown(folder)) and the folders around it hold too many entries at once, or too many extended attributes "
                + "(\(folder.nodes.count) entries in this folder): move some of them into folders of their own"
        )
    }

    private func shown(_ folder: OpenFolder) -> String {
        "'\(escaped(Array(folder.path.joined(separator: [0x2F]).prefix(1000))))'"
    }

    /// Records one entry; the offset to send it from when its bytes are wanted.
    private func take(_ entry: Entry, in folder: OpenFolder) throws -> UInt64? {
        var node = Node(entry)
        let before = folder.earlier.compactMap { $0.node(entry.name) }
        if !entry.attributes.isEmpty && (entry.kind == .file || entry.kind == .directory) {
            throw WireError.malformed("extended attributes in a list that come by themselves")
        }
        guard entry.kind == .file else {
            if entry.kind == .directory && folder.place.child(entry.name) == nil {
                throw WireError.malformed("a folder \(escaped(entry.name)) that has no place in a snapshot")
            }
            if entry.kind == .directory { report.folders += 1 }
            let subtrees = before.compactMap { $0.kind == .directory ? $0.subtree : nil }
            _ = folder.append(node, earlierSubtrees: subtrees, wanted: false)
            return nil
        }
        report.filesSeen += 1
        report.bytesSeen += entry.size
        if let same = before.first(where: { isUnchanged($0, entry) }) {
            node.content = same.content
            // They don't change without the ctime.
            node.attributes = same.attributes
            report.filesUnchanged += 1
            _ = folder.append(node, earlierSubtrees: [], wanted: false)
            return nil
        }
        let known = entry.inode == 0 ? nil : journal?.take(key(entry, in: folder))
        if let known, isStored(known) {
            node.content = known
            report.filesUnchanged += 1
            // Still in no checkpoint.
            journal?.add(key(entry, in: folder), known)
            _ = folder.append(node, earlierSubtrees: [], wanted: false)
            return nil
        }
        let slot = folder.append(node, earlierSubtrees: [], wanted: true)
        let start = firstStored(of: known ?? resumable(entry, in: folder))
        wanted.append((folder, slot, start))
        return storedBytes(start)
    }

    private func key(_ entry: Entry, in folder: OpenFolder) -> CaptureJournal.Key {
        CaptureJournal.Key(
            folder: folder.pathHash,
            name: entry.name,
            size: entry.size,
            mtime: entry.mtime,
            ctime: entry.ctime,
            inode: entry.inode
        )
    }

    private func storedBytes(_ chunks: [BlobID]) -> UInt64 {
        chunks.reduce(0) { $0 + UInt64(writer.index.lookup($1, .data)?.blob.plain ?? 0) }
    }

    /// The same inode with the same size and times holds the same bytes; they must still be in the index. What the
    /// agent makes itself (inode 0) has no such history.
    private func isUnchanged(_ node: Node, _ entry: Entry) -> Bool {
        entry.inode != 0 && node.kind == .file && node.size == entry.size
            && node.mtime.nanoseconds == entry.mtime
            && node.ctime.nanoseconds == entry.ctime
            && node.inode == entry.inode && isStored(node.content)
    }

    private func isStored(_ content: [BlobID]?) -> Bool {
        content?.allSatisfy { writer.contains($0, .data) } ?? false
    }

    /// The chunks up to the first that is missing because its pack was not whole when the coordinator was killed.
    private func firstStored(of content: [BlobID]) -> [BlobID] {
        Array(content.prefix { writer.index.contains($0, .data) })
    }

    /// The chunks that an earlier run received last, of a file that is still the same.
    private func resumable(_ entry: Entry, in folder: OpenFolder) -> [BlobID] {
        let found = resumed.firstIndex {
            $0.size == entry.size && $0.mtime == entry.mtime && $0.ctime == entry.ctime
                && $0.inode == entry.inode && $0.path == folder.path + [entry.name]
        }
        guard let found else { return [] }
        return resumed.remove(at: found).content
    }

    /// The folder whose list is due could not be read on the agent's side.
    func folderFailed(errno code: Int32) throws {
        guard let folder = listing.last, folder.nodes.isEmpty, folder.place == .inside else {
            throw WireError.malformed("a folder that must be there could not be read")
        }
        report.problem(folder.path, "the folder could not be read: \(describeErrno(code))")
        try endOfList(folder)
    }

    private func endOfList(_ folder: OpenFolder) throws {
        let entries = folder.nodes.lazy.map { (name: $0.name, isDirectory: $0.kind == .directory) }
        if let fault = folder.place.fault(entries) { throw CaptureError.refused(fault) }
        folder.listEnded()
        // On to the next folder in depth-first order; folders that hold no unlisted one are done with listing.
        while let folder = listing.last {
            if let (slot, earlier) = folder.takeNextDirectory() {
                guard folder.depth < WireLimit.depth, let place = folder.place.child(folder.nodes[slot].name)
                else { throw WireError.malformed("folders deeper than \(WireLimit.depth)") }
                let before = Self.load(earlier, reader, room: Self.mostOpenBytes - earlierBytes)
                earlierBytes += before.reduce(0) { $0 + $1.memory }
                let child = OpenFolder(
                    name: folder.nodes[slot].name,
                    place: place,
                    parent: folder,
                    slot: slot,
                    earlier: before
                )
                folder.opened(child)
                listing.append(child)
                return
            }
            listing.removeLast()
            folder.listed()
            try closeIfComplete(folder)
        }
    }

    /// Extended attributes: of the folder whose list is due, before its first part, or of the file whose turn it is.
    func attributes(_ attributes: [Entry.Attribute], of owner: AgentMessage.Owner) throws {
        let attributes = attributes.map { Node.Attribute(name: $0.name, value: $0.value) }
        switch owner {
        case .folder:
            guard let folder = listing.last, folder.parent != nil, folder.nodes.isEmpty else {
                throw WireError.malformed("extended attributes of a folder whose list is not due")
            }
            let before = folder.parent?.memory ?? 0
            folder.setAttributes(attributes)
            openBytes += (folder.parent?.memory ?? 0) - before
            try checkMemory(folder.parent ?? folder, openBytes)
        case .file:
            try begin()
            current?.attributes = attributes
        }
    }

    // MARK: Files

    /// Takes the next bytes of the file whose turn it is.
    func data(_ bytes: UnsafeRawBufferPointer) throws {
        try begin()
        guard var file = current else { return }
        // Taken out while it changes, so that its arrays are not copied.
        current = nil
        file.received += UInt64(bytes.count)
        report.bytesSent += UInt64(bytes.count)
        try chunker.feed(bytes) { try store($0, in: &file) }
        current = file
    }

    private func store(_ chunk: UnsafeRawBufferPointer, in file: inout Incoming) throws {
        file.content.append(try writer.add(chunk, .data, file.compression))
    }

    private func begin() throws {
        guard current == nil else { return }
        guard firstWanted < wanted.count else {
            throw WireError.malformed("bytes of a file that nobody wanted")
        }
        let (folder, slot, start) = wanted[firstWanted]
        firstWanted += 1
        if firstWanted > 4096 {
            wanted.removeFirst(firstWanted)
            firstWanted = 0
        }
        chunker.reset()
        var file = Incoming(folder: folder, slot: slot)
        file.content = start
        file.received = storedBytes(start)
        current = file
    }

    /// The file changed while it was read: what came of it is forgotten.
    func again() throws {
        try begin()
        guard let file = current else { return }
        chunker.reset()
        current = Incoming(folder: file.folder, slot: file.slot)
    }

    func fileEnd(_ end: FileEnd) throws {
        try begin()
        guard var file = current else { return }
        current = nil
        try chunker.finish { try store($0, in: &file) }
        let name = file.folder.nodes[file.slot].name
        func path() -> [[UInt8]] { file.folder.path + [name] }
        let before = file.folder.memory
        defer { openBytes += file.folder.memory - before }
        try checkMemory(file.folder, openBytes)
        switch end.status {
        case .stable, .changing:
            if end.status == .stable && end.size != file.received {
                throw WireError.malformed("a file of \(end.size) bytes came as \(file.received)")
            }
            if end.status == .changing {
                report.problem(path(), "it kept changing while it was read; what was read last is stored")
            }
            file.folder.received(file.slot) { node in
                node.content = file.content
                node.size = file.received
                node.mtime = ZonedTime(nanoseconds: end.mtime)
                node.atime = node.mtime
                node.ctime = ZonedTime(nanoseconds: end.ctime)
                node.inode = end.inode
                node.attributes = file.attributes
            }
            // Extended attributes have no place in the journal.
            if end.status == .stable && end.inode != 0 && file.attributes.isEmpty {
                let key = CaptureJournal.Key(
                    folder: file.folder.pathHash,
                    name: name,
                    size: end.size,
                    mtime: end.mtime,
                    ctime: end.ctime,
                    inode: end.inode
                )
                journal?.add(key, file.content)
            }
            report.filesSent += 1
            if end.inode != 0 { report.filesRead += 1 }
        case .vanished:
            report.filesVanished += 1
            file.folder.lost(file.slot)
        case .unreadable:
            report.problem(path(), "it could not be read: \(describeErrno(end.errno))")
            file.folder.lost(file.slot)
        }
        try closeIfComplete(file.folder)
    }

    // MARK: Trees

    private func closeIfComplete(_ folder: OpenFolder) throws {
        guard folder.isComplete else { return }
        let extra = folder.place.holdsDump ? dump : nil
        let nodes = folder.finalNodes(adding: extra)
        for node in nodes { size.add(node) }
        let id = try writeTree(nodes)
        openBytes -= folder.memory
        earlierBytes -= folder.earlier.reduce(0) { $0 + $1.memory }
        guard let parent = folder.parent else {
            tree = id
            return
        }
        parent.closed(folder, tree: id)
        try closeIfComplete(parent)
    }

    private func writeTree(_ nodes: [Node]) throws -> BlobID {
        try Tree(nodes: nodes).encoded().withUnsafeBytes { try writer.add($0, .tree) }
    }

    /// Stores what is here so far as a tree of its own. The caller flushes the writer before it relies on it.
    func checkpoint() throws -> Checkpoint {
        func subtree(_ folder: OpenFolder) throws -> BlobID { try writeTree(folder.storedNodes(subtree)) }
        return Checkpoint(
            tree: try tree ?? subtree(root),
            partials: Array((resumed.suffix(8) + [partial].compactMap { $0 }))
        )
    }

    /// The file that is being received, when some of it is stored.
    var partial: Checkpoint.PartialFile? {
        guard let file = current, !file.content.isEmpty else { return nil }
        let node = file.folder.nodes[file.slot]
        return Checkpoint.PartialFile(
            path: file.folder.path + [node.name],
            size: node.size,
            mtime: node.mtime.nanoseconds,
            ctime: node.ctime.nanoseconds,
            inode: node.inode,
            content: file.content
        )
    }
}
