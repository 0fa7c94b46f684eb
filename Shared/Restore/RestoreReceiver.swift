import Glibc
import Posix
package import Wire

/// Fills a folder with what the other side of a restore tells and sends (protocol.md), wherever that side is.
///
/// The other side is believed nothing about places: every step goes one name down from an open directory and never
/// through a symbolic link, and nothing outside the target is touched. A file gets its name when its bytes have been read
/// back from the target and each part's hash is right. What an earlier try left is looked at first: what is right stays,
/// what is not is replaced.
package final class RestoreReceiver {
    private enum Expected {
        case data(FileWork)
        case link(LinkWork)
    }

    /// Bytes of a file that its thread writes.
    private static let small = 128 << 10

    private let stream: FrameStream
    private let path: String
    private let progress: @Sendable (RestoreProgress) -> Void
    private let stop: @Sendable () -> Bool
    private var expected = Queue<Expected>()
    /// Parts of the files that are expected.
    private var partsAhead = 0
    /// The file that is being received.
    private var current: FileWork?
    /// Of it: bytes that came or are missing, and the part that is due.
    private var received: UInt64 = 0
    private var part = 0
    private var partStart: UInt64 = 0
    /// A list whose last entry's parts are still coming.
    private var held: (items: [Item], last: Bool)?

    /// - Parameters:
    ///   - progress: Called from any thread, at most five times a second and once at the end.
    ///   - stop: Asked between frames; once true the restore ends.
    package init(
        _ stream: FrameStream,
        to path: String,
        stop: @escaping @Sendable () -> Bool = { false },
        progress: @escaping @Sendable (RestoreProgress) -> Void = { _ in }
    ) {
        self.stream = stream
        self.path = path
        self.stop = stop
        self.progress = progress
    }

    /// Takes everything that follows a `restoring` and fills the target.
    ///
    /// Damaged and refused entries are in the report and stop nothing else.
    /// - Throws: `RestoreError`; `WireError` and the channel's errors, after which the target can be gone on with;
    ///   `SystemCallError` for a target that cannot be made.
    package func run(_ what: Restoring) throws -> RestoreReport {
        // Descriptors for each level of the tree and for the folders that files are on their way into.
        Host.raiseDescriptorLimit()
        let target = try RestoreTarget(path, of: what)
        let state = RestoreState(what, progress)
        let threads = try RestoreThreads(target, state)
        do {
            let listing = try RestoreListing(target, state, threads) { [stop, path] in
                if stop() { throw RestoreError.interrupted(path: path) }
            }
            while try !receive(listing, state, threads) {}
        } catch {
            if let reason = state.failure {
                threads.abandon(removing: true)
                current?.removeTemporary()
                throw RestoreError.targetFailed(path: path, reason: reason)
            }
            if stop() {
                threads.abandon(removing: false)
                throw RestoreError.interrupted(path: path)
            }
            // What came whole counts.
            threads.finish()
            throw error
        }
        threads.finish()
        func requireWorking() throws {
            if let reason = state.failure { throw RestoreError.targetFailed(path: path, reason: reason) }
        }
        try requireWorking()
        do throws(SystemCallError) { try target.finish(isWhole: state.report.isWhole) } catch {
            throw RestoreError.targetFailed(path: path, reason: "\(error)")
        }
        state.tellEnd()
        return state.report
    }

    /// Takes one frame; true for the last.
    private func receive(_ listing: RestoreListing, _ state: RestoreState, _ threads: RestoreThreads)
        throws
        -> Bool
    {
        if stop() { throw RestoreError.interrupted(path: path) }
        if let reason = state.failure { throw RestoreError.targetFailed(path: path, reason: reason) }
        return try stream.receive { type, body in
            if type == RestoreReply.dataType {
                try data(body, state, threads)
                return false
            }
            guard RestoreReply.types.contains(type) else {
                let message = try CoordinatorMessage(type: type, body: body)
                switch message {
                case .abort(let reason), .refused(let reason): throw RestoreError.ended(reason: reason)
                default: throw WireError.unexpected(type: type, state: "restoring")
                }
            }
            let message = try RestoreReply(type: type, body: body)
            if held != nil, message.type != 98 {
                throw WireError.unexpected(type: type, state: "the parts of a file are due")
            }
            switch message {
            case .items(let items, let last):
                held = (items, last)
                try takeHeld(listing, threads)
            case .parts(let parts):
                try take(parts)
                try takeHeld(listing, threads)
            case .damaged(let reason): try damaged(reason, state, threads)
            case .problem(let path, .lost, let message): state.problem(path, .inSnapshot(message))
            case .problem(let path, .leftOut, let message): state.change { $0.sockets.add(path, message) }
            case .done:
                guard listing.isOver, current == nil else {
                    throw WireError.unexpected(type: type, state: "folders or files are due")
                }
                return true
            case .restoring: throw WireError.unexpected(type: type, state: "restoring")
            }
            return false
        }
    }

    // MARK: Lists

    private func take(_ parts: [Part]) throws {
        guard case (var items, let last)? = held, var item = items.popLast(), !parts.isEmpty,
            item.parts.count + parts.count <= item.partCount
        else { throw WireError.malformed("parts that belong to nothing") }
        held = nil
        item.parts += parts
        items.append(item)
        held = (items, last)
    }

    private func takeHeld(_ listing: RestoreListing, _ threads: RestoreThreads) throws {
        guard let (items, last) = held else { return }
        if let item = items.last, item.parts.count < item.partCount { return }
        held = nil
        var wanted: [Wanted] = []
        for (index, item) in items.enumerated() {
            switch try listing.take(item) {
            case .nothing: continue
            case .link(let link): expected.append(.link(link))
            case .file(let work):
                expected.append(.data(work))
                partsAhead += work.parts.count
                wanted.append(Wanted(index: UInt32(index), offset: work.kept))
            }
        }
        guard expected.count <= RestoreLimit.ahead * 2, partsAhead <= RestoreLimit.parts * 2 else {
            throw WireError.malformed("listing runs too far ahead of sending")
        }
        try stream.send(RestoreRequest.fetch(wanted))
        if last { try listing.endOfList() }
        startNext(threads)
    }

    // MARK: Content

    /// Hands on further names whose turn it is, and begins the next file that is awaited.
    private func startNext(_ threads: RestoreThreads) {
        while current == nil, let next = expected.popFirst() {
            switch next {
            case .link(let link): threads.submit(.link(link))
            case .data(let work):
                current = work
                received = 0
                part = 0
                partStart = 0
                count(work.kept, of: work)
            }
        }
    }

    /// `bytes` more of the file are here or known to be missing.
    private func count(_ bytes: UInt64, of work: FileWork) {
        received += bytes
        while part < work.parts.count, work.parts[part].length > 0,
            partStart + UInt64(work.parts[part].length) <= received
        {
            partStart += UInt64(work.parts[part].length)
            part += 1
        }
    }

    private func data(_ bytes: UnsafeRawBufferPointer, _ state: RestoreState, _ threads: RestoreThreads)
        throws
    {
        guard let work = current, held == nil, !bytes.isEmpty,
            UInt64(bytes.count) <= work.entry.size - received
        else { throw WireError.malformed("bytes of a file that nobody wanted") }
        if bytes.count <= Self.small, UInt64(bytes.count) == work.entry.size, work.file == nil {
            work.content = Array(bytes)
        } else {
            work.write(bytes, at: received, state)
        }
        count(UInt64(bytes.count), of: work)
        finishIfAllCame(work, threads)
    }

    private func damaged(_ reason: String, _ state: RestoreState, _ threads: RestoreThreads) throws {
        guard let work = current, part < work.parts.count, received == partStart else {
            throw WireError.malformed("damage of a part that is not due")
        }
        let due = work.parts[part]
        work.damages.append(
            RestoreProblem.DamagedPart(
                offset: received,
                length: due.length == 0 ? nil : UInt64(due.length),
                blob: due.hash,
                reason: reason
            )
        )
        if due.length == 0 { part += 1 }
        state.advance(files: 0, bytes: UInt64(due.length))
        count(UInt64(due.length), of: work)
        finishIfAllCame(work, threads)
    }

    private func finishIfAllCame(_ work: FileWork, _ threads: RestoreThreads) {
        guard received == work.entry.size, part == work.parts.count else { return }
        threads.submit(.file(work))
        partsAhead -= work.parts.count
        current = nil
        startNext(threads)
    }
}
