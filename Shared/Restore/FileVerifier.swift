import Digest
import Glibc
import Posix
import Wire

/// Writes small files, reads back what was written and gives it its metadata and name; for one thread.
final class FileVerifier: @unchecked Sendable {
    // Used by its thread alone.
    private let target: RestoreTarget
    private let state: RestoreState
    private let verifier: PartVerifier
    /// Large files whose bytes are on their way to the disk, at most so many.
    private var settling = Queue<OpenFile>()
    private static let mostSettling = 8

    init(_ target: RestoreTarget, _ state: RestoreState) throws {
        self.target = target
        self.state = state
        verifier = try PartVerifier()
    }

    // MARK: Files

    func finish(_ work: FileWork) {
        defer { work.folder.finishOne(state) }
        if !work.content.isEmpty {
            work.content.withUnsafeBytes { work.write($0, at: 0, state) }
            work.content = []
        }
        work.endWriting(state)
        if state.failure != nil { return work.removeTemporary() }
        do {
            if let reason = work.failure { return failed(work, reason) }
            guard let file = work.file else { return failed(work, "it was never opened") }
            let skipped = Set(work.damages.map(\.offset))
            let status = try file.descriptor.status()
            let right = try verifier.rightBytes(of: work.parts, in: file.descriptor, skipping: skipped)
            guard status.size == work.entry.size, right == status.size else {
                return failed(
                    work,
                    "it reads back differently; suspect the target's disk or this machine's memory"
                )
            }
            let missed = try Metadata(work.entry).apply(to: file.descriptor, status)
            guard work.damages.isEmpty else { return damaged(work) }
            if work.replaces {
                try Files.renameReplacing(in: work.folder.descriptor, work.temporary, to: work.entry.name)
            } else {
                try Files.renameWithoutReplacing(
                    in: work.folder.descriptor,
                    work.temporary,
                    to: work.entry.name
                )
            }
            if status.size >= FileWork.writeback { settle(file) }
            state.missed(missed, work.path)
            work.first?.isWhole = true
            state.whole(bytes: work.entry.size, kept: work.kept, wasThere: false)
        } catch let error as SystemCallError {
            if state.failsAll(error) {
                work.removeTemporary()
            } else {
                failed(work, error.code == EEXIST ? "something has its name already" : error.description)
            }
        } catch {
            failed(work, "\(error)")
        }
    }

    /// Lets the page cache forget large files once they have had time to reach the disk. They take its memory from what this
    /// machine works with, and it is cheaper to fill the same pages again.
    private func settle(_ file: OpenFile) {
        settling.append(file)
        if settling.count > Self.mostSettling { settling.popFirst()?.descriptor.forgetCached() }
    }

    private func failed(_ work: FileWork, _ reason: String) {
        work.removeTemporary()
        state.problem(work.path, .failed(reason))
        state.advance(files: 1, bytes: 0)
    }

    /// Gives what is left of a damaged file a name of its own, or removes it.
    private func damaged(_ work: FileWork) {
        let suffix = Array(".damaged".utf8)
        var kept: [UInt8]? = Array(work.entry.name.prefix(255 - suffix.count)) + suffix
        do throws(SystemCallError) {
            try Files.renameWithoutReplacing(
                in: work.folder.descriptor,
                work.temporary,
                to: kept ?? work.temporary
            )
        } catch {
            work.removeTemporary()
            kept = nil
        }
        state.problem(work.path, .damaged(work.damages, keptAs: kept.map { work.folder.path(of: $0) }))
        state.advance(files: 1, bytes: 0)
    }

    // MARK: Further names

    func link(_ link: LinkWork) {
        defer {
            link.folder.finishOne(state)
            state.advance(files: 1, bytes: 0)
        }
        guard link.first.isWhole else {
            let first = Array((link.first.folder + [link.first.name]).joined(separator: [0x2F]))
            let reason = "it is another name of \(escaped(first)), which could not be restored"
            return state.problem(link.folder.path(of: link.name), .failed(reason))
        }
        do throws(SystemCallError) {
            let source = try reopen(link.first.folder)
            let old = source.descriptor.raw
            let new = link.folder.descriptor.raw
            try link.folder.put(link.name, temporary: link.temporary) { (name) throws(SystemCallError) in
                _ = try retryingOnInterrupt("linkat", escaped(link.name)) {
                    withCName(link.first.name) { first in withCName(name) { linkat(old, first, new, $0, 0) } }
                }
            }
            state.change { $0.hardLinks += 1 }
        } catch {
            if state.failsAll(error) { return }
            state.problem(link.folder.path(of: link.name), .failed(error.description))
        }
    }

    /// A folder that was made before, each step one name down from the target's own descriptor.
    private func reopen(_ names: [[UInt8]]) throws(SystemCallError) -> OpenFile {
        var folder = OpenFile(try target.folder.duplicate())
        for name in names {
            let flags = Files.onlyPath | O_DIRECTORY | O_NOFOLLOW
            folder = OpenFile(try FileDescriptor(at: folder.descriptor, name, flags))
        }
        return folder
    }
}

extension RestoreFolder {
    /// Puts something that is quickly made at `name`. What an earlier try left there is replaced, in one step.
    ///
    /// - Parameter make: Makes it under the name it is given.
    /// - Throws: EEXIST when something has the name that this must not replace.
    func put(
        _ name: [UInt8],
        temporary: [UInt8],
        _ make: ([UInt8]) throws(SystemCallError) -> Void
    ) throws(SystemCallError) {
        do throws(SystemCallError) { try make(name) } catch {
            guard error.code == EEXIST, !isFresh,
                try FileStatus(at: descriptor.raw, name).kind != .directory
            else { throw error }
            try Files.remove(temporary, in: descriptor)
            try make(temporary)
            try Files.renameReplacing(in: descriptor, temporary, to: name)
            // Of two names of one file rename(2) leaves both.
            try Files.remove(temporary, in: descriptor)
        }
    }
}
