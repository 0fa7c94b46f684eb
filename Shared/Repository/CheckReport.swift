import Posix

/// Something in a repository that is not as it must be.
package struct CheckFinding: Sendable, CustomStringConvertible {
    package enum Kind: Hashable, Sendable {
        /// Nothing in it can be used; what it lists counts as missing unless another index file lists it.
        case damagedIndexFile(BlobID)
        case damagedSnapshot(BlobID)
        /// The catalogue lists it, and its file is gone.
        case missingSnapshot(BlobID)
        case damagedKey(BlobID)
        /// A lock file that cannot be read stops every client.
        case damagedLock(BlobID)
        /// In `holdfast/`, by its name there.
        case damagedSideFile(String)
        /// The repository as a whole is an older copy of itself, or lost what only it holds.
        case olderCopy
        /// Nothing opens with the fleet's recovery passphrase.
        case noRecoveryKey
        /// An index file lists it.
        case missingPack(BlobID)
        /// Snapshots need what is in it, and no index file lists it.
        case unlistedPack(BlobID)
        /// The entries of the index overlap or leave gaps.
        case impossibleListing(BlobID)
        /// Bytes.
        case wrongPackSize(BlobID, expected: Int, actual: Int)
        /// The file's SHA-256 is not its name.
        case changedPack(BlobID)
        case damagedPackHeader(BlobID)
        /// Its own header and the index files list different blobs.
        case packDiffersFromIndex(BlobID)
        /// In this pack. `onlyCopy` is false when another pack holds an intact one.
        case damagedBlob(BlobID, BlobKind, pack: BlobID, onlyCopy: Bool)
        /// As above, but the system did not give its bytes, so that nobody knows whether they are right.
        case unreadBlob(BlobID, BlobKind, pack: BlobID, onlyCopy: Bool)
        /// Bytes of it outside the blobs.
        case unreadPack(BlobID)
        /// A tree that no copy of is right, found without reading whole packs.
        case unreadableTree(BlobID)
        /// A tree or a snapshot needs it and no index file lists it.
        case missingBlob(BlobID, BlobKind)
        case malformedTree(BlobID)
        /// In this tree, an entry of this name.
        case malformedEntry(tree: BlobID, name: [UInt8])
    }

    /// A path that needs what is damaged.
    package struct Need: Equatable, Sendable {
        /// Names joined with `/`; empty for the snapshot's root.
        package let path: [UInt8]
        package internal(set) var snapshots: [BlobID]
    }

    package let kind: Kind
    /// A sentence without its subject.
    package let reason: String
    /// The file that is concerned, from the repository's folder; nil when it is none or no single one.
    package let file: String?
    /// At most `mostNeeds`.
    package internal(set) var needs: [Need] = []
    /// Paths beyond those in `needs`.
    package internal(set) var furtherNeeds = 0

    static let mostNeeds = 1000

    package init(_ kind: Kind, _ reason: String, file: String? = nil) {
        self.kind = kind
        self.reason = reason
        self.file = file ?? kind.file
    }

    /// False for what could only not be read.
    package var isDamage: Bool {
        switch kind {
        case .unreadBlob, .unreadPack: false
        default: true
        }
    }

    /// The pack that is concerned, if it is one.
    package var pack: BlobID? { kind.pack }

    /// The blob that is concerned, if it is one.
    package var blob: BlobID? {
        switch kind {
        case .damagedBlob(let blob, _, _, _), .unreadBlob(let blob, _, _, _), .unreadableTree(let blob),
            .missingBlob(let blob, _), .malformedTree(let blob), .malformedEntry(let blob, _):
            blob
        default: nil
        }
    }

    package var description: String {
        let what =
            switch kind {
            case .damagedIndexFile(let id): "index file \(id)"
            case .damagedSnapshot(let id), .missingSnapshot(let id): "snapshot \(id)"
            case .damagedKey(let id): "key file \(id)"
            case .damagedLock(let id): "lock file \(id)"
            case .damagedSideFile(let name): "holdfast/\(name)"
            case .olderCopy, .noRecoveryKey: "the repository"
            case .missingPack(let id), .wrongPackSize(let id, _, _), .changedPack(let id),
                .unlistedPack(let id),
                .impossibleListing(let id), .damagedPackHeader(let id), .packDiffersFromIndex(let id),
                .unreadPack(let id):
                "pack \(id)"
            case .damagedBlob(let id, let kind, let pack, _), .unreadBlob(let id, let kind, let pack, _):
                "\(kind) blob \(id) in pack \(pack)"
            case .unreadableTree(let id), .malformedTree(let id): "tree \(id)"
            case .missingBlob(let id, let kind): "\(kind) blob \(id)"
            case .malformedEntry(let tree, let name): "entry \"\(escaped(name))\" of tree \(tree)"
            }
        var text = "\(what): \(reason)"
        if !needs.isEmpty {
            let paths = needs.prefix(10).map { "/" + escaped($0.path) }
            let more = needs.count - paths.count + furtherNeeds
            text += "; needed by " + paths.joined(separator: ", ") + (more > 0 ? " and \(more) more" : "")
        }
        return text
    }
}

extension CheckFinding.Kind {
    fileprivate var pack: BlobID? {
        switch self {
        case .missingPack(let pack), .wrongPackSize(let pack, _, _), .changedPack(let pack),
            .damagedPackHeader(let pack), .packDiffersFromIndex(let pack), .damagedBlob(_, _, let pack, _),
            .unlistedPack(let pack), .impossibleListing(let pack), .unreadBlob(_, _, let pack, _),
            .unreadPack(let pack):
            pack
        default: nil
        }
    }

    fileprivate var file: String? {
        switch self {
        case .damagedIndexFile(let id): "index/\(id)"
        case .damagedSnapshot(let id), .missingSnapshot(let id): "snapshots/\(id)"
        case .damagedKey(let id): "keys/\(id)"
        case .damagedLock(let id): "locks/\(id)"
        case .damagedSideFile(let name): "holdfast/\(name)"
        default: pack.map { "data/\($0.hex.prefix(2))/\($0)" }
        }
    }
}

/// Of one kind of thing: all = checked + skipped.
package struct CheckCount: Equatable, Sendable {
    package internal(set) var all = 0
    package internal(set) var checked = 0
    /// How many, by reason.
    package internal(set) var skipped: [String: Int] = [:]

    package var reconciles: Bool { all == checked + skipped.values.reduce(0, +) }

    mutating func skip(_ reason: String, _ count: Int = 1) {
        if count > 0 { skipped[reason, default: 0] += count }
    }
}

/// What a check looked at and what it found.
package struct CheckReport: Sendable {
    package enum Verdict: Equatable, Sendable {
        case passed
        case failed
        case couldNotRun(String)
    }

    /// Those in `holdfast/forgotten` too.
    package internal(set) var snapshots = CheckCount()
    package internal(set) var keys = CheckCount()
    package internal(set) var locks = CheckCount()
    /// Of `holdfast/`.
    package internal(set) var sideFiles = CheckCount()
    package internal(set) var indexFiles = CheckCount()
    /// Present, and of the size that the index gives.
    package internal(set) var packs = CheckCount()
    /// Every tree that a snapshot needs, once.
    package internal(set) var trees = CheckCount()
    /// Packs read whole.
    package internal(set) var packsRead = CheckCount()
    /// Copies of blobs that index files list: authenticated, decompressed, hashed.
    package internal(set) var blobsRead = CheckCount()
    /// Bytes of packs that were read whole.
    package internal(set) var bytesRead: UInt64 = 0
    package internal(set) var findings: [CheckFinding] = []
    /// What is no damage: packs that no index lists, reads that went wrong once.
    package internal(set) var notes: [String] = []
    /// What kept the check, or a part of it, from being done.
    package internal(set) var obstacle: String?

    /// Adds what somebody found who knows more than the repository does.
    package mutating func add(_ finding: CheckFinding) { findings.append(finding) }

    package var verdict: Verdict {
        if findings.contains(where: \.isDamage) { return .failed }
        if let unread = findings.first {
            return .couldNotRun("what could not be read may be whole all the same: \(unread.reason)")
        }
        if let obstacle { return .couldNotRun(obstacle) }
        let counts = [snapshots, keys, locks, sideFiles, indexFiles, packs, trees, packsRead, blobsRead]
        if counts.contains(where: { !$0.reconciles }) {
            return .couldNotRun("its counts do not add up, which is a mistake in the check itself")
        }
        if snapshots.checked == 0 { return .couldNotRun("there is no snapshot in the repository yet") }
        return .passed
    }
}

/// How far a check is.
package struct CheckProgress: Sendable {
    package enum Phase: Sendable {
        /// Snapshots and index files.
        case loading
        case packs
        case trees
        /// Whole packs, in bytes.
        case data
        /// Which files need what is damaged.
        case needs
    }

    package let phase: Phase
    package let done: UInt64
    /// 0 where it is not known before.
    package let total: UInt64
    package let findings: Int
}
