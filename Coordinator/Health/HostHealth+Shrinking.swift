import Arguments
import Catalogue
import Fleet

/// A dump or library that lost much of what it held against its own history. Every one of these freezes: the older
/// snapshots may be all that is left of what is missing.
extension HostHealth {
    /// Less than this is no loss to speak of, whatever part it is: in bytes and files.
    private static let smallDump: Int64 = 64 << 10
    private static let smallLibrary: Int64 = 20_000_000
    private static let fewFiles: Int64 = 20

    static func dumpShrank(_ facts: HostFacts, _ policy: HostPolicy) -> Condition? {
        let settled = facts.settled[.dumpShrank]
        let dumps = history(facts.dumps, settled, \.time)
        let standing = facts.standing[.dumpShrank]
        if let standing, standing.referenceBytes == nil || dumps.isEmpty {
            return standingStill(.dumpShrank, standing)
        }
        guard let newest = dumps.first else { return nil }
        guard let before = standing?.referenceBytes ?? dumps.dropFirst().map(\.bytes).max(),
            lost(newest.bytes, of: before, limit: policy.watch.dumpShrink, small: smallDump)
        else { return nil }
        return shrunk(
            .dumpShrank,
            "the newest dump has \(Human.bytes(newest.bytes)), \(part(newest.bytes, before)) less than the "
                + "\(Human.bytes(before)) before (allowed: \(percent(policy.watch.dumpShrink)))",
            facts,
            Reference(bytes: before, files: nil, dataOf: newest.time)
        )
    }

    static func libraryShrank(_ facts: HostFacts, _ policy: HostPolicy) -> Condition? {
        let settled = facts.settled[.libraryShrank]
        let standing = facts.standing[.libraryShrank]
        if let standing, standing.referenceBytes == nil || facts.libraries.isEmpty {
            return standingStill(.libraryShrank, standing)
        }
        guard let newest = facts.libraries.first else { return nil }
        // With another scope it holds something else.
        let libraries = history(facts.libraries.prefix { $0.scope == newest.scope }, settled, \.time)
        let earlier = libraries.dropFirst()
        let limit = policy.watch.libraryShrink
        let bytes = standing?.referenceBytes ?? earlier.map(\.bytes).max()
        let files = standing?.referenceFiles ?? earlier.map(\.files).max()
        let fewer = files.map { lost(newest.files, of: $0, limit: limit, small: fewFiles) } ?? false
        let less = bytes.map { lost(newest.bytes, of: $0, limit: limit, small: smallLibrary) } ?? false
        guard let bytes, let files, fewer || less else { return nil }
        let fact =
            fewer
            ? "the library has \(Human.count(newest.files)) files, \(part(newest.files, files)) less than the "
                + "\(Human.count(files)) before"
            : "the library has \(Human.bytes(newest.bytes)), \(part(newest.bytes, bytes)) less than the "
                + "\(Human.bytes(bytes)) before"
        return shrunk(
            .libraryShrank,
            "\(fact) (allowed: \(percent(limit)))",
            facts,
            Reference(bytes: bytes, files: files, dataOf: newest.time)
        )
    }

    private struct Reference {
        var bytes: Int64
        var files: Int64?
        var dataOf: Int64
    }

    private static func shrunk(
        _ kind: Condition.Kind,
        _ fact: String,
        _ facts: HostFacts,
        _ reference: Reference
    ) -> Condition {
        var condition = Condition(
            kind,
            .critical,
            fact,
            advice:
                "nothing of it is forgotten meanwhile; if that is as it should be, `holdfast-coordinator findings "
                + "\(facts.name)` and `finding close` end this",
            freezes: true
        )
        condition.referenceBytes = reference.bytes
        condition.referenceFiles = reference.files
        condition.dataOf = reference.dataOf
        return condition
    }

    /// What was found stays found when the snapshots that told of it are gone, or what they were measured against is.
    private static func standingStill(_ kind: Condition.Kind, _ standing: HostFacts.Standing) -> Condition {
        var condition = Condition(kind, .critical, standing.message, advice: "", freezes: true)
        condition.referenceBytes = standing.referenceBytes
        condition.referenceFiles = standing.referenceFiles
        condition.dataOf = standing.dataOf
        return condition
    }

    /// From the newest back to the one that a person found to be as it should be.
    private static func history<Element>(
        _ all: some Sequence<Element>,
        _ settled: Int64?,
        _ time: (Element) -> Int64
    ) -> [Element] {
        guard let settled else { return Array(all) }
        var result: [Element] = []
        for element in all {
            result.append(element)
            if time(element) <= settled { break }
        }
        return result
    }

    private static func lost(_ now: Int64, of before: Int64, limit: Double, small: Int64) -> Bool {
        before - now >= small && Double(now) < Double(before) * (1 - limit)
    }

    private static func part(_ now: Int64, _ before: Int64) -> String {
        percent(before > 0 ? Double(before - now) / Double(before) : 0)
    }

    /// `10 %`, `10.4 %`.
    private static func percent(_ part: Double) -> String {
        let text = Human.fixed(part * 100, 1)
        return "\(text.hasSuffix(".0") ? String(text.dropLast(2)) : text) %"
    }
}
