import Posix

/// Writes what is needed of packs that leave into new packs. Every blob is decrypted and compared with its id on the
/// way, and the new packs are read back from the disk before anything relies on them.
struct PruneRewrite {
    private let repository: Repository
    private let listing: IndexListing
    private let plan: PrunePlan
    private let progress: (PruneProgress) throws -> Void
    private var index: BlobIndex { listing.index }

    init(
        _ repository: Repository,
        _ listing: IndexListing,
        _ plan: PrunePlan,
        _ progress: @escaping (PruneProgress) throws -> Void
    ) {
        self.repository = repository
        self.listing = listing
        self.plan = plan
        self.progress = progress
    }

    /// - Parameter confirm: Called before new index files go again, because a new pack was not what had been written.
    /// - Returns: The bytes that were written.
    /// - Throws: `RepositoryError.damagedBlob`, `.verification`, `SystemCallError`, what `progress` throws.
    func run(_ confirm: () throws -> Void) throws -> Int64 {
        let packs = copies()
        let last = lastOfSeveral()
        if packs.isEmpty && last.isEmpty { return 0 }
        let total = plan.numbers(.rewritten).reduce(0) { $0 + plan.packs[$1].kept }
        var done: Int64 = 0
        let reader = try BlobReader(repository, index, pastCache: true)
        // It knows nothing: what is copied is there already, and is to be stored all the same.
        let writer = try BlobWriter(repository, BlobIndex())
        for pack in packs {
            for copy in pack {
                try progress(PruneProgress(phase: .rewriting, done: UInt64(done), total: UInt64(total)))
                try write(Int(copy), reader, writer)
                done += PrunePlan.bytes(index.copy(Int(copy)).blob)
            }
        }
        for copy in last {
            try progress(PruneProgress(phase: .rewriting, done: UInt64(done), total: UInt64(total)))
            let (pack, blob) = index.copy(Int(copy))
            do { try reader.verify(blob, in: index.packs[pack]) } catch is DamagedCopy {
                try write(Int(copy), reader, writer)
            }
        }
        try writer.flush()
        for pack in writer.index.packs {
            try progress(PruneProgress(phase: .rewriting, done: UInt64(total), total: UInt64(total)))
            try readBack(pack, writer.index, confirm)
        }
        return writer.figures.storedBytes
    }

    /// The copies that are rewritten, by pack, each pack's in the order of the file.
    private func copies() -> [[UInt32]] {
        var places = [Int?](repeating: nil, count: plan.packs.count)
        var result: [[UInt32]] = []
        for number in plan.numbers(.rewritten) {
            places[number] = result.count
            result.append([])
        }
        if result.isEmpty { return [] }
        index.forEachCopy { number, pack, _ in
            if let place = places[pack], plan.keep.contains(number) { result[place].append(UInt32(number)) }
        }
        for place in result.indices {
            result[place].sort { index.copy(Int($0)).blob.offset < index.copy(Int($1)).blob.offset }
        }
        return result
    }

    /// Copies that stay where they are while another one of the same blob leaves: it must not turn out that the one
    /// that leaves was the good one.
    private func lastOfSeveral() -> [UInt32] {
        plan.duplicated.filter { kept in
            let (pack, blob) = index.copy(Int(kept))
            if plan.leaves(pack) { return false }
            var another = false
            index.forEachCopy(of: blob.id, blob.kind) {
                if plan.leaves(index.copy($0).pack) { another = true }
            }
            return another
        }
    }

    private func write(_ number: Int, _ reader: BlobReader, _ writer: BlobWriter) throws {
        let (pack, blob) = index.copy(number)
        // As it was: what did not shrink then does not now.
        let compression: Compression = blob.uncompressed == 0 ? .never : .always
        let id: BlobID
        do {
            id = try writer.add(reader.read(blob, in: index.packs[pack]), blob.kind, compression)
        } catch is DamagedCopy {
            id = try writer.add(reader.read(blob.id, blob.kind), blob.kind, compression)
        }
        guard id == blob.id else { throw RepositoryError.verification("\(blob.kind) blob \(blob.id)") }
    }

    private func readBack(_ pack: BlobID, _ index: BlobIndex, _ confirm: () throws -> Void) throws {
        do { _ = try BlobReader(repository, index, pastCache: true).verify(pack: pack) } catch let damage
            as DamagedCopy
        {
            // Nobody shall find it; what it was made of is all there.
            let old = Set(listing.files.map(\.id))
            for file in try repository.list(.index) where !old.contains(file) {
                try confirm()
                try repository.remove(.index, file)
            }
            throw RepositoryError.verification("pack \(pack): \(damage.reason)")
        }
    }
}
