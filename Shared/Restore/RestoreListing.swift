import Glibc
import Posix
import Wire

/// The walk of a restore as the other side tells it: makes directories and everything that is quickly made, looks at what
/// an earlier try left, and says which files are to be sent.
final class RestoreListing {
    /// What is to come of an entry.
    enum Outcome {
        /// Nothing more, or a thread has it already.
        case nothing
        /// To be sent, from `kept` on.
        case file(FileWork)
        /// To be made once what was wanted before is there.
        case link(LinkWork)
    }

    /// A folder on the way down to the one whose entries come now.
    private final class Level {
        /// Nil when it could not be made: then all below it is left out.
        let folder: RestoreFolder?
        var last: [UInt8]?
        var count = 0
        var directories = Queue<Entry>()
        /// Temporary files of an earlier try.
        var leftovers: Set<[UInt8]> = []

        init(_ folder: RestoreFolder?) { self.folder = folder }
    }

    private let target: RestoreTarget
    private let state: RestoreState
    private let threads: RestoreThreads
    private let verifier: PartVerifier
    private let checkStop: () throws -> Void
    private var levels: [Level] = []
    private var firstNames: [LinkKey: FirstName] = [:]

    /// Files with several names that are remembered; beyond it the names become files of their own.
    private static let mostFirstNames = 1_000_000

    /// - Parameter checkStop: Called between steps of long reading; throws to end it.
    init(
        _ target: RestoreTarget,
        _ state: RestoreState,
        _ threads: RestoreThreads,
        checkStop: @escaping () throws -> Void
    ) throws {
        self.target = target
        self.state = state
        self.threads = threads
        self.checkStop = checkStop
        verifier = try PartVerifier()
        let root = Level(try RestoreFolder(target.folder, isFresh: !target.isResumed))
        try findLeftovers(root)
        levels = [root]
    }

    /// Every folder was told.
    var isOver: Bool { levels.isEmpty }

    // MARK: Folders

    private func findLeftovers(_ level: Level) throws {
        guard let folder = level.folder, !folder.isFresh else { return }
        let flags = O_RDONLY | O_DIRECTORY
        var directory = try Directory(FileDescriptor(at: folder.descriptor, [0x2E], flags))
        while let name = try directory.next() {
            if name.starts(with: target.temporaryPrefix) { level.leftovers.insert(name) }
        }
    }

    /// The entries of a folder are all told: on to the next in depth-first order.
    func endOfList() throws {
        guard let level = levels.last else { throw WireError.malformed("a list after the walk was over") }
        if let folder = level.folder {
            for name in level.leftovers { try? Files.remove(name, in: folder.descriptor) }
        }
        level.leftovers = []
        while let level = levels.last {
            if let entry = level.directories.popFirst() {
                guard levels.count <= RestoreLimit.depth else {
                    throw WireError.malformed("folders deeper than \(RestoreLimit.depth)")
                }
                let child = Level(open(entry, in: level.folder))
                do { try findLeftovers(child) } catch let error as SystemCallError {
                    if state.failsAll(error) { return }
                }
                levels.append(child)
                return
            }
            levels.removeLast()
            level.folder?.finishOne(state)
        }
    }

    private func open(_ entry: Entry, in parent: RestoreFolder?) -> RestoreFolder? {
        guard let parent else { return nil }
        do throws(SystemCallError) {
            let folder = try RestoreFolder(entry.name, in: parent, Metadata(entry))
            state.change { $0.directories += 1 }
            return folder
        } catch {
            report(error, parent.path(of: entry.name))
            return nil
        }
    }

    private func report(_ error: SystemCallError, _ path: @autoclosure () -> [UInt8]) {
        if state.failsAll(error) { return }
        let reason = error.code == EEXIST ? "something has its name already" : error.description
        state.problem(path(), .failed(reason))
    }

    // MARK: Entries

    /// - Throws: `WireError` for what no honest side tells.
    func take(_ item: Item) throws -> Outcome {
        guard let level = levels.last else { throw WireError.malformed("a list after the walk was over") }
        let entry = item.entry
        if let last = level.last, !last.lexicographicallyPrecedes(entry.name) {
            throw WireError.malformed("names of a folder do not ascend")
        }
        level.last = entry.name
        level.count += 1
        guard level.count <= WireLimit.entriesPerFolder else {
            throw WireError.malformed("more than \(WireLimit.entriesPerFolder) entries in one folder")
        }
        try requireSense(item)
        if entry.kind == .directory { level.directories.append(entry) }
        guard let folder = level.folder else { return .nothing }
        if folder.parent == nil && entry.name == RestoreTarget.marker {
            state.problem(entry.name, .failed("the restore's own marker has this name"))
            return .nothing
        }
        switch entry.kind {
        case .directory: return .nothing
        case .file: return try file(item, level, folder)
        case .symlink, .fifo, .blockDevice, .characterDevice:
            do throws(SystemCallError) { try make(entry, in: folder) } catch {
                report(error, folder.path(of: entry.name))
            }
            return .nothing
        }
    }

    /// The parts of a file must make up its size.
    private func requireSense(_ item: Item) throws {
        var sum: UInt64 = 0
        for (index, part) in item.parts.enumerated() {
            if part.length == 0 && index < item.parts.count - 1 {
                throw WireError.malformed("a part of unknown length that is not the last")
            }
            sum += UInt64(part.length)
        }
        guard sum == item.entry.size || item.entry.kind != .file else {
            throw WireError.malformed("a file whose parts do not make up its size")
        }
    }

    private func make(_ entry: Entry, in folder: RestoreFolder) throws(SystemCallError) {
        let parent = folder.descriptor.raw
        let temporary = try temporaryName(entry.name)
        switch entry.kind {
        case .symlink:
            try folder.put(entry.name, temporary: temporary) { (name) throws(SystemCallError) in
                _ = try retryingOnInterrupt("symlinkat") {
                    withCName(entry.target) { target in withCName(name) { symlinkat(target, parent, $0) } }
                }
            }
        default:
            let type: UInt32 =
                entry.kind == .fifo ? 0o010000 : entry.kind == .blockDevice ? 0o060000 : 0o020000
            try folder.put(entry.name, temporary: temporary) { (name) throws(SystemCallError) in
                _ = try retryingOnInterrupt("mknodat") {
                    withCName(name) { mknodat(parent, $0, type | 0o600, dev_t(entry.rdev)) }
                }
            }
        }
        let isLink = entry.kind == .symlink
        let missed = try Metadata(entry).apply(to: entry.name, in: folder.descriptor, isLink: isLink)
        state.missed(missed, folder.path(of: entry.name))
        state.change { if isLink { $0.links += 1 } else { $0.specials += 1 } }
    }

    private func temporaryName(_ name: [UInt8]) throws(SystemCallError) -> [UInt8] {
        do { return try verifier.temporaryName(of: name, prefix: target.temporaryPrefix) } catch {
            throw SystemCallError("SHA-256", errno: ENOMEM)
        }
    }

    // MARK: Files

    private func file(_ item: Item, _ level: Level, _ folder: RestoreFolder) throws -> Outcome {
        let entry = item.entry
        let temporary = try temporaryName(entry.name)
        var first: FirstName?
        if let key = LinkKey(entry) {
            if let known = firstNames[key], known.parts == item.parts {
                known.awaited -= 1
                if known.awaited == 0 { firstNames[key] = nil }
                folder.begin()
                return .link(
                    LinkWork(name: entry.name, folder: folder, first: known, temporary: temporary)
                )
            }
            if firstNames[key] == nil, firstNames.count < Self.mostFirstNames {
                first = FirstName(item, in: folder)
                firstNames[key] = first
            }
        }
        let work = FileWork(item, in: folder, temporary: temporary, first: first)
        if !folder.isFresh {
            do { if try keep(work, level) { return .nothing } } catch let error as SystemCallError {
                report(error, work.path)
                return .nothing
            }
        }
        folder.begin()
        // Nothing needs to come of a file that is empty, or of which all was under way when an earlier try was cut.
        if work.kept == entry.size, item.parts.last?.length != 0 {
            threads.submit(.file(work))
            return .nothing
        }
        return .file(work)
    }

    // MARK: What an earlier try left

    /// Looks at what an earlier try left of a file; true when nothing is to be done any more.
    private func keep(_ work: FileWork, _ level: Level) throws -> Bool {
        let entry = work.entry
        let found = try status(entry.name, work.folder.descriptor)
        work.replaces = found != nil
        if let found {
            if found.kind == .directory {
                state.problem(work.path, .failed("a folder has its name"))
                return true
            }
            // A file with names elsewhere is not ours to change, unless it shall have several.
            if found.kind == .file, found.size == entry.size, found.links == 1 || entry.links > 1,
                try holds(work)
            {
                return true
            }
        }
        guard level.leftovers.remove(work.temporary) != nil else { return false }
        try keepLeftover(work)
        return false
    }

    private func status(_ name: [UInt8], _ folder: borrowing FileDescriptor) throws(SystemCallError)
        -> FileStatus?
    {
        do throws(SystemCallError) { return try FileStatus(at: folder.raw, name) } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    /// Whether the file is there with every byte right; then its metadata is set again and it is counted.
    private func holds(_ work: FileWork) throws -> Bool {
        let entry = work.entry
        let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK
        guard work.parts.last?.length != 0 || work.parts.isEmpty,
            let file = try? FileDescriptor(at: work.folder.descriptor, entry.name, flags)
        else { return false }
        let status = try file.status()
        guard status.kind == .file else { return false }
        var counted: UInt64 = 0
        let right = try verifier.rightBytes(of: work.parts, in: file) { count in
            try checkStop()
            counted += count
            state.advance(files: 0, bytes: count)
        }
        guard right == entry.size else {
            // It will be counted when it comes again.
            state.retreat(bytes: counted)
            return false
        }
        state.missed(try Metadata(entry).apply(to: file, status), work.path)
        work.first?.isWhole = true
        state.whole(bytes: entry.size, kept: entry.size, wasThere: true)
        return true
    }

    /// Takes over the parts that are right under the file's temporary name.
    private func keepLeftover(_ work: FileWork) throws {
        let flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK
        guard let file = try? FileDescriptor(at: work.folder.descriptor, work.temporary, flags),
            let status = try? file.status(), status.kind == .file, status.links == 1
        else { return try Files.remove(work.temporary, in: work.folder.descriptor) }
        let right = try verifier.rightBytes(of: work.parts, in: file) { _ in try checkStop() }
        guard right > 0 else { return try Files.remove(work.temporary, in: work.folder.descriptor) }
        // What lies behind might show through where zeros are left out.
        try file.truncate(to: Int64(right))
        work.kept = right
        work.writtenEnd = right
        work.file = OpenFile(file)
        state.advance(files: 0, bytes: right)
    }
}
