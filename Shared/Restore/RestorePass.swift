import Glibc
import Posix
import Repository

/// The walk of a restore: makes directories and everything that is quickly made, and hands files on.
struct RestorePass {
    private let target: OpenFolder
    private let state: RestoreState
    private let queue: WorkQueue<FileJob>
    private var records: [FolderRecord] = []
    // The directories on the way down to the entry at hand, the target first.
    private var folders: [(folder: OpenFolder, record: Int?)]
    private var firstNames: [LinkKey: FirstName] = [:]
    private var furtherNames: [FurtherName] = []

    private struct FirstName {
        let record: Int?
        let name: [UInt8]
        let path: [UInt8]
        let content: [BlobID]
    }

    private struct FurtherName {
        let key: LinkKey
        let record: Int?
        let name: [UInt8]
        let path: [UInt8]
    }

    init(target: OpenFolder, state: RestoreState, queue: WorkQueue<FileJob>) {
        self.target = target
        self.state = state
        self.queue = queue
        folders = [(target, nil)]
    }

    // MARK: On the way

    /// Goes through all that is selected; the files may not be there yet when this returns.
    mutating func run(_ walk: SelectedWalk) throws {
        var walk = walk
        while let step = try walk.next() {
            switch step {
            case .problem(.malformed(_, .order)):
                // What is out of order can be restored all the same; a name that comes twice will say so.
                continue
            case .problem(let problem): state.problem(walk.path, .directory(problem))
            case .entry(let node, _):
                folders.removeLast(folders.count - walk.depth - 1)
                do throws(SystemCallError) {
                    if try !place(node, walk.path) { walk.skip() }
                } catch {
                    walk.skip()
                    if [ENOSPC, EDQUOT, EROFS, EIO].contains(error.code) {
                        state.fail(error.description)
                        queue.close(dropping: true)
                    }
                    let reason = error.code == EEXIST ? "something has its name already" : error.description
                    state.problem(walk.path, .failed(reason))
                }
            }
            if state.failure != nil { return }
        }
    }

    /// - Returns: Whether a directory was made that can be filled.
    private mutating func place(_ node: Node, _ path: [UInt8]) throws(SystemCallError) -> Bool {
        guard let (folder, record) = folders.last else { return false }
        let parent = folder.descriptor.raw
        switch node.kind {
        case .directory:
            _ = try retryingOnInterrupt("mkdirat") { withCName(node.name) { mkdirat(parent, $0, 0o700) } }
            let made = OpenFolder(try folder.descriptor.openFolder(node.name))
            records.append(
                FolderRecord(
                    parent: record,
                    depth: folders.count - 1,
                    name: node.name,
                    metadata: Metadata(node)
                )
            )
            folders.append((made, records.count - 1))
            state.change { $0.directories += 1 }
            return true
        case .file:
            if let key = LinkKey(node) {
                if let first = firstNames[key], first.content == node.content {
                    furtherNames.append(FurtherName(key: key, record: record, name: node.name, path: path))
                    return false
                }
                if firstNames[key] == nil {
                    firstNames[key] = FirstName(
                        record: record,
                        name: node.name,
                        path: path,
                        content: node.content ?? []
                    )
                }
            }
            guard node.content != nil else {
                state.problem(path, .failed("its directory says nothing of its content"))
                return false
            }
            _ = queue.add(FileJob(node: node, folder: folder, path: path))
        case .symlink:
            guard !node.linkTarget.contains(0) else {
                state.problem(path, .refused("its target holds a zero byte"))
                return false
            }
            _ = try retryingOnInterrupt("symlinkat") {
                withCName(node.linkTarget) { target in
                    withCName(node.name) { symlinkat(target, parent, $0) }
                }
            }
            try finish(node, in: folder, path, isLink: true)
            state.change { $0.links += 1 }
        case .fifo, .blockDevice, .characterDevice:
            let type: UInt32 =
                node.kind == .fifo ? 0o010000 : node.kind == .blockDevice ? 0o060000 : 0o020000
            _ = try retryingOnInterrupt("mknodat") {
                withCName(node.name) { mknodat(parent, $0, type | 0o600, dev_t(node.device)) }
            }
            try finish(node, in: folder, path, isLink: false)
            state.change { $0.specials += 1 }
        case .socket:
            state.change { $0.sockets.add(path, "a socket means nothing without the program behind it") }
        case .unknown(let kind): state.problem(path, .failed("it is of the unknown type \"\(kind)\""))
        }
        return false
    }

    private func finish(_ node: Node, in folder: OpenFolder, _ path: [UInt8], isLink: Bool)
        throws(SystemCallError)
    {
        let missed = try Metadata(node).apply(to: node.name, in: folder.descriptor, isLink: isLink)
        state.missed(missed, path)
    }

    // MARK: At the end

    /// Once all files are there: their further names, then the directories from the deepest up.
    mutating func finish() throws {
        folders.removeAll()
        let sources = ReopenedFolders(target, records)
        let places = ReopenedFolders(target, records)
        for further in furtherNames {
            guard let first = firstNames[further.key] else { continue }
            if state.isBroken(further.key) {
                let reason = "it is another name of \(escaped(first.path)), which could not be restored"
                state.problem(further.path, .failed(reason))
                continue
            }
            do throws(SystemCallError) {
                let old = try sources.open(first.record).descriptor.raw
                let new = try places.open(further.record).descriptor.raw
                _ = try retryingOnInterrupt("linkat", escaped(further.name)) {
                    withCName(first.name) { name in
                        withCName(further.name) { linkat(old, name, new, $0, 0) }
                    }
                }
                state.change { $0.hardLinks += 1 }
            } catch {
                state.problem(further.path, .failed(error.description))
            }
            state.advance(files: 1, bytes: 0)
        }
        for number in records.indices.reversed() {
            do throws(SystemCallError) {
                let folder = try places.open(number)
                let missed = try records[number].metadata.apply(to: folder.descriptor)
                if missed.owner != nil || missed.attributes != nil { state.missed(missed, path(number)) }
            } catch {
                state.problem(path(number), .failed(error.description))
            }
        }
    }

    private func path(_ number: Int) -> [UInt8] {
        var names: [[UInt8]] = []
        var next: Int? = number
        while let number = next {
            names.append(records[number].name)
            next = records[number].parent
        }
        return Array(names.reversed().joined(separator: [0x2F]))
    }
}
