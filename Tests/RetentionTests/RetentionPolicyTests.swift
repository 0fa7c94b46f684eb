import JSON
import Posix
import Repository
import Retention
import TestSupport
import Testing

@Suite("Retention")
struct RetentionPolicyTests {
    private struct Vector {
        let id: String
        let host: String
        let time: ZonedTime
    }

    private static func time(_ text: String) throws -> ZonedTime {
        try #require(Array(text.utf8).withUnsafeBufferPointer { ZonedTime(parsing: $0) })
    }

    /// As restic writes it: `1y2m3d4h`.
    private static func span(_ text: String) throws -> RetentionPolicy.Span {
        var span = RetentionPolicy.Span()
        var number = 0
        for character in text {
            if let digit = character.wholeNumberValue {
                number = number * 10 + digit
                continue
            }
            switch character {
            case "y": span.years = number
            case "m": span.months = number
            case "d": span.days = number
            case "h": span.hours = number
            default: Issue.record("no span: \(text)")
            }
            number = 0
        }
        return span
    }

    @Test func `it keeps what a stock client of 0.16 and later would, over years, zones and a clock ahead`()
        throws
    {
        let file = Files.parent(#filePath) + "/Vectors/forget-policy.json"
        let vectors = try JSON(parsing: Files.read(file))
        let snapshots = try #require(vectors["snapshots"]?.array).map { snapshot in
            Vector(
                id: try #require(snapshot["id"]?.string),
                host: try #require(snapshot["hostname"]?.string),
                time: try Self.time(#require(snapshot["time"]?.string))
            )
        }
        // Behind all but the one that lies in the future on purpose.
        let now = try #require(Time.parseRFC3339("2026-11-21T00:00:00Z"))
        var tried = 0
        for test in try #require(vectors["cases"]?.array) {
            var policy = RetentionPolicy()
            guard case .object(let rules)? = test["policy"] else {
                Issue.record("no policy")
                continue
            }
            var isOurs = true
            for member in rules.members {
                let (name, value) = (member.key, member.value)
                if let rule = RetentionPolicy.Rule(rawValue: name), let count = value.int {
                    policy.counts[rule] = Int(count)
                } else if name == "within", let text = value.string {
                    policy.within = try Self.span(text)
                } else {
                    // Tags, and "within" for single periods, are not offered.
                    isOurs = false
                }
            }
            guard isOurs else { continue }
            tried += 1
            let byHost = test["group_by"]?.string?.contains("host") ?? false
            let groups = byHost ? Dictionary(grouping: snapshots, by: \.host).values.map { $0 } : [snapshots]
            var kept: Set<String> = []
            for group in groups {
                for (snapshot, reasons) in zip(group, policy.reasons(group.map(\.time), now: now))
                where !reasons.isEmpty { kept.insert(snapshot.id) }
            }
            let expected = Set(try #require(test["keep_restic_0.19.1"]?.array).compactMap(\.string))
            #expect(kept == expected, "\(test["policy"]?.text() ?? "")")
        }
        print("\(tried) policies over \(snapshots.count) snapshots")
        #expect(tried >= 10)
    }

    @Test(arguments: 0..<3)
    func `a stock client that reads a random history would let the same go`(seed: UInt64) throws {
        var random = SplitMix(seed)
        let scratch = try Scratch()
        let stock = try Restic.create(scratch.path + "/repository", password: "secret")
        let repository = try Repository.open(at: stock.repository, password: "secret")
        var times: [String: ZonedTime] = [:]
        // Some years, denser towards the end, in zones that people and summers change.
        let now = Time.now() - 3600 * 1_000_000_000
        for _ in 0..<60 {
            let days = UInt64([2, 20, 100, 1500][Int(random.next() % 4)])
            var time = ZonedTime(nanoseconds: now - Int64(random.next() % (days * 86400)) * 1_000_000_000)
            time.offsetMinutes = [0, 60, 120, -570, 345][Int(random.next() % 5)]
            let tree = try #require(BlobID(bytes: random.bytes(32)))
            let snapshot = Snapshot(time: time, tree: tree, paths: ["/"], hostname: "lisbon")
            let staged = try repository.stageSnapshot(snapshot.encoded())
            try staged.publish()
            times[staged.id.hex] = time
        }
        let ids = Array(times.keys)
        let oldest = times.min { $0.value.seconds < $1.value.seconds }?.key
        for _ in 0..<8 {
            var policy = RetentionPolicy()
            var options: [String] = []
            for rule in RetentionPolicy.Rule.allCases where random.next() % 2 == 0 {
                let count = random.next() % 8 == 0 ? -1 : 1 + Int(random.next() % 14)
                policy.counts[rule] = count
                options += ["--keep-\(rule.rawValue)", count < 0 ? "unlimited" : String(count)]
            }
            if options.isEmpty || random.next() % 2 == 0 {
                let (months, days, hours) = (
                    Int(random.next() % 7), Int(random.next() % 40), 1 + Int(random.next() % 30)
                )
                policy.within = .init(months: months, days: days, hours: hours)
                options += ["--keep-within", "\(months)m\(days)d\(hours)h"]
            }
            let reasons = policy.reasons(ids.compactMap { times[$0] }, now: Time.now())
            let kept = Set(zip(ids, reasons).filter { !$1.isEmpty }.map(\.0))
            for version in Restic.versions {
                // It does not know of "unlimited" yet.
                if version.name.hasPrefix("restic 0.14"), options.contains("unlimited") { continue }
                let said = try version.on(stock.repository, password: "secret")
                    .attempt(["forget", "--dry-run", "--json", "--group-by", ""] + options)
                let line = said.output.split(separator: 0x0A).first { $0.first == 0x5B }
                let groups = try JSON(parsing: Array(#require(line, "\(said.text)")))
                var theirs = Set((groups.array?.first?["keep"]?.array ?? []).compactMap { $0["id"]?.string })
                var ours = kept
                if version.name.hasPrefix("restic 0.14"), let oldest {
                    // It does not keep the oldest for a rule's sake yet.
                    theirs.remove(oldest)
                    ours.remove(oldest)
                }
                #expect(ours == theirs, "\(version.name) \(options), seed \(seed)")
            }
        }
    }

    @Test func `the order in which snapshots are given does not matter`() throws {
        var random = SplitMix(3)
        let times = (0..<200).map { _ in
            ZonedTime(
                nanoseconds: 1_700_000_000_000_000_000 + Int64(random.next() % 60_000_000) * 1_000_000_000
            )
        }
        let policy = RetentionPolicy(
            [.last: 3, .daily: 7, .weekly: 4, .monthly: 12],
            within: .init(days: 10)
        )
        let straight = policy.reasons(times, now: .max)
        let order = times.indices.shuffled(using: &random)
        let other = policy.reasons(order.map { times[$0] }, now: .max)
        for (position, index) in order.enumerated() { #expect(other[position] == straight[index]) }
    }

    @Test func `a policy that keeps nothing is known`() {
        #expect(RetentionPolicy().keepsNothing)
        #expect(RetentionPolicy([.daily: 0], within: .init()).keepsNothing)
        #expect(!RetentionPolicy([.last: 1]).keepsNothing)
        #expect(!RetentionPolicy([.yearly: -1]).keepsNothing)
        #expect(!RetentionPolicy(within: .init(hours: 1)).keepsNothing)
    }
}
