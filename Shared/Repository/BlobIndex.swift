/// Where every blob of a repository lies: what all index files say, in 48 bytes a blob and a hash table of
/// four bytes a slot. A value: copies share memory until one of them is changed, so every reader's thread may
/// have one while the writer adds to its own.
package struct BlobIndex: Sendable {
    private struct Entry: Sendable, Equatable {
        var id: BlobID
        /// Number of the pack; the top bit is set for trees.
        var pack: UInt32
        var offset: UInt32
        var stored: UInt32
        var uncompressed: UInt32

        static let treeBit: UInt32 = 1 << 31
        var kind: BlobKind { pack & Self.treeBit != 0 ? .tree : .data }
        var packNumber: Int { Int(pack & ~Self.treeBit) }
        var blob: PackedBlob {
            PackedBlob(id: id, kind: kind, offset: offset, stored: stored, uncompressed: uncompressed)
        }
    }

    // Segments of one size, because one array would hold up to twice what it needs while it grows.
    private static let segmentBits = 13
    private var segments: [[Entry]] = []
    /// Entry number + 1, or 0; a power of two of them, probed one after the other.
    private var table = [UInt32](repeating: 0, count: 1024)
    /// Copies of blobs; a blob in two packs counts twice.
    package private(set) var count = 0
    /// Every pack that an index file names.
    package private(set) var packs: [BlobID] = []
    private var packNumbers: [BlobID: UInt32] = [:]
    // Ids come from content that others choose, so the place in the table must not be theirs to choose.
    private let seed = UInt64.random(in: .min ... .max)

    package init() {}

    /// Bytes that the tables take.
    package var memory: Int {
        segments.count << Self.segmentBits * MemoryLayout<Entry>.stride
            + table.count * MemoryLayout<UInt32>.stride + packs.capacity * 32 + packNumbers.capacity * 48
    }

    /// Bytes of all packs, as far as their blobs are listed.
    package var packBytes: Int64 {
        var total = Int64(packs.count) * Int64(Sealer.overhead + 4)
        forEach { total += Int64($1.stored) + Int64(PackHeader.entrySize($1)) }
        return total
    }

    // MARK: Looking up

    package func contains(_ id: BlobID, _ kind: BlobKind) -> Bool { find(id, kind) != nil }

    package func contains(pack: BlobID) -> Bool { packNumbers[pack] != nil }

    /// The first copy of a blob.
    package func lookup(_ id: BlobID, _ kind: BlobKind) -> (pack: BlobID, blob: PackedBlob)? {
        guard let number = find(id, kind) else { return nil }
        let entry = self[number]
        return (packs[entry.packNumber], entry.blob)
    }

    /// Every copy of a blob.
    package func copies(_ id: BlobID, _ kind: BlobKind) -> [(pack: BlobID, blob: PackedBlob)] {
        var result: [(pack: BlobID, blob: PackedBlob)] = []
        var slot = slot(id)
        while table[slot] != 0 {
            let entry = self[Int(table[slot]) - 1]
            if entry.id == id && entry.kind == kind { result.append((packs[entry.packNumber], entry.blob)) }
            slot = (slot + 1) & (table.count - 1)
        }
        return result
    }

    /// Every copy of every blob, in the order in which the index files gave them.
    package func forEach(_ body: (_ pack: BlobID, _ blob: PackedBlob) throws -> Void) rethrows {
        for segment in segments {
            for entry in segment { try body(packs[entry.packNumber], entry.blob) }
        }
    }

    // MARK: By number

    // Copies have the numbers from 0 to `count` - 1, packs their places in `packs`, both in the order in which they came.
    // They are what `prune` notes, in a bit or a word each, where ids would take 32 bytes.

    /// The first copy of a blob.
    func number(_ id: BlobID, _ kind: BlobKind) -> Int? { find(id, kind) }

    func number(of pack: BlobID) -> Int? { packNumbers[pack].map(Int.init) }

    func copy(_ number: Int) -> (pack: Int, blob: PackedBlob) {
        let entry = self[number]
        return (entry.packNumber, entry.blob)
    }

    /// Every copy of every blob.
    func forEachCopy(_ body: (_ number: Int, _ pack: Int, _ blob: PackedBlob) throws -> Void) rethrows {
        var number = 0
        for segment in segments {
            for entry in segment {
                try body(number, entry.packNumber, entry.blob)
                number += 1
            }
        }
    }

    /// Every copy of one blob, the first one first.
    func forEachCopy(of id: BlobID, _ kind: BlobKind, _ body: (_ number: Int) -> Void) {
        var slot = slot(id)
        while table[slot] != 0 {
            let number = Int(table[slot]) - 1
            let entry = self[number]
            if entry.id == id && entry.kind == kind { body(number) }
            slot = (slot + 1) & (table.count - 1)
        }
    }

    private func find(_ id: BlobID, _ kind: BlobKind) -> Int? {
        var slot = slot(id)
        while table[slot] != 0 {
            let number = Int(table[slot]) - 1
            let entry = self[number]
            if entry.id == id && entry.kind == kind { return number }
            slot = (slot + 1) & (table.count - 1)
        }
        return nil
    }

    private subscript(number: Int) -> Entry {
        segments[number >> Self.segmentBits][number & (1 << Self.segmentBits - 1)]
    }

    private func slot(_ id: BlobID) -> Int {
        let mixed = (id.word ^ seed) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: (mixed ^ mixed >> 32) & UInt64(table.count - 1))
    }

    // MARK: Adding

    /// Adds a pack and its blobs; what is listed already in the same words is not listed twice.
    package mutating func add(pack: BlobID, _ blobs: [PackedBlob]) {
        let number: UInt32
        if let known = packNumbers[pack] {
            number = known
        } else {
            number = UInt32(packs.count)
            packs.append(pack)
            packNumbers[pack] = number
        }
        for blob in blobs { add(blob, number) }
    }

    private mutating func add(_ blob: PackedBlob, _ pack: UInt32) {
        let entry = Entry(
            id: blob.id,
            pack: pack | (blob.kind == .tree ? Entry.treeBit : 0),
            offset: blob.offset,
            stored: blob.stored,
            uncompressed: blob.uncompressed
        )
        var slot = slot(blob.id)
        while table[slot] != 0 {
            let other = self[Int(table[slot]) - 1]
            if other == entry { return }
            slot = (slot + 1) & (table.count - 1)
        }
        if count & (1 << Self.segmentBits - 1) == 0 {
            var segment: [Entry] = []
            segment.reserveCapacity(1 << Self.segmentBits)
            segments.append(segment)
        }
        segments[segments.count - 1].append(entry)
        count += 1
        table[slot] = UInt32(count)
        if count * 5 > table.count * 4 { grow() }
    }

    private mutating func grow() {
        table = [UInt32](repeating: 0, count: table.count * 2)
        for number in 0..<count {
            var slot = slot(self[number].id)
            while table[slot] != 0 { slot = (slot + 1) & (table.count - 1) }
            table[slot] = UInt32(number + 1)
        }
    }
}
