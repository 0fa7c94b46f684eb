import Glibc
import Posix

/// What a prune finds before it changes anything that counts: what is there, what is needed, and what becomes of each
/// pack.
struct PruneSurvey {
    private(set) var listing: IndexListing
    /// Numbers of first copies.
    private(set) var needed: BitSet
    var plan: PrunePlan
    /// Forgotten snapshots whose grace is over.
    private(set) var expired: [BlobID] = []
    /// Packs that are out of the index, and since when.
    var doomed: [BlobID: Int64] = [:]
    /// The journal names packs that are listed again, or gone.
    private(set) var journalIsStale = false

    private let repository: Repository
    private let terms: Prune.Terms
    /// Of packs that are out of the index.
    private var doomedSizes: [BlobID: Int64] = [:]

    /// - Parameter writes: Whether what killed runs left is put in order.
    /// - Throws: `PruneRefused` when anything that needs blobs cannot be read, or what it needs is not there.
    init(
        _ repository: Repository,
        _ terms: Prune.Terms,
        writes: Bool,
        _ report: inout PruneReport,
        _ progress: @escaping (PruneProgress) throws -> Void
    ) throws {
        self.repository = repository
        self.terms = terms
        func step() throws { try progress(PruneProgress(phase: .reading, done: 0, total: 0)) }

        // Snapshots first: the index that is loaded after them knows what they need.
        let forgotten = try Self.refusing { try repository.forgotten() }
        let present = try Self.refusing { try repository.snapshots() }
        let pinned = Set(try repository.sideFiles(in: "pins"))
        let roots = present.map { (name: "snapshot \($0.id.short)", tree: $0.snapshot.tree) }
        var recallable: [(name: String, tree: BlobID)] = []
        for (id, time, snapshot) in forgotten {
            if terms.now - time >= terms.grace && !pinned.contains("pins/\(id)") {
                expired.append(id)
            } else {
                recallable.append(("the forgotten snapshot \(id.short)", snapshot.tree))
            }
        }
        report.snapshots = present.count
        report.forgotten = recallable.count

        var listing = try Self.refusing { try IndexListing(repository, step: step) }
        let onDisk = try repository.listPacks()
        let journal = try Self.journal(repository, writes: writes)
        let unlisted = onDisk.filter { !listing.index.contains(pack: $0) }
        let orphans = unlisted.filter { journal[$0] == nil }
        if writes && !orphans.isEmpty {
            do {
                let adoption = try repository.adopt(orphans, into: &listing.index)
                report.adoptedPacks += adoption.adopted.count
                report.aside += adoption.aside
                report.orphanPacks = 0
            } catch let error as SystemCallError where error.isLackOfSpace {
                // They wait for a run that finds room.
                report.orphanPacks = orphans.count
            }
            listing = try Self.refusing { try IndexListing(repository, step: step) }
        } else {
            report.orphanPacks = orphans.count
        }
        var out = unlisted.filter { journal[$0] != nil }

        // Until nothing is missing that a pack on its way out still has.
        var needs: PruneNeeds
        while true {
            needs = try PruneNeeds(repository, listing.index)
            func add(_ root: (name: String, tree: BlobID)) throws {
                let done = needs.trees
                var number: UInt64 = 0
                try needs.add(tree: root.tree, of: root.name) {
                    number += 1
                    try progress(PruneProgress(phase: .reading, done: done + number, total: 0))
                }
            }
            for root in roots { try add(root) }
            let lost = needs.missing
            for root in recallable { try add(root) }
            if needs.missing.isEmpty { break }
            let wanted = try Self.holders(of: needs.missing, among: out, repository, listing.index)
            if wanted.isEmpty {
                guard lost.isEmpty else { throw Self.lost(lost) }
                // A stock client's prune knows nothing of forgotten snapshots. What is left of them stays.
                report.lostOfForgotten = needs.missing.count
                break
            }
            report.takenBack += wanted.count
            if writes {
                report.aside += try repository.adopt(wanted, into: &listing.index).aside
                listing = try Self.refusing { try IndexListing(repository, step: step) }
            } else {
                let reader = try BlobReader(repository, listing.index)
                for pack in wanted { listing.index.add(pack: pack, try reader.header(of: pack)) }
            }
            out.removeAll { wanted.contains($0) }
        }
        try needs.addIfThere(trees: terms.heldTrees, blobs: terms.heldBlobs, step)

        let there = Set(onDisk)
        let sizes = try listing.index.packs.map { there.contains($0) ? try Self.size(repository, $0) : nil }
        plan = try PrunePlan(listing.index, needed: needs.needed, sizes: sizes)
        needed = needs.needed
        self.listing = listing
        for pack in out {
            // Of a clock that was ahead.
            doomed[pack] = journal[pack].map { min($0, terms.now) }
            doomedSizes[pack] = try Self.size(repository, pack)
        }
        journalIsStale = doomed != journal
    }

    /// Packs that have been out of the index long enough, in byte order.
    var due: [BlobID] {
        doomed.filter { terms.now - $0.value >= terms.rest }.keys.sorted()
    }

    /// Bytes on the disk of packs that are out of the index or leave it.
    func bytes(of packs: some Sequence<BlobID>) -> Int64 {
        packs.reduce(0) { sum, pack in
            sum + (doomedSizes[pack] ?? listing.index.number(of: pack).flatMap { plan.packs[$0].size } ?? 0)
        }
    }

    // MARK: Reading

    /// A journal that was damaged is set aside: what it named is listed again and judged anew.
    private static func journal(_ repository: Repository, writes: Bool) throws -> [BlobID: Int64] {
        do { return try repository.doomedPacks() } catch RepositoryError.damaged {
            if writes { try repository.setAside("holdfast/\(Repository.doomedName)") }
            return [:]
        }
    }

    private static func size(_ repository: Repository, _ pack: BlobID) throws(SystemCallError) -> Int64? {
        do throws(SystemCallError) {
            return Int64(try FileStatus(path: repository.packPath(pack)).size)
        } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    private static func refusing<R>(_ body: () throws -> R) throws -> R {
        do { return try body() } catch let error as RepositoryError {
            throw PruneRefused(reason: "\(error)")
        }
    }

    /// Packs that say that they hold some of `missing`.
    private static func holders(
        of missing: Set<BlobKey>,
        among packs: [BlobID],
        _ repository: Repository,
        _ index: BlobIndex
    ) throws -> [BlobID] {
        let reader = try BlobReader(repository, index)
        var result: [BlobID] = []
        for pack in packs {
            // One that cannot be read is none that anything can be taken from.
            guard let blobs = try? reader.header(of: pack) else { continue }
            if blobs.contains(where: { missing.contains(BlobKey(id: $0.id, kind: $0.kind)) }) {
                result.append(pack)
            }
        }
        return result
    }

    private static func lost(_ missing: Set<BlobKey>) -> PruneRefused {
        let example = missing.first.map { "\($0.kind) blob \($0.id)" } ?? ""
        return PruneRefused(
            reason: "\(missing.count) blobs that snapshots need are in no index file, \(example) among them"
        )
    }
}
