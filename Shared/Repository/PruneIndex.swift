import Posix

/// All index files, with which packs each of them names.
struct IndexListing {
    struct File {
        let id: BlobID
        /// Numbers in `index`.
        let packs: [UInt32]
        let blobs: Int
    }

    var index = BlobIndex()
    private(set) var files: [File] = []

    /// - Throws: `RepositoryError.damaged` for the first file that cannot be used, and what `step` throws.
    init(_ repository: Repository, step: () throws -> Void = {}) throws {
        for id in try repository.list(.index) {
            try step()
            var numbers: [UInt32] = []
            var blobs = 0
            for pack in try repository.indexFile(id) {
                index.add(pack: pack.id, pack.blobs)
                blobs += pack.blobs.count
                if let number = index.number(of: pack.id) { numbers.append(UInt32(number)) }
            }
            files.append(File(id: id, packs: numbers, blobs: blobs))
        }
    }
}

/// New index files in place of those that name packs which leave, name what others name too, or are small and many.
/// The new ones are written and read back before the first old one goes.
struct IndexReplacement {
    private let repository: Repository
    private let listing: IndexListing
    private let plan: PrunePlan
    /// The old files that go.
    let replaced: [BlobID]
    /// Packs that stay and that a file which stays names.
    private var named: BitSet

    init(_ repository: Repository, _ listing: IndexListing, _ plan: PrunePlan) {
        self.repository = repository
        self.listing = listing
        self.plan = plan
        var once = BitSet(below: listing.index.packs.count)
        var twice = BitSet(below: listing.index.packs.count)
        for file in listing.files {
            // A file may name a pack in two parts.
            for pack in Set(file.packs) where !once.insert(Int(pack)) { twice.insert(Int(pack)) }
        }
        var stays = listing.files.filter { file in
            !file.packs.contains { plan.leaves(Int($0)) || twice.contains(Int($0)) }
        }
        let small = stays.filter { $0.blobs < IndexFile.mostBlobs / PrunePlan.smallPart }
        if small.count >= PrunePlan.manySmall {
            stays.removeAll { $0.blobs < IndexFile.mostBlobs / PrunePlan.smallPart }
        }
        let staying = Set(stays.map(\.id))
        replaced = listing.files.map(\.id).filter { !staying.contains($0) }
        named = BitSet(below: listing.index.packs.count)
        for file in stays { for pack in file.packs { named.insert(Int(pack)) } }
    }

    var isEmpty: Bool { replaced.isEmpty }

    /// Lists the packs that stay and that no file which stays names.
    func write() throws {
        var waiting: [Int: [PackedBlob]] = [:]
        var batch: [(id: BlobID, blobs: [PackedBlob])] = []
        var blobs = 0
        func flush() throws {
            try repository.writeIndex(batch)
            batch = []
            blobs = 0
        }
        // The copies of a pack stand together, but for those that several files named in parts.
        try listing.index.forEachCopy { _, pack, blob in
            guard !plan.leaves(pack), !named.contains(pack) else { return }
            waiting[pack, default: []].append(blob)
            guard waiting[pack]?.count == plan.packs[pack].copies,
                let whole = waiting.removeValue(forKey: pack)
            else { return }
            if blobs + whole.count > IndexFile.mostBlobs { try flush() }
            batch.append((listing.index.packs[pack], whole))
            blobs += whole.count
        }
        try flush()
    }

    /// Index files that were not there when the old ones were loaded.
    func newFiles() throws -> [BlobID] {
        let old = Set(listing.files.map(\.id))
        return try repository.list(.index).filter { !old.contains($0) }
    }

    /// Reads the new files back from the disk: with the files that stay they list everything that is needed, and no pack
    /// that leaves.
    ///
    /// - Throws: `RepositoryError.verification`, `.damaged`.
    func verify(needed: BitSet) throws {
        let index = listing.index
        var listed = BitSet(below: index.count)
        index.forEachCopy { _, pack, blob in
            if named.contains(pack), let first = index.number(blob.id, blob.kind) { listed.insert(first) }
        }
        for file in try newFiles() {
            for pack in try repository.indexFile(file) {
                if let number = index.number(of: pack.id), plan.leaves(number) {
                    throw RepositoryError.verification("the new index, which names pack \(pack.id)")
                }
                for blob in pack.blobs {
                    if let first = index.number(blob.id, blob.kind) { listed.insert(first) }
                }
            }
        }
        for number in 0..<index.count where needed.contains(number) && !listed.contains(number) {
            let blob = index.copy(number).blob
            throw RepositoryError.verification("the new index, which lacks \(blob.kind) blob \(blob.id)")
        }
    }
}
