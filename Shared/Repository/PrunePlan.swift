import Posix

/// What `prune` does with each pack. Nothing is read or written here.
///
/// Memory: two bits for each copy of a blob and some words for each pack.
struct PrunePlan {
    /// Sizes in bytes.
    struct Pack {
        /// On disk; nil when it is not there.
        var size: Int64?
        /// What it must have by what is listed in it.
        var listed = Int64(Sealer.overhead + 4)
        /// Of the copies that stay.
        var kept: Int64 = 0
        /// Of blobs that nothing needs.
        var dead: Int64 = 0
        var copies = 0
        var holdsData = false
        var holdsTrees = false

        /// Of copies that go, in the pack as it is.
        var unused: Int64 { listed - Int64(Sealer.overhead + 4) - kept }
        var isUsable: Bool { size == listed }
    }

    enum Fate: UInt8 {
        case stays
        /// Nothing in it is needed.
        case goes
        /// What is needed of it is written into a new pack.
        case rewritten
        /// An index file lists it, nothing needs it, and it is not there.
        case isGone
    }

    /// By number, as `fates`.
    private(set) var packs: [Pack]
    private(set) var fates: [Fate]
    /// Numbers of the copies that stay or are rewritten: one of each blob that is needed.
    private(set) var keep: BitSet
    /// Kept copies of blobs that have more than one.
    private(set) var duplicated: [UInt32] = []
    /// Bytes of partly used packs that would be rewritten if there were room.
    private(set) var withoutRoom: Int64 = 0
    private let index: BlobIndex

    /// As much as this part of all packs may be taken by what nothing needs.
    private static let mostUnused = 0.05
    /// Packs smaller than this part of their target are small; so many of them are merged.
    static let smallPart = 4
    static let manySmall = 16

    /// - Parameters:
    ///   - sizes: Of packs on disk, by their number.
    ///   - needed: By the number of the first copy.
    /// - Throws: `PruneRefused` when something that is needed lies only in packs that are missing or cut off.
    init(_ index: BlobIndex, needed: BitSet, sizes: [Int64?]) throws {
        self.index = index
        packs = sizes.map { Pack(size: $0) }
        fates = [Fate](repeating: .stays, count: packs.count)
        keep = BitSet(below: index.count)
        try choose(needed)
        for number in packs.indices where packs[number].kept == 0 {
            fates[number] = packs[number].size == nil ? .isGone : .goes
        }
    }

    /// Bytes that a copy takes in its pack.
    static func bytes(_ blob: PackedBlob) -> Int64 { Int64(blob.stored) + Int64(PackHeader.entrySize(blob)) }

    // MARK: Copies

    private mutating func choose(_ needed: BitSet) throws {
        index.forEachCopy { _, pack, blob in
            packs[pack].listed += Self.bytes(blob)
            packs[pack].copies += 1
            if blob.kind == .data { packs[pack].holdsData = true } else { packs[pack].holdsTrees = true }
        }
        var several: [UInt32] = []
        var lost: (blob: PackedBlob, pack: Int)?
        var losses = 0
        index.forEachCopy { number, pack, blob in
            guard let first = index.number(blob.id, blob.kind) else { return }
            guard needed.contains(first) else {
                packs[pack].dead += Self.bytes(blob)
                return
            }
            guard number == first else { return }
            var copies = 0
            index.forEachCopy(of: blob.id, blob.kind) { _ in copies += 1 }
            if copies > 1 {
                several.append(UInt32(number))
            } else if packs[pack].isUsable {
                keepCopy(number)
            } else {
                lost = lost ?? (blob, pack)
                losses += 1
            }
        }
        for first in several where !chooseCopy(Int(first)) {
            let copy = index.copy(Int(first))
            lost = lost ?? (copy.blob, copy.pack)
            losses += 1
        }
        if let lost {
            let size = packs[lost.pack].size.map { "has \($0) bytes instead of \(packs[lost.pack].listed)" }
            throw PruneRefused(
                reason:
                    "pack \(index.packs[lost.pack]) \(size ?? "is missing"), and with it \(losses) blobs that "
                    + "snapshots need, \(lost.blob.kind) blob \(lost.blob.id) among them"
            )
        }
    }

    private mutating func keepCopy(_ number: Int) {
        let (pack, blob) = index.copy(number)
        keep.insert(number)
        packs[pack].kept += Self.bytes(blob)
    }

    /// Of several copies that stays which lies in a pack that stays anyway, and of those in the one with the least that
    /// nothing needs.
    private mutating func chooseCopy(_ first: Int) -> Bool {
        var best: (number: Int, pack: Pack)?
        let blob = index.copy(first).blob
        index.forEachCopy(of: blob.id, blob.kind) { number in
            let pack = packs[index.copy(number).pack]
            guard pack.isUsable else { return }
            guard let other = best?.pack else {
                best = (number, pack)
                return
            }
            if (pack.kept > 0) != (other.kept > 0) {
                if pack.kept > 0 { best = (number, pack) }
            } else if Double(pack.dead) * Double(other.listed) < Double(other.dead) * Double(pack.listed) {
                best = (number, pack)
            }
        }
        guard let best else { return false }
        keepCopy(best.number)
        duplicated.append(UInt32(best.number))
        return true
    }

    // MARK: Packs

    /// Bytes of all copies that stay, and of what is not needed in packs that stay.
    var used: Int64 { packs.reduce(0) { $0 + $1.kept } }
    var unusedLeft: Int64 {
        packs.indices.reduce(0) { $0 + (fates[$1] == .stays ? packs[$1].unused : 0) }
    }

    /// Decides which partly used packs are rewritten: the worst first, until no more than a twentieth of everything is
    /// unused, and small ones when they are many.
    ///
    /// - Parameter room: Bytes that may be written. What is replaced stays on the disk until a later run.
    mutating func chooseRewrites(room: Int64) {
        var room = room
        withoutRoom = 0
        let most = Int64(Double(used) * Self.mostUnused / (1 - Self.mostUnused))
        var left = unusedLeft
        let partly = packs.indices.filter { fates[$0] == .stays && packs[$0].unused > 0 }
        let worst = partly.sorted {
            Double(packs[$0].unused) * Double(packs[$1].kept) > Double(packs[$1].unused)
                * Double(packs[$0].kept)
        }
        for number in worst where left > most {
            guard rewrite(number, &room) else { continue }
            left -= packs[number].unused
        }
        for (target, isOne) in zip(BlobWriter.target, [\Pack.holdsData, \Pack.holdsTrees]) {
            let small = packs.indices.filter {
                let pack = packs[$0]
                return fates[$0] == .stays && pack[keyPath: isOne] && pack.holdsData != pack.holdsTrees
                    && pack.listed < target / Self.smallPart
            }
            if small.count < Self.manySmall { continue }
            for number in small { _ = rewrite(number, &room) }
        }
    }

    private mutating func rewrite(_ number: Int, _ room: inout Int64) -> Bool {
        guard packs[number].kept <= room else {
            withoutRoom += packs[number].unused
            return false
        }
        room -= packs[number].kept
        fates[number] = .rewritten
        return true
    }

    /// Numbers of packs with this fate.
    func numbers(_ fate: Fate) -> [Int] { fates.indices.filter { fates[$0] == fate } }

    /// Whether an index file that names it has to be replaced.
    func leaves(_ pack: Int) -> Bool { fates[pack] != .stays }
}
