import Posix
package import Repository

/// Why a restore did not start or did not go on.
package enum RestoreError: Error, Equatable, CustomStringConvertible {
    /// The target holds something already; `found` is one of the names in it.
    case targetNotEmpty(path: String, found: [UInt8])
    case targetNotAFolder(path: String)
    /// Bytes.
    case notEnoughSpace(path: String, needed: UInt64, free: UInt64)
    /// Nothing in the snapshot has these paths.
    case notInSnapshot([[UInt8]])
    /// The target does not take more.
    case targetFailed(path: String, reason: String)
    /// Not even the snapshot's root folder can be read.
    case nothingReadable(reason: String)

    package var description: String {
        switch self {
        case .targetNotEmpty(let path, let found):
            "\(path) is not empty (it holds \(escaped(found))); restore into a new or empty folder"
        case .targetNotAFolder(let path): "\(path) is no folder; name a new or an empty one"
        case .notEnoughSpace(let path, let needed, let free):
            "not enough space for the restore: it needs \(amount(needed)), \(path) has \(amount(free)) free; "
                + "choose another target or restore less with --include"
        case .notInSnapshot(let paths):
            "the snapshot holds nothing at " + paths.map(escaped).joined(separator: ", nor at ")
        case .targetFailed(let path, let reason):
            "the restore stopped because \(path) takes no more: \(reason); what is there is not complete"
        case .nothingReadable(let reason): "the snapshot's root folder cannot be read: \(reason)"
        }
    }

    private func amount(_ bytes: UInt64) -> String {
        let units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(bytes)
        var unit = 0
        while value >= 1024, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return unit == 0 ? "\(bytes) bytes" : "\((value * 10).rounded() / 10) \(units[unit])"
    }
}

/// One entry of the snapshot that is not in the target as it should be.
package struct RestoreProblem: Sendable, CustomStringConvertible {
    /// A part of a file that could not be read from the repository.
    package struct DamagedPart: Equatable, Sendable {
        /// Bytes from the start of the file; its end is not known when the index does not list the blob.
        package let offset: UInt64
        package let length: UInt64?
        package let blob: BlobID
        /// Names the packs.
        package let reason: String
    }

    package enum Kind: Equatable, Sendable {
        /// What could be read is under the name `keptAs` beside the place (zeros where parts are missing), or
        /// nowhere.
        case damaged([DamagedPart], keptAs: [UInt8]?)
        /// Nothing below this directory is restored, or not all of it.
        case directory(TreeProblem)
        /// The snapshot asks for something that must not be done.
        case refused(String)
        case failed(String)
        /// Its content was restored and verified, but the tree announced this other size (bytes).
        case size(announced: UInt64, actual: UInt64)
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
        case .directory(let problem): return "\(name): \(problem)"
        case .refused(let reason): return "\(name) was refused: \(reason)"
        case .failed(let reason): return "\(name) could not be restored: \(reason)"
        case .size(let announced, let actual):
            return "\(name) has \(actual) bytes, but its directory says \(announced)"
        }
    }
}

/// Something that the target or this user cannot hold, counted because it concerns many entries alike.
package struct RestoreLimit: Equatable, Sendable {
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
    package var files = 0
    package var directories = 0
    /// Symbolic links.
    package var links = 0
    /// Second and further names of files.
    package var hardLinks = 0
    /// Fifos and devices.
    package var specials = 0
    /// Of file content, written and read back.
    package var bytes: UInt64 = 0
    package var problems: [RestoreProblem] = []
    /// Owners that could not be set; such entries have lost set-id bits too.
    package var owners = RestoreLimit()
    package var attributes = RestoreLimit()
    /// Of one of these none can be restored.
    package var sockets = RestoreLimit()

    /// Everything that was asked for is there, byte for byte.
    package var isWhole: Bool { problems.isEmpty }
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
