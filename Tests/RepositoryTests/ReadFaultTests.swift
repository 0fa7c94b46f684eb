import CReadFaults
import Glibc
import Posix
import Repository
import TestSupport
import Testing

@Suite("Reads that go wrong", .serialized)
struct ReadFaultTests {
    /// Checks while reads of `file` go wrong.
    private func check(
        _ sample: borrowing CompleteRepository,
        _ file: String,
        _ fault: Int,
        skip: Int = 0,
        count: Int = .max
    ) -> (report: CheckReport, faults: Int) {
        readfault_arm(sample.path(file), Int32(fault), Int32(skip), Int32(clamping: count))
        let report = Check.run(sample.repository, .data)
        return (report, Int(readfault_disarm()))
    }

    private func packs(_ sample: borrowing CompleteRepository, _ kind: BlobKind) -> [BlobID] {
        var result: [BlobID] = []
        for pack in sample.index.packs where sample.blobs(pack).first?.kind == kind { result.append(pack) }
        return result
    }

    @Test func `an error, a short or a wrong read that passes is not called damage`() throws {
        let sample = try CompleteRepository()
        var faults = 0
        var cases = 0
        for file in sample.files where file != "config" {
            for fault in [readfault_error, readfault_short, readfault_wrong, readfault_end] {
                // The first read, and one in the middle of the work.
                for skip in [0, 2, 5] {
                    let (report, hits) = check(sample, file, Int(fault), skip: skip, count: 1)
                    #expect(
                        report.verdict == .passed,
                        "\(file), fault \(fault): \(report.findings) \(report.verdict)"
                    )
                    faults += hits
                    cases += 1
                }
                // Twice the same, and right at the third time.
                let (report, hits) = check(sample, file, Int(fault), count: 2)
                #expect(
                    report.verdict == .passed,
                    "\(file), fault \(fault): \(report.findings) \(report.verdict)"
                )
                #expect(hits > 0, "\(file) was not read")
                faults += hits
                cases += 1
            }
        }
        print("reads that went wrong and were right again: \(faults) in \(cases) checks")
    }

    @Test func `short reads all along are none of the check's concern`() throws {
        let sample = try CompleteRepository()
        readfault_arm(sample.repository.path, Int32(readfault_short), 0, .max)
        let report = Check.run(sample.repository, .data)
        #expect(readfault_disarm() > 100)
        #expect(report.verdict == .passed && report.notes.isEmpty, "\(report.findings)")
    }

    @Test(arguments: [BlobKind.data, .tree])
    func `a pack that the disk does not give could not be read and is not damaged`(_ kind: BlobKind) throws {
        let sample = try CompleteRepository()
        let pack = packs(sample, kind)[0]
        let (report, faults) = check(sample, sample.file(pack), Int(readfault_error))
        #expect(faults > 0 && !report.findings.isEmpty)
        #expect(report.findings.allSatisfy { !$0.isDamage && $0.pack == pack }, "\(report.findings)")
        guard case .couldNotRun(let reason) = report.verdict else {
            Issue.record("\(report.verdict)")
            return
        }
        #expect(reason.contains("Input/output error"))
        // What may be lost is named as for damage; below a folder that cannot be read, nobody knows.
        if kind == .data { #expect(needs(report.findings) == sample.needs(sample.blobs(pack))) }
        #expect(report.blobsRead.reconciles && report.packsRead.reconciles && report.trees.reconciles)
    }

    @Test func `one block that the disk does not give costs the files in it and no other is left out`() throws
    {
        let sample = try CompleteRepository()
        let pack = packs(sample, .data)[0]
        let blobs = sample.blobs(pack)
        // Hash of the file, tail, header and the first blob are read; the next is not given, six times.
        let (report, _) = check(sample, sample.file(pack), Int(readfault_error), skip: 4, count: 6)
        #expect(report.findings.count == 1, "\(report.findings)")
        #expect(report.findings.first?.blob == blobs[1].id)
        #expect(needs(report.findings) == sample.needs([blobs[1]]))
        #expect(report.blobsRead.checked == report.blobsRead.all - 1)
    }

    @Test func `damage beside an unreadable pack is told apart from it`() throws {
        let sample = try CompleteRepository()
        let packs = packs(sample, .data)
        try #require(packs.count == 2)
        try flipByte(sample.repository.packPath(packs[1]), at: 40)
        let (report, _) = check(sample, sample.file(packs[0]), Int(readfault_error))
        #expect(report.verdict == .failed)
        #expect(Set(report.findings.filter(\.isDamage).map(\.pack)) == [packs[1]])
        #expect(Set(report.findings.filter { !$0.isDamage }.map(\.pack)) == [packs[0]])
    }

    @Test func `a small file that the disk does not give is named and is no finding`() throws {
        let sample = try CompleteRepository()
        for file in sample.files where !file.hasPrefix("data/") && file != "config" {
            let (report, _) = check(sample, file, Int(readfault_error))
            guard case .couldNotRun(let reason) = report.verdict else {
                Issue.record("\(file): \(report.verdict) \(report.findings)")
                continue
            }
            #expect(report.findings.isEmpty && reason.contains(file), "\(file): \(reason)")
        }
    }

    @Test func `a pack that appears late is not called missing`() throws {
        let sample = try CompleteRepository()
        let path = sample.repository.packPath(packs(sample, .data)[0])
        let away = sample.scratch.at("away")
        try Files.rename(path, to: away)
        let late = try Thread("late") {
            Time.sleep(seconds: 0.25)
            try Files.rename(away, to: path)
        }
        let report = Check.run(sample.repository, .data)
        try late.join()
        #expect(report.verdict == .passed, "\(report.findings)")
        #expect(report.notes.contains { $0.contains("attempt") }, "\(report.notes)")
    }
}
