package import Catalogue
package import Fleet
import Glibc
import Posix
package import Repository
package import Retention
package import Wire

/// What retention makes of a host's snapshots as they are now, with everything that the plan was made of.
package struct RetentionOutlook {
    package let plan: ForgetPlan
    package let policies: [CaptureKind: RetentionPolicy]
    /// Open findings because of which nothing goes.
    package let freezes: [FindingRow]
    /// Snapshots that a stock client made: they are left alone.
    package let foreign: Int

    /// Why what the policy lets go stays all the same; nil when nothing does.
    package var heldBack: String? {
        let count = plan.decisions.count { $0.reasons == [.frozen] }
        return count == 0 ? nil : Self.heldBack(count, freezes)
    }

    static func heldBack(_ count: Int, _ freezes: [FindingRow]) -> String {
        "\(count) snapshots that the policy lets go stay while a finding is open: "
            + freezes.map(\.message).joined(separator: "; ")
    }

    /// Reads what decides. Changes nothing and needs no lock; for what is to be done at once, the exclusive ones.
    ///
    /// - Throws: `RepositoryError.damaged` when a snapshot, pin or proof cannot be read: nothing is let go by somebody who
    ///   does not know all of them.
    package init(
        _ host: HostRow,
        _ policy: HostPolicy,
        _ catalogue: Catalogue,
        _ repository: Repository,
        now: Int64
    ) throws {
        let rows = try catalogue.snapshots(of: host)
        let granted = try catalogue.grantedSnapshots(of: host, now: now)
        // What is in one place only is in the repository, or on its way out of there: either way it counts.
        var pins: [String: String] = [:]
        for pin in try catalogue.pins(of: host) { pins[pin.snapshot] = pin.why }
        for pin in try repository.pins() { pins[pin.snapshot.hex] = pin.why }
        var proofs: [String: Set<ProofRecord.Level>] = [:]
        for proof in try catalogue.proofs(of: host) {
            if let level = ProofRecord.Level(rawValue: proof.level) {
                proofs[proof.snapshot, default: []].insert(level)
            }
        }
        for proof in try repository.proofs() { proofs[proof.snapshot.hex, default: []].insert(proof.level) }

        let files = try Self.snapshots(repository)
        let times = Dictionary(files.map { ($0.id.hex, $0.snapshot.time) }) { first, _ in first }
        let candidates: [ForgetPlan.Candidate] = rows.compactMap { row in
            // Without a file there is nothing to forget; whoever holds the locks puts the row right.
            guard let id = BlobID(hex: row.id), let time = times[row.id] else { return nil }
            return ForgetPlan.Candidate(
                id: id,
                kind: row.kind,
                time: time,
                isIncomplete: row.incomplete,
                proofs: proofs[row.id] ?? [],
                pin: pins[row.id],
                use: granted.contains(row.id) ? "granted to another machine" : nil
            )
        }
        foreign = files.count { SnapshotMarks(tags: $0.snapshot.tags) == nil }
        freezes = try catalogue.freezingFindings(of: host)
        policies = policy.retention
        plan = ForgetPlan(candidates, policies: policies, isFrozen: !freezes.isEmpty, now: now)
    }

    /// Once more when one went between being listed and being read, as may happen to who has no lock.
    private static func snapshots(_ repository: Repository) throws -> [(id: BlobID, snapshot: Snapshot)] {
        do { return try repository.snapshots() } catch let error as SystemCallError where error.code == ENOENT
        {
            return try repository.snapshots()
        }
    }
}
