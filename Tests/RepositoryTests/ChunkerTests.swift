import Posix
import Testing

import Repository

@Suite("Cutting into chunks")
struct ChunkerTests {
    private static func key(_ byte: UInt8) throws -> MasterKey {
        try MasterKey(
            encrypt: [UInt8](repeating: byte, count: 32),
            k: [UInt8](repeating: byte, count: 16),
            r: [UInt8](repeating: byte, count: 16)
        )
    }

    /// Lengths of the chunks of `bytes`, fed in steps.
    private func lengths(
        _ bytes: [UInt8],
        _ profile: Chunker.Profile = .dump,
        key: UInt8 = 1,
        steps: () -> Int = { .max }
    ) throws -> [Int] {
        let chunker = try Chunker(Self.key(key), profile)
        var result: [Int] = []
        var joined: [UInt8] = []
        try bytes.withUnsafeBytes { raw in
            var rest = raw[...]
            while !rest.isEmpty {
                let part = rest.prefix(steps())
                try chunker.feed(UnsafeRawBufferPointer(rebasing: part)) {
                    result.append($0.count)
                    joined += $0
                }
                rest = rest.dropFirst(part.count)
            }
        }
        try chunker.finish {
            result.append($0.count)
            joined += $0
        }
        #expect(chunker.pending == 0)
        #expect(joined == bytes)
        return result
    }

    @Test func `lengths keep to their bounds and their average`() throws {
        let cuts = try lengths(noise(12 << 20, seed: 1))
        #expect(cuts.dropLast().allSatisfy { $0 >= 16 << 10 && $0 <= 256 << 10 })
        let average = (12 << 20) / cuts.count
        #expect(average > 56 << 10 && average < 74 << 10)
    }

    @Test func `media is cut between 4 and 16 MiB, and a small file is one chunk`() throws {
        let cuts = try lengths(noise(24 << 20, seed: 2), .media)
        #expect(cuts.dropLast().allSatisfy { $0 >= 4 << 20 && $0 <= 16 << 20 })
        #expect(cuts.count >= 2)
        #expect(try lengths(noise(3 << 20, seed: 3), .media) == [3 << 20])
        #expect(try lengths([], .media) == [])
        // Without any content to cut by, the maximum does.
        #expect(try lengths([UInt8](repeating: 0, count: 20 << 20), .media) == [16 << 20, 4 << 20])
    }

    @Test func `how the bytes arrive changes nothing`() throws {
        let bytes = noise(3 << 20, seed: 4)
        let whole = try lengths(bytes)
        for (seed, most) in [(1, 1000), (2, 70_000), (3, 300_000)] {
            var random = noise(100_000, seed: UInt64(seed))[...]
            let cuts = try lengths(bytes) {
                let value = Int(random.removeFirst()) << 16 | Int(random.removeFirst()) << 8
                return 1 + (value + Int(random.removeFirst())) % most
            }
            #expect(cuts == whole)
        }
    }

    @Test func `a stream that goes on at the end of a chunk is cut as if it had never stopped`() throws {
        let bytes = noise(3 << 20, seed: 5)
        let whole = try lengths(bytes)
        for stop in [1, 7, whole.count / 2] {
            let done = whole[..<stop].reduce(0, +)
            #expect(try lengths(Array(bytes[done...])) == Array(whole[stop...]))
        }
    }

    @Test func `another key cuts elsewhere, the same key alike`() throws {
        let bytes = noise(3 << 20, seed: 6)
        #expect(try lengths(bytes, key: 1) == lengths(bytes, key: 1))
        #expect(try lengths(bytes, key: 1) != lengths(bytes, key: 2))
    }

    @Test func `an insertion moves the cuts near it only`() throws {
        let bytes = noise(6 << 20, seed: 7)
        var changed = bytes
        changed.insert(contentsOf: Array("a new row".utf8), at: 3 << 20)
        func chunks(_ bytes: [UInt8]) throws -> Set<BlobID> {
            var result: Set<BlobID> = []
            var offset = 0
            for length in try lengths(bytes) {
                result.insert(try BlobID.hash(of: Array(bytes[offset..<offset + length])))
                offset += length
            }
            return result
        }
        let fresh = try chunks(changed).subtracting(chunks(bytes))
        #expect(fresh.count >= 1 && fresh.count <= 4)
    }

    @Test func `cuts stay as they are between releases`() throws {
        // Golden: whatever changes them makes every repository store its files once more.
        let cuts = try lengths(noise(1 << 20, seed: 8))
        #expect(
            cuts == [
                75456, 54465, 65124, 78173, 62283, 86811, 70159, 65762, 54630, 103926, 53334, 78305, 59540,
                65170,
                67620, 7818,
            ]
        )
    }
}
