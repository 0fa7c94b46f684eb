import JSON
import Posix

/// Packs that `prune` has taken out of the index and that a later run deletes: the journal `holdfast/doomed`, a JSON
/// object that lists them by the time (RFC 3339, UTC) at which that was done.
///
/// A pack that an index file names is not doomed, whatever stands here: it was taken out by a run that did not come to
/// its end, or somebody has listed it again. One that is gone means nothing either. So the journal is written before the
/// index loses the packs, and after they are gone, and being killed in between does no harm.
extension Repository {
    static let doomedName = "doomed"

    /// What the journal lists: packs and nanoseconds since 1970-01-01T00:00:00Z.
    /// - Throws: `damaged`.
    package func doomedPacks() throws -> [BlobID: Int64] {
        guard let text = try readSealed(Self.doomedName) else { return [:] }
        func damaged(_ reason: String) throws -> RepositoryError {
            .damaged(file: try sidePath(Self.doomedName), reason: reason)
        }
        guard let batches = (try? JSON(parsing: text))?["doomed"]?.array else {
            throw try damaged("it is no list of packs")
        }
        var result: [BlobID: Int64] = [:]
        for batch in batches {
            guard let time = batch["time"]?.string.flatMap(Time.parseRFC3339),
                let packs = batch["packs"]?.strings
            else { throw try damaged("it has a list without a time or packs") }
            for pack in packs {
                guard let id = BlobID(hex: pack) else { throw try damaged("it names a pack that is none") }
                result[id] = time
            }
        }
        return result
    }

    /// Replaces the journal.
    package func writeDoomed(_ packs: [BlobID: Int64]) throws {
        if packs.isEmpty { return try removeSide(Self.doomedName) }
        var batches: [Int64: [BlobID]] = [:]
        for (pack, time) in packs { batches[time, default: []].append(pack) }
        let listed = batches.sorted { $0.key < $1.key }.map { time, packs in
            JSON([("time", JSON(Time.rfc3339(time))), ("packs", JSON(packs.sorted().map(\.hex)))])
        }
        try writeSealed(Self.doomedName, JSON([("doomed", .array(listed))]).encoded())
    }
}
