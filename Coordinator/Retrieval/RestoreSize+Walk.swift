import Repository
import Restore
import Wire

extension RestoreSize {
    /// What a restore will write, found by walking the trees before anything is sent.
    ///
    /// - Throws: `RestoreError.nothingReadable`, `.notInSnapshot`.
    init(walking walk: consuming RestoreWalk, _ selection: Selection) throws {
        var walk = walk
        var counter = RestoreSizeCounter()
        while let step = try walk.next() {
            for entry in step.items.lazy.map(\.entry) {
                if entry.kind == .file {
                    counter.addFile(
                        bytes: entry.size,
                        links: UInt64(entry.links),
                        inode: entry.inode,
                        device: entry.device
                    )
                } else {
                    counter.addOther()
                }
            }
        }
        // A path below a folder that cannot be read may exist: the restore itself reports the folder.
        if !walk.isDamaged, walk.reached.count < selection.includes.count {
            let missing = selection.includes.indices.filter { !walk.reached.contains($0) }
            throw RestoreError.notInSnapshot(
                missing.map { Array(selection.includes[$0].joined(separator: [0x2F])) }
            )
        }
        self = counter.size
    }
}
