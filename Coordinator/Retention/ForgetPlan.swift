package import Repository
package import Wire

/// Which of a host's snapshots stay and why, and which go. The policy says what may go; pins and vetoes, which no policy
/// overrides, keep more.
///
/// Kinds are judged apart. The policy counts the complete snapshots of a kind among themselves, so that none of them goes
/// because an incomplete one is newer; incomplete ones stay where the policy, counting all, keeps them. A snapshot whose
/// time lies ahead of the clock stays and counts for nothing, so that it pushes none out.
package struct ForgetPlan: Sendable {
    /// A snapshot as it stands in the repository and the catalogue.
    package struct Candidate: Sendable {
        package var id: BlobID
        package var kind: CaptureKind
        /// Of what time its data are; hours and days are those of its zone.
        package var time: ZonedTime
        package var isIncomplete: Bool
        /// What was proved of it beyond that it is complete.
        package var proofs: Set<ProofRecord.Level>
        /// Why a person wants it kept.
        package var pin: String?
        /// What uses it just now.
        package var use: String?

        package init(
            id: BlobID,
            kind: CaptureKind,
            time: ZonedTime,
            isIncomplete: Bool = false,
            proofs: Set<ProofRecord.Level> = [],
            pin: String? = nil,
            use: String? = nil
        ) {
            self.id = id
            self.kind = kind
            self.time = time
            self.isIncomplete = isIncomplete
            self.proofs = proofs
            self.pin = pin
            self.use = use
        }
    }

    /// Why a snapshot stays.
    package enum Reason: Sendable, Equatable, CustomStringConvertible {
        case policy(RetentionPolicy.Reason)
        /// Nothing says what is to be kept of its kind, so everything is.
        case noPolicy
        case pin(why: String)
        /// The newest of those of its kind of which at least that is known.
        case newest(ProofRecord.Level)
        case inUse(String)
        /// Its time lies ahead of the clock.
        case ahead
        /// An open finding says that the host's data or a clock is not to be trusted.
        case frozen

        package var description: String {
            switch self {
            case .policy(let reason): reason.description
            case .noPolicy: "no policy"
            case .pin(let why): "pinned: \(why)"
            case .newest(let level): "newest \(level.rawValue)"
            case .inUse(let what): what
            case .ahead: "its time lies ahead of the clock"
            case .frozen: "a finding is open"
            }
        }
    }

    package struct Decision: Sendable {
        package let candidate: Candidate
        /// None: it goes.
        package internal(set) var reasons: [Reason]
        package var stays: Bool { !reasons.isEmpty }
    }

    /// The newest first.
    package let decisions: [Decision]

    /// Those that go, the newest first.
    package var going: [Candidate] { decisions.filter { !$0.stays }.map(\.candidate) }

    /// - Parameters:
    ///   - candidates: Of one host, in any order.
    ///   - policies: What is kept of each kind; without one everything is.
    ///   - isFrozen: A finding is open that forbids to forget anything.
    ///   - now: The coordinator's clock, nanoseconds since 1970-01-01T00:00:00Z.
    package init(
        _ candidates: [Candidate],
        policies: [CaptureKind: RetentionPolicy],
        isFrozen: Bool = false,
        now: Int64
    ) {
        var decisions: [Decision] = []
        for kind in CaptureKind.allCases {
            decisions += Self.decide(candidates.filter { $0.kind == kind }, policies[kind], now)
        }
        if isFrozen {
            for index in decisions.indices where !decisions[index].stays {
                decisions[index].reasons = [.frozen]
            }
        }
        self.decisions = decisions.sorted { $0.candidate.isNewer(than: $1.candidate) }
    }

    private static func decide(_ candidates: [Candidate], _ policy: RetentionPolicy?, _ now: Int64)
        -> [Decision]
    {
        var reasons = [[Reason]](repeating: [], count: candidates.count)
        let past = candidates.indices.filter { candidates[$0].time.nanoseconds <= now }
        let complete = past.filter { !candidates[$0].isIncomplete }
        if let policy {
            func judge(_ indices: [Int], _ counts: (Candidate) -> Bool) {
                let found = policy.reasons(indices.map { candidates[$0].time }, now: now)
                for (index, found) in zip(indices, found) where counts(candidates[index]) {
                    reasons[index] += found.map { .policy($0) }
                }
            }
            judge(complete) { _ in true }
            if complete.count < past.count { judge(past, \.isIncomplete) }
        } else {
            for index in past { reasons[index].append(.noPolicy) }
        }
        for level in ProofRecord.Level.allCases {
            let reached = past.filter { candidates[$0].reaches(level) }
            if let newest = reached.max(by: { candidates[$1].isNewer(than: candidates[$0]) }) {
                reasons[newest].append(.newest(level))
            }
        }
        for (index, candidate) in candidates.enumerated() {
            if candidate.time.nanoseconds > now { reasons[index].append(.ahead) }
            if let why = candidate.pin { reasons[index].append(.pin(why: why)) }
            if let use = candidate.use { reasons[index].append(.inUse(use)) }
        }
        return zip(candidates, reasons).map { Decision(candidate: $0, reasons: $1) }
    }
}

extension ForgetPlan.Candidate {
    /// The highest that is known of it; nil for an incomplete one of which nothing was proved.
    package var level: ProofRecord.Level? { ProofRecord.Level.allCases.last(where: isProved) }

    private func isProved(_ level: ProofRecord.Level) -> Bool {
        level == .captured ? !isIncomplete : proofs.contains(level)
    }

    /// What was proved includes what comes before it; only that all was captured has to be so.
    fileprivate func reaches(_ level: ProofRecord.Level) -> Bool {
        level == .captured
            ? !isIncomplete : ProofRecord.Level.allCases.drop { $0 != level }.contains(where: isProved)
    }

    fileprivate func isNewer(than other: Self) -> Bool {
        (time.seconds, time.nanosecond, id) > (other.time.seconds, other.time.nanosecond, other.id)
    }
}
