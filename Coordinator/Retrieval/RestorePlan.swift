import Repository
import Restore
import Wire

/// What a restore will write, found by walking the trees before anything is sent.
struct RestorePlan {
    private(set) var files: UInt64 = 0
    /// Of file content; a file with several names once.
    private(set) var bytes: UInt64 = 0
    /// With what file systems round up to, about.
    private(set) var space: UInt64 = 0

    private static let block: UInt64 = 4096

    private struct LinkKey: Hashable {
        let inode: UInt64
        let device: UInt64
    }

    /// - Throws: `RestoreError.nothingReadable`, `.notInSnapshot`.
    init(_ walk: consuming RestoreWalk, _ selection: Selection) throws {
        var walk = walk
        var linked = Set<LinkKey>()
        while let step = try walk.next() {
            for item in step.items {
                let entry = item.entry
                guard entry.kind == .file else {
                    space += Self.block
                    continue
                }
                files += 1
                if entry.links > 1,
                    !linked.insert(LinkKey(inode: entry.inode, device: entry.device)).inserted
                {
                    continue
                }
                add(entry.size)
            }
        }
        // A path below a folder that cannot be read may exist: the restore itself reports the folder.
        if !walk.isDamaged, walk.reached.count < selection.includes.count {
            let missing = selection.includes.indices.filter { !walk.reached.contains($0) }
            throw RestoreError.notInSnapshot(
                missing.map { Array(selection.includes[$0].joined(separator: [0x2F])) }
            )
        }
    }

    private mutating func add(_ size: UInt64) {
        // A tree may name one large blob as often as it likes.
        let (sum, overflow) = bytes.addingReportingOverflow(size)
        bytes = overflow ? .max : sum
        let (total, carried) = space.addingReportingOverflow(
            (size + Self.block - 1) / Self.block * Self.block
        )
        space = carried ? .max : total
    }
}
