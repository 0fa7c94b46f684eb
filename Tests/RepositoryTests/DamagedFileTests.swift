import Glibc
import Posix
import Repository
import TestSupport
import Testing

@Suite("Files that are cut, swapped, removed or replaced")
struct DamagedFileTests {
    private func expectFound(
        _ sample: borrowing CompleteRepository,
        _ files: Set<String>,
        _ what: String,
        also: (CheckFinding) -> Bool = { _ in false },
        location: SourceLocation = #_sourceLocation
    ) {
        let findings = sample.check(reopening: true)
        let about = Set(findings.compactMap(\.file)).intersection(files)
        let others = findings.filter { !files.contains($0.file ?? "") && !also($0) }
        #expect(about == files, "\(what): \(findings)", sourceLocation: location)
        #expect(others.isEmpty, "\(what): \(others)", sourceLocation: location)
        #expect(findings.allSatisfy { $0.isDamage }, "\(what)", sourceLocation: location)
        if files.contains(where: { $0.hasPrefix("data/") || $0.hasPrefix("index/") }) {
            let named = needs(findings.filter { files.contains($0.file ?? "") })
            #expect(!named.isEmpty, "\(what): nothing is said to need it", sourceLocation: location)
        }
    }

    private func isUnlisted(_ finding: CheckFinding) -> Bool {
        if case .unlistedPack = finding.kind { true } else { false }
    }

    @Test func `a file that was cut, zeroed, emptied or appended to is found, whichever it is`() throws {
        let sample = try CompleteRepository()
        var cases = 0
        for file in sample.files {
            let path = sample.path(file)
            let whole = try Files.read(path)
            var zeroed = whole
            for index in zeroed.indices { zeroed[index] = 0 }
            let variants: [(String, [UInt8])] = [
                ("cut to 0", []), ("cut to 1", Array(whole[..<1])),
                ("cut to half", Array(whole[..<(whole.count / 2)])),
                ("cut by 1", Array(whole.dropLast())), ("one byte more", whole + [0]),
                ("much more", whole + AwkwardTree.noise(5000, seed: 3)), ("zeroed", zeroed),
            ]
            for (what, bytes) in variants {
                // Every client passes over an empty lock file, so it is a note and no finding.
                if file.hasPrefix("locks/") && bytes.isEmpty {
                    try overwrite(path, bytes)
                    let report = Check.run(sample.repository, .data)
                    #expect(report.verdict == .passed && report.notes.count == 1)
                    try overwrite(path, whole)
                    continue
                }
                try overwrite(path, bytes)
                expectFound(
                    sample,
                    [file],
                    "\(file) \(what)",
                    also: file.hasPrefix("index/") ? isUnlisted : { _ in false }
                )
                try overwrite(path, whole)
                cases += 1
            }
        }
        #expect(sample.check(reopening: true).isEmpty, "the control")
        print("cut, zeroed and lengthened: \(cases) cases in \(sample.files.count) files")
    }

    private func overwrite(_ path: String, _ bytes: [UInt8]) throws {
        let file = try FileDescriptor(open: path, O_WRONLY | O_TRUNC)
        try file.writeAll(bytes)
    }

    private func swap(_ sample: borrowing CompleteRepository, _ first: String, _ second: String) throws {
        try Files.rename(sample.path(first), to: sample.path("swap"))
        try Files.rename(sample.path(second), to: sample.path(first))
        try Files.rename(sample.path("swap"), to: sample.path(second))
    }

    @Test func `two files that were swapped are both found`() throws {
        let sample = try CompleteRepository()
        var cases = 0
        for folder in ["data/", "index/", "snapshots/", "keys/"] {
            let files = sample.files.filter { $0.hasPrefix(folder) }
            for first in files.indices {
                for second in files.indices where second > first {
                    try swap(sample, files[first], files[second])
                    expectFound(
                        sample,
                        [files[first], files[second]],
                        "\(files[first]) and \(files[second]) swapped",
                        also: folder == "index/" ? isUnlisted : { _ in false }
                    )
                    try swap(sample, files[first], files[second])
                    cases += 1
                }
            }
        }
        // What is sealed opens under its own name only.
        try swap(sample, "holdfast/epoch", "holdfast/host")
        expectFound(sample, ["holdfast/epoch", "holdfast/host"], "epoch and host swapped")
        try swap(sample, "holdfast/epoch", "holdfast/host")
        #expect(sample.check(reopening: true).isEmpty, "the control")
        print("swapped: \(cases + 1) pairs")
    }

    @Test func `a pack that is gone is named with all that needs it`() throws {
        let sample = try CompleteRepository()
        for file in sample.files where file.hasPrefix("data/") {
            let away = sample.scratch.at("away")
            try Files.rename(sample.path(file), to: away)
            let findings = sample.check(reopening: false)
            let found = sample.pack(file)
            let pack = try #require(found)
            let about = findings.filter { $0.file == file }
            #expect(about.contains { $0.kind == .missingPack(pack) })
            #expect(findings.allSatisfy { $0.file == file }, "\(findings)")
            let expected = sample.needs(sample.blobs(pack))
            // Below a folder whose tree is gone nobody knows what there was.
            let isTree = sample.blobs(pack).first?.kind == .tree
            #expect(
                isTree
                    ? !needs(about).isEmpty && needs(about).isSubset(of: expected) : needs(about) == expected
            )
            try Files.rename(away, to: sample.path(file))
        }
        #expect(sample.check(reopening: false).isEmpty, "the control")
    }

    @Test func `when all packs of an index file are gone each is named`() throws {
        let sample = try CompleteRepository()
        for id in try sample.repository.list(.index) {
            var packs: [BlobID] = []
            try IndexFile.parse(sample.repository.read(.index, id)) { pack, _ in packs.append(pack) }
            #expect(packs.count == 2)
            for pack in packs {
                try Files.rename(sample.path(sample.file(pack)), to: sample.scratch.at(pack.hex))
            }
            let findings = sample.check(reopening: false)
            #expect(Set(findings.map(\.file)) == Set(packs.map { sample.file($0) }), "\(findings)")
            for pack in packs {
                try Files.rename(sample.scratch.at(pack.hex), to: sample.path(sample.file(pack)))
            }
        }
    }

    @Test
    func `an index file that is gone leaves packs that are needed and unlisted, and stock restic heals it`()
        throws
    {
        let sample = try CompleteRepository()
        for id in try sample.repository.list(.index) {
            let file = "index/\(id)"
            var packs: [BlobID] = []
            try IndexFile.parse(sample.repository.read(.index, id)) { pack, _ in packs.append(pack) }
            try Files.rename(sample.path(file), to: sample.scratch.at("away"))
            let findings = sample.check(reopening: false)
            #expect(Set(findings.map(\.kind)) == Set(packs.map { .unlistedPack($0) }), "\(findings)")
            for pack in packs {
                #expect(needs(findings.filter { $0.pack == pack }) == sample.needs(sample.blobs(pack)))
            }
            try Files.rename(sample.scratch.at("away"), to: sample.path(file))
        }
        // All of them: every pack is unlisted, and everything is still reached.
        for id in try sample.repository.list(.index) { try sample.repository.remove(.index, id) }
        let findings = sample.check(reopening: false)
        #expect(findings.count == 4 && findings.allSatisfy(isUnlisted))
        try restic(sample.repository.path, password: "secret", ["unlock", "--remove-all"])
        try restic(sample.repository.path, password: "secret", ["rebuild-index"])
        #expect(sample.check(reopening: false).isEmpty)
    }

    @Test func `a copy of a pack under another name is found and nothing is said to need it`() throws {
        let sample = try CompleteRepository()
        let original = try #require(sample.files.first { $0.hasPrefix("data/") })
        let wrong = try #require(BlobID(hex: "ab" + String(repeating: "1", count: 62)))
        try Files.writeAtomically(Files.read(sample.path(original)), to: sample.path(sample.file(wrong)))
        let findings = sample.check(reopening: false)
        #expect(findings.map(\.kind) == [.changedPack(wrong)] && findings.first?.needs.isEmpty == true)
    }

    @Test func `when only one key file is whole the repository opens with it and the other is named`() throws
    {
        let sample = try CompleteRepository()
        let keys = sample.files.filter { $0.hasPrefix("keys/") }
        for file in keys {
            let whole = try Files.read(sample.path(file))
            try overwrite(sample.path(file), Array("{}".utf8))
            expectFound(sample, [file], "\(file) without a key")
            try overwrite(sample.path(file), whole)
        }
        for file in keys { try overwrite(sample.path(file), Array("{}".utf8)) }
        // Nothing opens it any more; the first of them is named.
        #expect(keys.contains(sample.check(reopening: true).first?.file ?? ""))
    }
}
