import Arguments
import Posix

/// Why a restore did not start or did not go on.
package enum RestoreError: Error, Equatable, CustomStringConvertible {
    /// The target holds something that no restore put there; `found` is one of the names in it.
    case targetNotEmpty(path: String, found: [UInt8])
    /// What is in the target was begun by the restore of something else.
    case targetOfAnother(path: String)
    /// Another process restores into it now.
    case targetInUse(path: String)
    case targetNotAFolder(path: String)
    /// Bytes.
    case notEnoughSpace(path: String, needed: UInt64, free: UInt64)
    /// Nothing in the snapshot has these paths.
    case notInSnapshot([[UInt8]])
    /// The target does not take more.
    case targetFailed(path: String, reason: String)
    /// Not even the snapshot's root folder can be read.
    case nothingReadable(reason: String)
    /// It was told to stop.
    case interrupted(path: String)
    /// The side that has the snapshot ended it.
    case ended(reason: String)

    package var description: String {
        switch self {
        case .targetNotEmpty(let path, let found):
            "\(path) is not empty (it holds \(escaped(found))) and no restore was begun there; restore into a new or "
                + "empty folder"
        case .targetOfAnother(let path):
            "in \(path) the restore of another snapshot, or of other parts of it, was begun; finish that one, or restore "
                + "into another folder"
        case .targetInUse(let path): "another restore into \(path) is running; wait for its end"
        case .targetNotAFolder(let path): "\(path) is no folder; name a new or an empty one"
        case .notEnoughSpace(let path, let needed, let free):
            "not enough space for the restore: it needs \(Human.bytes(needed)), \(path) has \(Human.bytes(free)) free; "
                + "choose another target or restore less with --include"
        case .notInSnapshot(let paths):
            "the snapshot holds nothing at " + paths.map(escaped).joined(separator: ", nor at ")
        case .targetFailed(let path, let reason):
            "the restore stopped because \(path) takes no more: \(reason); what is there is not complete, and the same "
                + "command goes on once that is mended"
        case .nothingReadable(let reason): "the snapshot's root folder cannot be read: \(reason)"
        case .interrupted(let path):
            "the restore was interrupted; the same command goes on with what is in \(path)"
        case .ended(let reason): "the coordinator ended the restore: \(reason)"
        }
    }
}
