import Posix

/// Bounds that keep a damaged or hostile length from costing memory, and a pack readable by stock clients.
package enum BlobLimits {
    /// Most bytes of a blob, plain; stock clients were tried with 600 MiB.
    package static let plain = 1 << 30
    /// Most bytes of a blob in its pack.
    static let stored = plain + (plain >> 7) + Sealer.overhead
    /// Most bytes of a sealed pack header.
    static let header = 16 << 20
    /// Most bytes of a pack: offsets are 32 bits.
    static let pack = (1 << 32) - 1
}

/// Where one copy of a blob lies in its pack.
package struct PackedBlob: Equatable, Sendable {
    package let id: BlobID
    package let kind: BlobKind
    /// Bytes from the start of the pack.
    package let offset: UInt32
    /// Bytes in the pack, with the 32 of the seal.
    package let stored: UInt32
    /// Bytes after decompression; 0 for a blob that is not compressed.
    package let uncompressed: UInt32

    package init(id: BlobID, kind: BlobKind, offset: UInt32, stored: UInt32, uncompressed: UInt32) {
        self.id = id
        self.kind = kind
        self.offset = offset
        self.stored = stored
        self.uncompressed = uncompressed
    }

    /// Bytes of the blob itself.
    package var plain: Int { uncompressed != 0 ? Int(uncompressed) : max(0, Int(stored) - Sealer.overhead) }
}

/// The list of its blobs at the end of a pack: entries, sealed, then the sealed length as a 32-bit word
/// (restic's format).
package enum PackHeader {
    /// Bytes of the entry of a blob.
    static func entrySize(_ blob: PackedBlob) -> Int { blob.uncompressed == 0 ? 37 : 41 }

    /// Bytes of a whole pack of these blobs.
    package static func packSize(_ blobs: some Sequence<PackedBlob>) -> Int {
        blobs.reduce(Sealer.overhead + 4) { $0 + Int($1.stored) + entrySize($1) }
    }

    /// Appends a blob's entry.
    package static func append(_ blob: PackedBlob, to header: inout [UInt8]) {
        header.append(blob.kind.rawValue | (blob.uncompressed == 0 ? 0 : 2))
        withUnsafeBytes(of: blob.stored.littleEndian) { header.append(contentsOf: $0) }
        if blob.uncompressed != 0 {
            withUnsafeBytes(of: blob.uncompressed.littleEndian) { header.append(contentsOf: $0) }
        }
        header.append(contentsOf: blob.id.bytes)
    }

    package struct Malformed: Error { package let reason: String }

    /// The entries of an opened header; `bodySize` is the bytes of the pack before the sealed header, which the
    /// blobs must fill exactly.
    package static func parse(_ header: [UInt8], bodySize: Int) throws(Malformed) -> [PackedBlob] {
        var result: [PackedBlob] = []
        var index = 0
        var offset = 0
        func word(_ at: Int) -> UInt32 {
            UInt32(header[at]) | UInt32(header[at + 1]) << 8 | UInt32(header[at + 2]) << 16
                | UInt32(header[at + 3]) << 24
        }
        while index < header.count {
            let code = header[index]
            guard code < 4, let kind = BlobKind(rawValue: code & 1) else {
                throw Malformed(reason: "its header has an entry of the unknown type \(code)")
            }
            let compressed = code & 2 != 0
            let size = compressed ? 41 : 37
            guard header.count - index >= size else { throw Malformed(reason: "its header is cut off") }
            let stored = word(index + 1)
            let uncompressed = compressed ? word(index + 5) : 0
            guard offset + Int(stored) <= bodySize,
                let id = BlobID(bytes: header[(index + size - 32)..<(index + size)])
            else { throw Malformed(reason: "its header lists more than the pack holds") }
            result.append(
                PackedBlob(
                    id: id,
                    kind: kind,
                    offset: UInt32(truncatingIfNeeded: offset),
                    stored: stored,
                    uncompressed: uncompressed
                )
            )
            offset += Int(stored)
            index += size
        }
        guard offset == bodySize else {
            throw Malformed(reason: "its header lists \(offset) bytes of blobs, but there are \(bodySize)")
        }
        return result
    }
}
