import Glibc
import Posix
import Repository
import TestSupport
import Testing

@Suite("Large blobs past the page cache")
struct PastCacheTests {
    /// Sizes around blocks, steps of a pack and the size from which a blob is read on its own, in a random order.
    private static let sizes: [Int] = {
        var result = [0, 1, 31, 4095, 4096, 4097, 100_000]
        for middle in [256 << 10, 1 << 20, 4 << 20] {
            for step in [-4097, -4096, -33, -32, -31, -1, 0, 1] { result.append(middle + step) }
        }
        result += [3_333_333, 8 << 20, (8 << 20) - 32, 7_000_001]
        return result
    }()

    private func roundTrip(below folder: String) throws {
        let repository = try Repository.create(at: "\(folder)/r", keys: [.password("secret")])
        let writer = try BlobWriter(repository, repository.loadIndex())
        let seed = randomBytes(8).reduce(0) { $0 << 8 | UInt64($1) }
        print("blobs past the page cache: \(Self.sizes.count) sizes, seed \(seed)")
        var random = SplitMix(seed)
        var blobs: [(id: BlobID, bytes: [UInt8])] = []
        for size in Self.sizes.shuffled(using: &random) {
            let bytes = random.bytes(size)
            blobs.append((try writer.add(bytes, .data, .never), bytes))
        }
        try writer.flush()
        let index = try repository.loadIndex()
        #expect(index.count == Self.sizes.count)
        let past = try BlobReader(repository, index, pastCache: true)
        let usual = try BlobReader(repository, index)
        for blob in blobs.shuffled(using: &random) {
            #expect(try past.read(blob.id, .data) == blob.bytes, "\(blob.bytes.count) bytes")
            #expect(try usual.read(blob.id, .data) == blob.bytes, "\(blob.bytes.count) bytes")
        }
        try restic(repository.path, password: "secret", ["check", "--read-data"])

        // A pack that was cut off in the middle of a large blob, and one with a changed byte there.
        let (id, bytes) = try #require(blobs.first { $0.bytes.count == 3_333_333 })
        let place = try #require(index.lookup(id, .data))
        let path = repository.packPath(place.pack)
        let whole = try Files.read(path, limit: 1 << 30)
        for length in [0, 1, 1_000_000, 3_333_332] {
            try Files.writeAtomically(Array(whole[..<(Int(place.blob.offset) + length)]), to: path)
            let error = #expect(throws: RepositoryError.self) {
                try BlobReader(repository, index, pastCache: true).read(id, .data)
            }
            #expect(
                "\(String(describing: error))".contains("cut off"),
                "\(length): \(String(describing: error))"
            )
        }
        var changed = whole
        changed[Int(place.blob.offset) + 2_000_000] ^= 1
        try Files.writeAtomically(changed, to: path)
        let error = #expect(throws: RepositoryError.self) {
            try BlobReader(repository, index, pastCache: true).read(id, .data)
        }
        #expect("\(String(describing: error))".contains("its bytes were changed"))
        try Files.writeAtomically(whole, to: path)
        #expect(try BlobReader(repository, index, pastCache: true).read(id, .data) == bytes)
    }

    @Test func `blobs of any size at any place come back the same`() throws {
        let scratch = try ScratchFolder()
        try roundTrip(below: scratch.path)
    }

    @Test(.enabled(if: canMount("ramfs"), "needs the right to mount a ramfs"))
    func `also where the file system knows only its cache`() throws {
        let scratch = try ScratchFolder()
        let mount = try ChildProcess.run(["mount", "-t", "ramfs", "ramfs", scratch.path])
        try #require(mount.end == .exit(0))
        defer { _ = try? ChildProcess.run(["umount", scratch.path]) }
        let file = try FileDescriptor(open: "\(scratch.path)/probe", O_RDWR | O_CREAT)
        #expect(file.setDirect(true) == false)
        try roundTrip(below: scratch.path)
    }
}
