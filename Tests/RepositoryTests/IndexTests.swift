import Glibc
import Posix
import Testing

import Repository

@Suite("The index")
struct IndexTests {
    private func blob(_ number: Int, offset: Int = 0) throws -> PackedBlob {
        PackedBlob(
            id: try #require(BlobID(bytes: noise(32, seed: UInt64(number)))),
            kind: number % 3 == 0 ? .tree : .data,
            offset: UInt32(offset),
            stored: UInt32(100 + number),
            uncompressed: number % 2 == 0 ? 0 : UInt32(1000 + number)
        )
    }

    @Test func `what is written is read back`() throws {
        var packs: [(id: BlobID, blobs: [PackedBlob])] = []
        for pack in 0..<20 {
            packs.append(
                (
                    try BlobID.hash(of: [UInt8(pack)]),
                    try (0..<50).map { try blob(pack * 50 + $0, offset: $0) }
                )
            )
        }
        var read: [(BlobID, [PackedBlob])] = []
        try IndexFile.parse(IndexFile.encode(packs)) { read.append(($0, $1)) }
        #expect(read.map(\.0) == packs.map(\.id))
        #expect(read.map(\.1) == packs.map(\.blobs))
    }

    @Test(arguments: [
        #"{}"#, #"{"packs":null}"#, #"{"packs":[]}"#, #" { "supersedes" : ["x"], "packs" : [ ] } "#,
        #"{"packs_to_delete":[{"id":"00","blobs":7}],"packs":[{"id":"PACK","size":9,"time":"t"}]}"#,
        #"{"packs":[{"blobs":null,"id":"PACK"}]}"#, #"{"packs":[{"blobs":[],"id":"PACK"}],"more":{"a":[1]}}"#,
    ])
    func `what stock readers tolerate is tolerated`(text: String) throws {
        let pack = try BlobID.hash(of: [1])
        let text = text.replacing("PACK", with: pack.hex.uppercased())
        var read = 0
        try IndexFile.parse(Array(text.utf8)) { id, blobs in
            #expect(id == pack && blobs.isEmpty)
            read += 1
        }
        #expect(read == (text.contains(pack.hex.uppercased()) ? 1 : 0))
    }

    @Test(arguments: [
        "", "[]", #"{"packs":[{}]}"#, #"{"packs":[{"id":"12"}]}"#, #"{"packs":{}}"#, #"{"packs":[]"#,
        #"{"packs":[{"id":"PACK","blobs":[{"id":"PACK","type":"data","offset":0}]}]}"#,
        #"{"packs":[{"id":"PACK","blobs":[{"id":"PACK","type":"file","offset":0,"length":50}]}]}"#,
        #"{"packs":[{"id":"PACK","blobs":[{"id":"PACK","type":"data","offset":-1,"length":50}]}]}"#,
        #"{"packs":[{"id":"PACK","blobs":[{"id":"PACK","type":"data","offset":4294967295,"length":50}]}]}"#,
        #"{"packs":[{"id":"PACK","blobs":[{"id":"PACK","type":"data","offset":0,"length":5}]}]}"#,
        #"{"packs":[{"id":"PACK","blobs":[{"id":"PACK","type":"data","offset":0,"length":50.5}]}]}"#,
    ])
    func `nonsense is refused`(text: String) throws {
        let text = text.replacing("PACK", with: try BlobID.hash(of: [1]).hex)
        #expect(throws: IndexFile.Malformed.self) { try IndexFile.parse(Array(text.utf8)) { _, _ in } }
    }

    @Test func `a hundred thousand blobs are found in less than 80 bytes each`() throws {
        var index = BlobIndex()
        let count = 100_000
        for pack in 0..<100 {
            let blobs = try (0..<count / 100).map { try blob(pack * (count / 100) + $0, offset: $0) }
            let id = try BlobID.hash(of: [UInt8(pack), 0])
            index.add(pack: id, blobs)
            // The same entries in a second index file change nothing.
            if pack == 7 { index.add(pack: id, blobs) }
        }
        #expect(index.count == count)
        #expect(index.packs.count == 100)
        #expect(index.memory / count < 80)
        for number in 0..<count {
            let blob = try blob(number, offset: number % (count / 100))
            #expect(index.lookup(blob.id, blob.kind)?.blob == blob)
            #expect(!index.contains(blob.id, blob.kind == .data ? .tree : .data))
        }
        #expect(!index.contains(try BlobID.hash(of: Array("no".utf8)), .data))
    }

    @Test func `a damaged index file is named, and one may go on without it`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let pack = try BlobID.hash(of: [1])
        let good = try repository.write(IndexFile.encode([(pack, [try blob(1)])]), to: .index)
        let bad = try repository.write(Array(#"{"packs":[{}]}"#.utf8), to: .index)
        #expect { try repository.loadIndex() } throws: { "\($0)".contains(bad.hex) }
        var damages = 0
        let index = try repository.loadIndex { _ in damages += 1 }
        #expect(damages == 1 && index.count == 1 && good != bad)
    }
}
