/// How much a snapshot is where it is restored.
package struct RestoreSize: Equatable, Sendable {
    /// Names of files.
    package var files: UInt64
    /// Bytes of file content; a file with several names once.
    package var bytes: UInt64
    /// Bytes with what file systems round up to, about.
    package var space: UInt64

    package init(files: UInt64 = 0, bytes: UInt64 = 0, space: UInt64 = 0) {
        self.files = files
        self.bytes = bytes
        self.space = space
    }
}

/// Adds up the size of a snapshot, entry by entry.
package struct RestoreSizeCounter {
    package private(set) var size = RestoreSize()
    private var linked: Set<LinkedFile> = []

    private struct LinkedFile: Hashable {
        let inode: UInt64
        let device: UInt64
    }

    private static let block: UInt64 = 4096
    /// Files with several names that are remembered; beyond it each name counts as a file of its own, which is what a
    /// restore makes of it.
    private static let mostLinked = 1_000_000

    package init() {}

    package mutating func add(_ node: Node) {
        guard node.kind == .file else { return addOther() }
        addFile(bytes: node.size, links: node.links, inode: node.inode, device: node.deviceID)
    }

    /// A folder, a symbolic link, or something special.
    package mutating func addOther() { size.space = size.space.addingOrMost(Self.block) }

    /// - Parameters:
    ///   - bytes: Its size.
    ///   - links: How many names it has.
    ///   - inode, device: What its names have in common.
    package mutating func addFile(bytes: UInt64, links: UInt64, inode: UInt64, device: UInt64) {
        size.files += 1
        if links > 1, inode != 0 {
            let key = LinkedFile(inode: inode, device: device)
            if linked.contains(key) { return }
            if linked.count < Self.mostLinked { linked.insert(key) }
        }
        // A tree may name one large blob as often as it likes.
        size.bytes = size.bytes.addingOrMost(bytes)
        let (rounded, overflow) = bytes.addingReportingOverflow(Self.block - 1)
        size.space = size.space.addingOrMost(overflow ? .max : rounded / Self.block * Self.block)
    }
}

extension UInt64 {
    fileprivate func addingOrMost(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
