/// What a prune did, or would do. Sizes in bytes.
package struct PruneReport: Sendable {
    package internal(set) var snapshots = 0
    /// Forgotten snapshots whose grace is not over.
    package internal(set) var forgotten = 0
    /// Forgotten snapshots whose grace is over.
    package internal(set) var dropped: [BlobID] = []

    /// Packs that an earlier run had taken out of the index, and that are deleted now.
    package internal(set) var deletedPacks = 0
    package internal(set) var deletedBytes: Int64 = 0

    /// Packs that nothing needs, taken out of the index now.
    package internal(set) var unusedPacks = 0
    package internal(set) var unusedBytes: Int64 = 0
    /// Packs of which only a part is needed, or that are small, taken out of the index now.
    package internal(set) var rewrittenPacks = 0
    package internal(set) var rewrittenBytes: Int64 = 0
    /// What of these is needed, and is written again.
    package internal(set) var writtenBytes: Int64 = 0

    /// Packs that are out of the index and wait for a later run, with those of this one.
    package internal(set) var waitingPacks = 0
    package internal(set) var waitingBytes: Int64 = 0
    /// From when on the first of them may be deleted, nanoseconds since 1970-01-01T00:00:00Z.
    package internal(set) var nextDeletion: Int64?

    /// Of what is needed.
    package internal(set) var usedBytes: Int64 = 0
    /// Of what is not needed and stays, in packs that hold something else.
    package internal(set) var unusedLeft: Int64 = 0
    /// Of what would be freed by rewriting if there were room for it.
    package internal(set) var withoutRoom: Int64 = 0
    /// The disk became full, and nothing was rewritten.
    package internal(set) var ranOutOfSpace = false

    /// Packs that an index file named, that nothing needs and that were not there.
    package internal(set) var missingPacks = 0
    /// Packs that were out of the index and are needed again.
    package internal(set) var takenBack = 0
    /// Blobs that only forgotten snapshots within their grace need, and that somebody else has removed.
    package internal(set) var lostOfForgotten = 0
    /// Packs that a killed run had left.
    package internal(set) var adoptedPacks = 0
    /// Such packs that were damaged, and where only a person looks now.
    package internal(set) var aside: [DamagedCopy] = []
    /// The same, where a dry run leaves them alone and a disk is too full to list them; they are not counted.
    package internal(set) var orphanPacks = 0
}

/// Where a prune is.
package struct PruneProgress: Sendable {
    package enum Phase: String, Sendable {
        /// Snapshots, index and folders are read; `done` counts folders.
        case reading
        /// Packs are deleted; `done` and `total` are packs.
        case deleting
        /// What is needed is written into new packs; bytes.
        case rewriting
        /// The index is written anew.
        case index
    }

    package let phase: Phase
    package let done: UInt64
    /// 0 when it is not known.
    package let total: UInt64
}
