package import Digest
package import JSON
import Posix

/// One entry of the snapshot that is not in the target as it should be.
package struct RestoreProblem: Sendable, CustomStringConvertible {
    /// A part of a file that could not be read from the repository.
    package struct DamagedPart: Equatable, Sendable {
        /// Bytes from the start of the file; its end is not known when the index does not list the blob.
        package let offset: UInt64
        package let length: UInt64?
        package let blob: SHA256Digest
        /// Names the packs.
        package let reason: String
    }

    package enum Kind: Equatable, Sendable {
        /// What could be read is under the name `keptAs` beside the place (zeros where parts are missing), or
        /// nowhere.
        case damaged([DamagedPart], keptAs: [UInt8]?)
        /// The snapshot itself has something wrong there; the sentence comes from the side that reads it.
        case inSnapshot(String)
        case failed(String)
    }

    /// In the snapshot, without a leading `/`.
    package let path: [UInt8]
    package let kind: Kind

    package var description: String {
        let name = path.isEmpty ? "/" : escaped(path)
        switch kind {
        case .damaged(let parts, let keptAs):
            let list = parts.map { part in
                let end = part.length.map { "\(part.offset + $0)" } ?? "the end"
                return "bytes \(part.offset) to \(end): \(part.reason)"
            }
            let kept = keptAs.map { "what is left of it is in \(escaped($0))" } ?? "nothing of it was kept"
            return "\(name) is damaged: \(list.joined(separator: "; ")); \(kept)"
        case .inSnapshot(let message): return "\(name): \(message)"
        case .failed(let reason): return "\(name) could not be restored: \(reason)"
        }
    }
}

/// Something that the target or this user cannot hold, counted because it concerns many entries alike.
package struct RestoreLimitation: Equatable, Sendable {
    /// Entries concerned.
    package var count = 0
    /// The first of them and why.
    package var example = ""

    mutating func add(_ path: [UInt8], _ reason: @autoclosure () -> String) {
        if count == 0 { example = "\(escaped(path)): \(reason())" }
        count += 1
    }
}

/// What a restore did.
package struct RestoreReport: Sendable {
    /// Whole ones, those of `filesKept` among them.
    package var files = 0
    /// Files that an earlier try had brought there: verified and not written again.
    package var filesKept = 0
    package var directories = 0
    /// Symbolic links.
    package var links = 0
    /// Second and further names of files.
    package var hardLinks = 0
    /// Fifos and devices.
    package var specials = 0
    /// Of file content, read back from the target and right; `bytesKept` were not written by this restore.
    package var bytes: UInt64 = 0
    package var bytesKept: UInt64 = 0
    /// The first of them; more than `problemsListed` are only counted.
    package private(set) var problems: [RestoreProblem] = []
    package private(set) var problemCount = 0
    /// Owners that could not be set; such entries have lost set-id bits too.
    package var owners = RestoreLimitation()
    package var attributes = RestoreLimitation()
    /// Of one of these none can be restored.
    package var sockets = RestoreLimitation()

    static let problemsListed = 10_000

    mutating func add(_ problem: RestoreProblem) {
        problemCount += 1
        if problems.count < Self.problemsListed { problems.append(problem) }
    }

    /// Everything that was asked for is there, byte for byte.
    package var isWhole: Bool { problemCount == 0 }

    /// What could not be kept, in sentences for people.
    package var limitations: [String] {
        [
            (owners, "owners could not be set (run the restore as root for that)"),
            (attributes, "extended attributes could not be set"),
            (sockets, "sockets were left out"),
        ].compactMap { limit, what in
            limit.count == 0 ? nil : "\(limit.count) \(what), as of \(limit.example)"
        }
    }

    /// The figures and problems for `--json`.
    package var fields: [(String, JSON)] {
        [
            ("files", JSON(files)), ("files_kept", JSON(filesKept)), ("directories", JSON(directories)),
            ("links", JSON(links)), ("hard_links", JSON(hardLinks)), ("bytes", JSON(bytes)),
            ("bytes_kept", JSON(bytesKept)), ("whole", JSON(isWhole)), ("limits", JSON(limitations)),
            ("problem_count", JSON(problemCount)),
            (
                "problems",
                .array(
                    problems.map {
                        JSON([("path", JSON(escaped($0.path))), ("message", JSON("\($0)"))])
                    }
                )
            ),
        ]
    }
}

/// How far a restore is.
package struct RestoreProgress: Sendable {
    package var files: Int
    package var bytes: UInt64
    /// Known from the start.
    package var totalFiles: Int
    package var totalBytes: UInt64
    package var problems: Int
}
