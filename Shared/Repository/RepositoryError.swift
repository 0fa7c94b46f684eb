import Glibc
import Posix

/// What can be wrong with a repository. Failures of system calls come as `SystemCallError`.
package enum RepositoryError: Error, Equatable {
    /// No `config` file at `path`.
    case noRepository(path: String)
    /// `path` is not empty and holds no repository; `found` is one of the names in it.
    case folderInUse(path: String, found: String)
    /// A repository is there already.
    case alreadyThere(path: String)
    /// No key file opened with the password; `unreadable` names those that could not even be tried.
    case wrongPassword(path: String, keys: Int, unreadable: [String])
    /// `config` names a version other than 2.
    case unsupportedVersion(path: String, version: Int)
    /// A file of the repository is not what its name or its seal promises.
    case damaged(file: String, reason: String)
    /// No index lists the blob.
    case unknownBlob(BlobID, BlobKind)
    /// Every copy of the blob was tried; one reason per copy.
    case damagedBlob(BlobID, BlobKind, copies: [DamagedCopy])
    /// A blob of more than `BlobLimits.plain` bytes was to be stored.
    case blobTooLarge(bytes: Int)
    /// What was stored did not read back as it was; nothing was published.
    case verification(String)
    /// Another process holds a lock file that excludes ours.
    case locked(path: String, by: LockFile)
    /// Our lock file is gone: somebody removed it, and an exclusive client may be at work.
    case lockLost(path: String)
    /// A lock file that cannot be read stops everybody.
    case unreadableLock(path: String, file: String, reason: String)
    /// The writer failed before and takes nothing more.
    case writerClosed
    /// A name or a value that the caller gave is not allowed.
    case invalid(String)
    /// libcrypto or libzstd failed at something that only fails without memory or by a mistake here.
    case library(String)
}

/// One copy of a blob that could not be used.
package struct DamagedCopy: Error, Equatable, Sendable {
    package let pack: BlobID
    package let reason: String
    /// What the system said when the bytes could not be had; nil when they were read and are wrong.
    let error: SystemCallError?

    init(pack: BlobID, reason: String, error: SystemCallError? = nil) {
        self.pack = pack
        self.reason = reason
        self.error = error
    }
}

extension SystemCallError {
    /// The disk is full, or a quota is used up.
    var isLackOfSpace: Bool { code == ENOSPC || code == EDQUOT }

    /// The disk or the network failed to give bytes that are there, which says nothing about the bytes.
    var isReadFailure: Bool {
        [EIO, EREMOTEIO, ESTALE, ETIMEDOUT, EBADMSG, EUCLEAN, ENODATA].contains(code)
    }
}

extension RepositoryError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .noRepository(let path):
            "there is no repository at \(path) (no file \(path)/config)"
        case .folderInUse(let path, let found):
            "\(path) is not empty (it holds \(found)) and is no repository; choose an empty folder"
        case .alreadyThere(let path):
            "there is a repository at \(path) already"
        case .wrongPassword(let path, let keys, let unreadable):
            "wrong password for the repository \(path): none of its \(keys) keys opens with it"
                + (unreadable.isEmpty ? "" : "; not tried: " + unreadable.joined(separator: ", "))
        case .unsupportedVersion(let path, let version):
            "the repository \(path) has format version \(version); only version 2 is supported"
                + (version == 1 ? " (restic migrate upgrade_repo_v2 makes it one)" : "")
        case .damaged(let file, let reason):
            "\(file) is damaged: \(reason)"
        case .unknownBlob(let id, let kind):
            "\(kind) blob \(id) is in no index of the repository"
        case .damagedBlob(let id, let kind, let copies):
            "\(kind) blob \(id) cannot be read: "
                + copies.map { "in pack \($0.pack) \($0.reason)" }.joined(separator: "; ")
        case .blobTooLarge(let bytes):
            "a blob of \(bytes) bytes is too large to store (at most \(BlobLimits.plain))"
        case .verification(let reason):
            "what was about to be stored does not read back as it was (\(reason)); "
                + "suspect this machine's memory. Nothing was published"
        case .locked(let path, let holder):
            "the repository \(path) is locked \(holder)"
                + (holder.owner == nil && holder.isStale()
                    ? "; that lock is stale: remove it with: restic -r \(path) unlock"
                    : "")
        case .lockLost(let path):
            "our lock file in \(path)/locks was removed by somebody; the work stops before it can do harm"
        case .unreadableLock(let path, let file, let reason):
            "the lock file \(file) cannot be read (\(reason)), which stops every client; when nothing uses the "
                + "repository, remove it with: restic -r \(path) unlock --remove-all"
        case .writerClosed:
            "the writer stopped after an earlier error and takes no more"
        case .invalid(let reason): reason
        case .library(let call):
            "\(call) failed inside its library"
        }
    }
}
