import JSON
import Posix
import Repository
import Retention
import TestSupport
import Testing
import Wire

@Suite("What is forgotten")
struct ForgetPlanTests {
    private typealias Candidate = ForgetPlan.Candidate
    private static let day: Int64 = 86_400_000_000_000
    private static let now: Int64 = 1_795_000_000_000_000_000

    /// One of `days` ago.
    private func made(
        _ days: Double,
        _ number: UInt8,
        kind: CaptureKind = .full,
        incomplete: Bool = false,
        proofs: Set<ProofRecord.Level> = [],
        pin: String? = nil,
        use: String? = nil
    ) throws -> Candidate {
        Candidate(
            id: try #require(BlobID(bytes: [UInt8](repeating: number, count: 32))),
            kind: kind,
            time: ZonedTime(nanoseconds: Self.now - Int64(days * Double(Self.day))),
            isIncomplete: incomplete,
            proofs: proofs,
            pin: pin,
            use: use
        )
    }

    private func plan(
        _ candidates: [Candidate],
        _ policy: RetentionPolicy?,
        frozen: Bool = false
    ) -> ForgetPlan {
        ForgetPlan(
            candidates,
            policies: policy.map { [.full: $0, .database: $0] } ?? [:],
            isFrozen: frozen,
            now: Self.now
        )
    }

    private func reasons(_ plan: ForgetPlan, _ candidate: Candidate) -> [ForgetPlan.Reason] {
        plan.decisions.first { $0.candidate.id == candidate.id }?.reasons ?? []
    }

    @Test func `without a policy everything stays, and says why`() throws {
        let candidates = try (0..<5).map { try made(Double($0) * 100, UInt8($0)) }
        let plan = plan(candidates, nil)
        #expect(plan.going.isEmpty && plan.decisions.count == 5)
        #expect(plan.decisions.allSatisfy { $0.reasons.contains(.noPolicy) })
    }

    @Test func `kinds are judged apart`() throws {
        let full = try made(3, 1)
        let databases = try (0..<3).map { try made(Double($0), UInt8(10 + $0), kind: .database) }
        let plan = plan([full] + databases, RetentionPolicy([.last: 1]))
        #expect(plan.going.map(\.id) == databases.dropFirst().map(\.id))
        #expect(reasons(plan, full) == [.policy(.rule(.last)), .newest(.captured)])
    }

    @Test func `the newest of every level stays, whatever the policy`() throws {
        let drilled = try made(40, 1, proofs: [.whole, .proved, .drilled])
        let oldDrilled = try made(50, 2, proofs: [.drilled])
        let proved = try made(30, 3, proofs: [.proved])
        let whole = try made(20, 4, proofs: [.whole])
        let complete = try made(10, 5)
        let others = try [made(15, 6), made(25, 7), made(35, 8), made(45, 9)]
        let newest = try made(1, 10, incomplete: true)
        let all = [drilled, oldDrilled, proved, whole, complete, newest] + others
        let plan = plan(all, RetentionPolicy([.last: 1]))
        #expect(Set(plan.going.map(\.id)) == Set((others + [oldDrilled]).map(\.id)))
        #expect(reasons(plan, drilled) == [.newest(.drilled)])
        #expect(reasons(plan, proved) == [.newest(.proved)])
        #expect(reasons(plan, whole) == [.newest(.whole)])
        #expect(reasons(plan, complete) == [.policy(.rule(.last)), .newest(.captured)])
        #expect(reasons(plan, newest) == [.policy(.rule(.last))])
    }

    @Test func `incomplete snapshots push no complete one out`() throws {
        // Every night a complete one, every noon after it an incomplete one.
        let nights = try (0..<10).map { try made(Double($0) + 0.9, UInt8($0)) }
        let noons = try (0..<10).map { try made(Double($0) + 0.5, UInt8(50 + $0), incomplete: true) }
        let alone = plan(nights, RetentionPolicy([.daily: 4]))
        let both = plan(nights + noons, RetentionPolicy([.daily: 4]))
        let kept = Set(both.decisions.filter(\.stays).map(\.candidate.id))
        #expect(Set(alone.decisions.filter(\.stays).map(\.candidate.id)).isSubset(of: kept))
        #expect(nights.count { kept.contains($0.id) } == 4 && noons.count { kept.contains($0.id) } == 4)
    }

    @Test func `what lies ahead of the clock stays and counts for nothing`() throws {
        let past = try (0..<6).map { try made(Double($0) + 1, UInt8($0)) }
        let ahead = try (0..<6).map { try made(-Double($0) - 1, UInt8(50 + $0), proofs: [.drilled]) }
        for policy in [RetentionPolicy([.last: 3]), RetentionPolicy(within: .init(days: 3))] {
            let alone = plan(past, policy)
            let both = plan(past + ahead, policy)
            #expect(Set(both.going.map(\.id)) == Set(alone.going.map(\.id)))
            for candidate in ahead { #expect(reasons(both, candidate) == [.ahead]) }
        }
    }

    @Test func `pins, what is in use and an open finding keep what the policy would not`() throws {
        let newest = try made(0, 1)
        let pinned = try made(5, 2, pin: "the wedding")
        let used = try made(6, 3, use: "granted to another machine")
        let others = try [made(7, 4), made(8, 5)]
        let all = [newest, pinned, used] + others
        let free = plan(all, RetentionPolicy([.last: 1]))
        #expect(free.going.map(\.id) == others.map(\.id))
        #expect(reasons(free, pinned) == [.pin(why: "the wedding")])
        #expect(reasons(free, used) == [.inUse("granted to another machine")])
        let frozen = plan(all, RetentionPolicy([.last: 1]), frozen: true)
        #expect(frozen.going.isEmpty)
        for candidate in others { #expect(reasons(frozen, candidate) == [.frozen]) }
        #expect(reasons(frozen, pinned) == [.pin(why: "the wedding")])
    }

    // MARK: Against a stock client

    /// What a stock client keeps.
    private func kept(_ restic: Restic, _ options: [String]) throws -> Set<String> {
        let said = try restic.attempt(["forget", "--dry-run", "--json", "--group-by", "tags"] + options)
        let line = said.output.split(separator: 0x0A).first { $0.first == 0x5B }
        let groups = try JSON(parsing: Array(#require(line, "\(said.text)"))).array ?? []
        return Set(groups.flatMap { $0["keep"]?.array ?? [] }.compactMap { $0["id"]?.string })
    }

    @Test func `before vetoes and pins it keeps what a stock client does, for each kind`() throws {
        let versions = Restic.versions.filter { !$0.name.hasPrefix("restic 0.14") }
        var compared = 0
        for seed in 0..<UInt64(isLong ? 20 : 2) {
            var random = SplitMix(4000 + seed)
            let scratch = try Scratch()
            let stock = try Restic.create(scratch.path + "/repository", password: "secret")
            let repository = try Repository.open(at: stock.repository, password: "secret")
            let now = Time.now()
            var candidates: [Candidate] = []
            for _ in 0..<(20 + random.below(60)) {
                let days = UInt64([2, 20, 100, 1500][random.below(4)])
                var time = ZonedTime(
                    nanoseconds: now - 3600_000_000_000 - Int64(random.next() % (days * 86400))
                        * 1_000_000_000
                )
                time.offsetMinutes = [0, 60, 120, -570, 345][random.below(5)]
                let kind = CaptureKind.allCases[random.below(2)]
                let tree = try #require(BlobID(bytes: random.bytes(32)))
                let snapshot = Snapshot(
                    time: time,
                    tree: tree,
                    paths: ["/"],
                    hostname: "lisbon",
                    tags: ["holdfast", "kind:\(kind.name)"]
                )
                let id = try repository.write(snapshot.encoded(), to: .snapshots)
                candidates.append(Candidate(id: id, kind: kind, time: time))
            }
            for _ in 0..<(isLong ? 10 : 3) {
                let (policy, options) = Self.policy(&random)
                let plan = ForgetPlan(
                    candidates,
                    policies: [.full: policy, .database: policy],
                    now: now
                )
                let ours = plan.decisions.filter { decision in
                    decision.reasons.contains { if case .policy = $0 { true } else { false } }
                }.map(\.candidate.id.hex)
                for version in versions {
                    let theirs = try kept(version.on(stock.repository, password: "secret"), options)
                    #expect(Set(ours) == theirs, "\(version.name) \(options), seed \(seed)")
                    compared += 1
                }
            }
        }
        print(
            "compared \(compared) times with \(versions.map(\.name).joined(separator: ", "))"
        )
        #expect(compared > 0 || versions.isEmpty)
    }

    /// A policy, and the same as a stock client's options.
    private static func policy(_ random: inout SplitMix) -> (RetentionPolicy, [String]) {
        var policy = RetentionPolicy()
        var options: [String] = []
        for rule in RetentionPolicy.Rule.allCases where random.below(2) == 0 {
            let count = random.below(8) == 0 ? -1 : 1 + random.below(14)
            policy.counts[rule] = count
            options += ["--keep-\(rule.rawValue)", count < 0 ? "unlimited" : String(count)]
        }
        if options.isEmpty || random.below(2) == 0 {
            let (months, days, hours) = (random.below(7), random.below(40), 1 + random.below(30))
            policy.within = .init(months: months, days: days, hours: hours)
            options += ["--keep-within", "\(months)m\(days)d\(hours)h"]
        }
        return (policy, options)
    }

    // MARK: Hostile times

    @Test func `no history and no policy make the newest of the highest level go`() throws {
        let rounds = isLong ? 1_000_000 : 20_000
        var random = SplitMix(77)
        var gone = 0
        for round in 0..<rounds {
            let candidates = try Self.history(&random)
            let policy = Self.hostilePolicy(&random)
            let now = Self.clock(&random)
            let plan = ForgetPlan(
                candidates,
                policies: [.full: policy, .database: policy],
                now: now
            )
            #expect(plan.decisions.count == candidates.count)
            let going = plan.going
            gone += going.count
            guard !going.isEmpty else { continue }
            let staying = plan.decisions.filter(\.stays).map(\.candidate)
            for candidate in going {
                // For each that goes a newer one stays that does not lie ahead, and of which at least as much is known.
                let rank = Self.rank(candidate.level)
                let better = staying.contains {
                    $0.kind == candidate.kind && Self.rank($0.level) >= rank && $0.time.nanoseconds <= now
                        && ($0.time.seconds, $0.time.nanosecond)
                            >= (candidate.time.seconds, candidate.time.nanosecond)
                }
                #expect(better || candidate.level == nil, "round \(round): \(candidate)")
                #expect(candidate.pin == nil && candidate.use == nil)
            }
        }
        print("\(rounds) histories, \(gone) snapshots went")
        #expect(gone > rounds / 2)
    }

    private static func rank(_ level: ProofRecord.Level?) -> Int {
        level.flatMap { ProofRecord.Level.allCases.firstIndex(of: $0) } ?? -1
    }

    private static func history(_ random: inout SplitMix) throws -> [Candidate] {
        var history: [Candidate] = []
        for _ in 0..<(1 + random.below(10)) {
            let time: ZonedTime
            switch random.below(8) {
            // The ends of what a file can say, and what 64 bits of nanoseconds do not reach.
            case 0: time = try edge(["0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"], &random)
            case 1: time = try edge(["0001-01-01T00:00:00+23:59", "2262-04-12T00:00:00-23:59"], &random)
            case 2: time = history.last?.time ?? ZonedTime(nanoseconds: 0)
            case 3: time = ZonedTime(nanoseconds: Int64(bitPattern: random.next()))
            default:
                var near = ZonedTime(
                    nanoseconds: now - Int64(random.next() % UInt64(200 * day)) + Int64(random.below(3)) * day
                )
                near.offsetMinutes = Int16(random.below(2879) - 1439)
                time = near
            }
            history.append(
                Candidate(
                    id: try #require(BlobID(bytes: random.bytes(32))),
                    kind: random.below(4) == 0 ? .database : .full,
                    time: time,
                    isIncomplete: random.below(4) == 0,
                    proofs: Set(ProofRecord.Level.allCases.filter { _ in random.below(6) == 0 }),
                    pin: random.below(20) == 0 ? "why" : nil,
                    use: random.below(20) == 0 ? "use" : nil
                )
            )
        }
        return history
    }

    private static func edge(_ texts: [String], _ random: inout SplitMix) throws -> ZonedTime {
        let text = texts[random.below(texts.count)]
        return try #require(Array(text.utf8).withUnsafeBufferPointer { ZonedTime(parsing: $0) })
    }

    /// One that keeps nothing too.
    private static func hostilePolicy(_ random: inout SplitMix) -> RetentionPolicy {
        var policy = RetentionPolicy()
        for rule in RetentionPolicy.Rule.allCases where random.below(4) == 0 {
            policy.counts[rule] = random.below(4) - 1
        }
        if random.below(4) == 0 {
            policy.within = .init(years: random.below(3000), days: random.below(40), hours: random.below(30))
        }
        return policy
    }

    private static func clock(_ random: inout SplitMix) -> Int64 {
        switch random.below(5) {
        case 0: Int64(bitPattern: random.next())
        case 1: [.min, .max, 0][random.below(3)]
        default: now
        }
    }
}
