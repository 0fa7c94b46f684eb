import Glibc
import JSON
import Posix
import Testing

import Repository

@Suite("Packs of stock restic")
struct PackTests {
    @Test func `the example header reads as its entries and writes as its bytes`() throws {
        let example = try #require(try Vectors.load()["pack_header_example"])
        let header = try #require(example["plaintext_header"]?.string.flatMap { Posix.bytes(hex: $0) })
        let blobs = try PackHeader.parse(header, bodySize: 164)
        let expected = try #require(example["entries"]?.array)
        #expect(blobs.map(\.id.hex) == expected.map { $0["id"]?.string })
        #expect(blobs.map(\.kind.description) == expected.map { $0["type"]?.string })
        #expect(blobs.map { Int($0.offset) } == expected.map { $0["offset"]?.int })
        #expect(blobs.map { Int($0.stored) } == expected.map { $0["length"]?.int })
        #expect(blobs.map { Int($0.uncompressed) } == expected.map { $0["uncompressed_length"]?.int })
        var written: [UInt8] = []
        for blob in blobs { PackHeader.append(blob, to: &written) }
        #expect(written == header)
    }

    @Test func `a header that is cut off, lies about lengths or has unknown types is refused`() throws {
        let blob = PackedBlob(
            id: try BlobID.hash(of: [1]),
            kind: .data,
            offset: 0,
            stored: 50,
            uncompressed: 9
        )
        var header: [UInt8] = []
        PackHeader.append(blob, to: &header)
        #expect(try PackHeader.parse(header, bodySize: 50) == [blob])
        for size in [49, 51, 0] {
            #expect(throws: PackHeader.Malformed.self) { try PackHeader.parse(header, bodySize: size) }
        }
        for count in 1..<header.count {
            #expect(throws: PackHeader.Malformed.self) {
                try PackHeader.parse(Array(header[..<count]), bodySize: 50)
            }
        }
        #expect(throws: PackHeader.Malformed.self) {
            try PackHeader.parse([4] + header.dropFirst(), bodySize: 50)
        }
    }

    @Test(arguments: Vectors.repositories)
    func `every blob of a stock repository reads, and every pack verifies`(name: String) throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.open(at: scratch.unpack(name), password: Vectors.passwords[1])
        let vector = try #require(try Vectors.load()["repos"]?[name])
        let index = try repository.loadIndex()
        #expect(index.count == vector["blob_count"]?.int)
        let reader = try BlobReader(repository, index)
        var seen = 0
        for pack in try #require(vector["packs"]?.array) {
            let id = try #require(pack["id"]?.string.flatMap { BlobID(hex: $0) })
            let blobs = try reader.verify(pack: id)
            let expected = try #require(pack["blobs"]?.array)
            #expect(blobs.map(\.id.hex) == expected.map { $0["id"]?.string })
            #expect(blobs.map { Int($0.offset) } == expected.map { $0["offset"]?.int })
            #expect(try reader.size(of: id) == pack["size"]?.int)
            #expect(PackHeader.packSize(blobs) == pack["size"]?.int)
            for blob in blobs {
                let listed = try #require(index.lookup(blob.id, blob.kind))
                #expect(listed.blob == blob && listed.pack == id)
                #expect(try BlobID.hash(of: reader.read(blob.id, blob.kind)) == blob.id)
                seen += 1
            }
        }
        #expect(seen == index.count)
        #expect(try repository.listPacks() == index.packs.sorted())
        let trees = try #require(vector["trees"]?.object)
        for tree in trees.members {
            let id = try #require(BlobID(hex: tree.key))
            let text = try reader.read(id, .tree)
            #expect(String(decoding: text, as: UTF8.self) == tree.value.string)
        }
        #expect(throws: RepositoryError.unknownBlob(try BlobID.hash(of: []), .data)) {
            try reader.read(BlobID.hash(of: []), .data)
        }
    }

    @Test func `a flipped byte, a cut and a missing pack are named with the blob`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.open(
            at: scratch.unpack("repo-v2-restic0.19"),
            password: Vectors.passwords[0]
        )
        let index = try repository.loadIndex()
        var found: (pack: BlobID, blob: PackedBlob)?
        index.forEach { pack, blob in
            if blob.kind == .data && index.copies(blob.id, .data).count == 1 { found = (pack, blob) }
        }
        let (pack, blob) = try #require(found)
        let path = repository.packPath(pack)
        let whole = try Files.read(path)
        func reasons(_ bytes: [UInt8]?) throws -> String {
            if let bytes { try Files.writeAtomically(bytes, to: path) } else { try Files.remove(path) }
            var text = ""
            do { _ = try BlobReader(repository, index).read(blob.id, .data) } catch { text = "\(error)" }
            #expect(text.contains(blob.id.hex) && text.contains(pack.hex))
            return text
        }
        var flipped = whole
        flipped[Int(blob.offset) + 20] ^= 1
        #expect(try reasons(flipped).contains("its bytes were changed"))
        #expect(throws: DamagedCopy.self) { try BlobReader(repository, index).verify(pack: pack) }
        #expect(try reasons(Array(whole[..<(Int(blob.offset) + 10)])).contains("cut off"))
        #expect(try reasons(nil).contains("the pack is missing"))
        try Files.writeAtomically(whole, to: path)
        #expect(try BlobReader(repository, index).read(blob.id, .data).count == blob.plain)
    }

    @Test func `a wrong announced size is found out, and a good copy elsewhere is used`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.open(
            at: scratch.unpack("repo-v2-restic0.19"),
            password: Vectors.passwords[0]
        )
        let index = try repository.loadIndex()
        var found: (pack: BlobID, blob: PackedBlob)?
        index.forEach { pack, blob in if blob.uncompressed > 0 { found = (pack, blob) } }
        let (pack, blob) = try #require(found)
        for wrong in [blob.uncompressed - 1, blob.uncompressed + 1, .max] {
            var other = BlobIndex()
            let lie = PackedBlob(
                id: blob.id,
                kind: blob.kind,
                offset: blob.offset,
                stored: blob.stored,
                uncompressed: wrong
            )
            other.add(pack: pack, [lie])
            #expect(throws: RepositoryError.self) {
                try BlobReader(repository, other).read(blob.id, blob.kind)
            }
            // The right listing under another pack's number.
            other.add(pack: try BlobID.hash(of: [9]), [blob])
            #expect(throws: RepositoryError.self) {
                try BlobReader(repository, other).read(blob.id, blob.kind)
            }
            var healed = BlobIndex()
            healed.add(pack: try BlobID.hash(of: [9]), [blob])
            healed.add(pack: pack, [blob])
            #expect(healed.copies(blob.id, blob.kind).count == 2)
            #expect(try BlobReader(repository, healed).read(blob.id, blob.kind).count == blob.plain)
        }
    }
}
