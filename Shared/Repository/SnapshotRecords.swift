import JSON
import Posix

/// Why a snapshot must not be forgotten, kept in `holdfast/pins/ID`: a JSON object with `snapshot`, `why`, `by` and
/// `time` (RFC 3339, UTC). One for each pinned snapshot.
package struct PinRecord: Equatable, Sendable {
    package var snapshot: BlobID
    package var why: String
    /// Who pinned it.
    package var by: String
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    package var time: Int64

    package init(snapshot: BlobID, why: String, by: String, time: Int64) {
        self.snapshot = snapshot
        self.why = why
        self.by = by
        self.time = time
    }
}

/// What was proved of a snapshot and when, kept in `holdfast/proofs/ID-LEVEL`: a JSON object with `snapshot`, `level`,
/// `time` (RFC 3339, UTC) and `figures` (names and whole numbers). The newest of each level.
package struct ProofRecord: Equatable, Sendable {
    /// Each includes those before it.
    package enum Level: String, Sendable, CaseIterable {
        /// The dump ended whole, every file was stored.
        case captured
        /// Every original that the dump names is in the snapshot.
        case whole
        /// Every original was read back and has the checksum that Immich recorded.
        case proved
        /// Restored, the dump loaded, and looked at.
        case drilled
    }

    package var snapshot: BlobID
    package var level: Level
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    package var time: Int64
    /// What was counted, by name: `originals`, `bytes`.
    package var figures: [String: Int64]

    package init(snapshot: BlobID, level: Level, time: Int64, figures: [String: Int64]) {
        self.snapshot = snapshot
        self.level = level
        self.time = time
        self.figures = figures
    }
}

extension Repository {
    package func writePin(_ pin: PinRecord) throws {
        try writeSealed("pins/\(pin.snapshot)", pin.encoded())
    }

    /// Keeps a proof in place of an earlier one of the same level.
    package func writeProof(_ proof: ProofRecord) throws {
        try writeSealed("proofs/\(proof.snapshot)-\(proof.level.rawValue)", proof.encoded())
    }

    /// All pins, by snapshot.
    /// - Parameter damaged: Told of each that cannot be used, which is then left out; unless given, the first is thrown.
    package func pins(damaged: (RepositoryError) throws -> Void = { throw $0 }) throws -> [PinRecord] {
        try records(in: "pins", damaged, pin)
    }

    /// All proofs, by snapshot and level.
    /// - Parameter damaged: As for `pins`.
    package func proofs(damaged: (RepositoryError) throws -> Void = { throw $0 }) throws -> [ProofRecord] {
        try records(in: "proofs", damaged, proof)
    }

    private func records<R>(
        in folder: String,
        _ damaged: (RepositoryError) throws -> Void,
        _ read: (String) throws -> R?
    ) throws -> [R] {
        var result: [R] = []
        for name in try sideFiles(in: folder) {
            do { if let record = try read(name) { result.append(record) } } catch let error as RepositoryError
            {
                try damaged(error)
            }
        }
        return result
    }

    /// The pin in the file `pins/ID`, nil when that is gone.
    func pin(_ name: String) throws -> PinRecord? {
        guard let text = try readSealed(name) else { return nil }
        guard let json = try? JSON(parsing: text),
            let snapshot = json["snapshot"]?.string.flatMap(BlobID.init(hex:)), name == "pins/\(snapshot)",
            let why = json["why"]?.string, let by = json["by"]?.string,
            let time = json["time"]?.string.flatMap(Time.parseRFC3339)
        else { throw RepositoryError.damaged(file: try sidePath(name), reason: "it is no record of a pin") }
        return PinRecord(snapshot: snapshot, why: why, by: by, time: time)
    }

    /// The proof in the file `proofs/ID-LEVEL`, nil when that is gone.
    func proof(_ name: String) throws -> ProofRecord? {
        guard let text = try readSealed(name) else { return nil }
        var figures: [String: Int64] = [:]
        guard let json = try? JSON(parsing: text),
            let snapshot = json["snapshot"]?.string.flatMap(BlobID.init(hex:)),
            let level = json["level"]?.string.flatMap(ProofRecord.Level.init(rawValue:)),
            name == "proofs/\(snapshot)-\(level.rawValue)",
            let time = json["time"]?.string.flatMap(Time.parseRFC3339), let object = json["figures"]?.object
        else { throw RepositoryError.damaged(file: try sidePath(name), reason: "it is no record of a proof") }
        for member in object.members { figures[member.key] = member.value.int64 }
        return ProofRecord(snapshot: snapshot, level: level, time: time, figures: figures)
    }
}

extension PinRecord {
    fileprivate func encoded() -> [UInt8] {
        JSON([
            ("snapshot", JSON(snapshot.hex)), ("why", JSON(why)), ("by", JSON(by)),
            ("time", JSON(Time.rfc3339(time))),
        ]).encoded()
    }
}

extension ProofRecord {
    fileprivate func encoded() -> [UInt8] {
        JSON([
            ("snapshot", JSON(snapshot.hex)), ("level", JSON(level.rawValue)),
            ("time", JSON(Time.rfc3339(time))),
            ("figures", JSON(figures.sorted { $0.key < $1.key }.map { ($0.key, JSON($0.value)) })),
        ]).encoded()
    }
}
