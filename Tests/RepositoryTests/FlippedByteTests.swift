import Glibc
import Posix
import Repository
import TestSupport
import Testing

@Suite("Every byte of a repository")
struct FlippedByteTests {
    /// Nothing is left out: every byte of every file is under a hash or a seal. Key files too, although their JSON has
    /// parts that opening does not need: their names are their hashes.
    @Test func `a changed byte is found, with its file and all that needs it`() throws {
        let sample = try CompleteRepository()
        #expect(sample.check(reopening: true).isEmpty, "the control")
        #expect(
            Set(sample.files.map { $0.prefix { $0 != "/" } }) == [
                "config", "data", "holdfast", "index", "keys", "locks", "snapshots",
            ]
        )
        #expect(sample.files.filter { $0.hasPrefix("data/") }.count == 4)
        let seed = UInt64.random(in: 0...UInt64(UInt32.max))
        var random = SplitMix(seed)
        let start = Time.monotonic()
        var flips = 0
        var bytes = 0
        var wrong: [String] = []
        for file in sample.files {
            let size = Int(try FileStatus(path: sample.path(file)).size)
            bytes += size
            for offset in 0..<size {
                // In full two masks for each byte, a bit and its opposite half; else every ninth byte, with one.
                let masks: [UInt8]
                if isLong {
                    masks = [1 << (random.next() & 7), UInt8(truncatingIfNeeded: random.next()) | 0x80]
                } else {
                    masks = random.next() % 9 == 0 ? [1 << (random.next() & 7)] : []
                }
                for mask in masks {
                    try flip(sample.path(file), offset, mask)
                    let reopening = file == "config" || file.hasPrefix("keys/") && (offset + flips) % 8 == 0
                    let problem = judge(sample, file, offset, sample.check(reopening: reopening))
                    try flip(sample.path(file), offset, mask)
                    if let problem { wrong.append("\(file) at \(offset), mask \(mask): \(problem)") }
                    flips += 1
                }
            }
        }
        #expect(
            wrong.isEmpty,
            "\(wrong.count) of \(flips), seed \(seed): \(wrong.prefix(10).joined(separator: "\n"))"
        )
        #expect(sample.check(reopening: true).isEmpty, "the control afterwards")
        let seconds = Double(Time.monotonic() - start) / 1e9
        print(
            "flipped bytes: \(flips) flips in \(bytes) bytes of \(sample.files.count) files, seed \(seed), \(seconds) s"
        )
    }

    private func flip(_ path: String, _ offset: Int, _ mask: UInt8) throws {
        let file = try FileDescriptor(open: path, O_RDWR)
        var byte: [UInt8] = [0]
        try byte.withUnsafeMutableBytes { bytes throws in
            _ = try file.pread(into: bytes, at: Int64(offset))
            bytes[0] ^= mask
            try file.pwriteAll(UnsafeRawBufferPointer(bytes), at: Int64(offset))
        }
    }

    /// What is wrong with what was found; nil when it is about this file, about no other, and names all that needs it.
    private func judge(
        _ sample: borrowing CompleteRepository,
        _ file: String,
        _ offset: Int,
        _ findings: [CheckFinding]
    ) -> String? {
        let about = findings.filter { $0.file == file }
        if about.isEmpty { return "not found: \(findings)" }
        if !findings.allSatisfy(\.isDamage) { return "called unread: \(findings)" }
        // A lost index file leaves its packs unlisted, and that is said too.
        let others = findings.filter { finding in
            if case .unlistedPack = finding.kind, file.hasPrefix("index/") { return false }
            return finding.file != file
        }
        if !others.isEmpty { return "others than the one concerned: \(others)" }
        let expected: Set<String>
        if let pack = sample.pack(file) {
            let blobs = sample.blobs(pack)
            let hit = blobs.filter { (Int($0.offset)..<Int($0.offset) + Int($0.stored)).contains(offset) }
            // The header is everybody's.
            expected = sample.needs(hit.isEmpty ? blobs : hit)
        } else if file.hasPrefix("index/") {
            expected = sample.needs(
                findings.flatMap { finding -> [PackedBlob] in
                    if case .unlistedPack(let pack) = finding.kind { return sample.blobs(pack) }
                    return []
                }
            )
            if expected.isEmpty { return "no pack is said to be unlisted: \(findings)" }
        } else {
            expected = []
        }
        let named = needs(about)
        return named == expected ? nil : "needed by \(named.sorted()) and not by \(expected.sorted())"
    }
}
