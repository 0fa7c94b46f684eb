import Catalogue
import Fleet
import Posix
import Retention
import Schedule
import Scheduling
import Testing
import Wire

let second: Int64 = 1_000_000_000
let minute = 60 * second
let hour = 60 * minute
let day = 24 * hour

/// Nanoseconds since 1970-01-01T00:00:00Z.
func instant(_ text: String) throws -> Int64 { try #require(Time.parseRFC3339(text)) }

/// A policy with these expressions.
func policy(
    full: String? = nil,
    database: String? = nil,
    prune: String? = nil,
    zone: String = "UTC",
    spread: Int64 = 0,
    window: Int64 = 6 * hour
) throws -> HostPolicy {
    var policy = HostPolicy()
    policy.schedule.full = try full.map { try CronExpression($0) }
    policy.schedule.database = try database.map { try CronExpression($0) }
    policy.schedule.prune = try prune.map { try CronExpression($0) }
    policy.schedule.zone = try TimeZone(named: zone)
    policy.schedule.spread = spread
    policy.schedule.window = window
    return policy
}

@Suite("What is due")
struct PlannerTests {
    private let planner: Planner
    private var job: JobRow

    /// Daily at 03:00 UTC, first seen on 1 March at noon.
    init() throws {
        let timing = try #require(JobTiming(.full, host: "lisbon", policy(full: "0 3 * * *")))
        planner = Planner(timing)
        job = planner.job(host: 1, now: try instant("2026-03-01T12:00:00Z"))
    }

    private mutating func advance(to text: String, good: String? = nil) throws {
        planner.advance(&job, good: try good.map(instant), now: try instant(text))
    }

    private mutating func end(_ end: RunEnd, at text: String) throws {
        job.run = "r"
        planner.ended(&job, end, now: try instant(text))
    }

    @Test mutating func `a new job waits for the next time it is due`() throws {
        try advance(to: "2026-03-02T02:59:59Z")
        #expect(job.due == nil)
        try advance(to: "2026-03-02T03:00:00Z")
        #expect(job.due == (try instant("2026-03-02T03:00:00Z")))
        #expect(job.next == (try instant("2026-03-03T03:00:00Z")))
        try end(RunEnd(.done), at: "2026-03-02T03:20:00Z")
        try advance(to: "2026-03-02T03:20:00Z")
        #expect(job.due == nil && job.missed == 0 && job.lastRun == "r")
    }

    @Test mutating func `what was due while nothing ran is made up for once`() throws {
        try advance(to: "2026-03-20T11:00:00Z")
        #expect(job.due == (try instant("2026-03-20T03:00:00Z")))
        try end(RunEnd(.incomplete), at: "2026-03-20T11:30:00Z")
        try advance(to: "2026-03-20T11:30:01Z")
        #expect(job.due == nil)
        #expect(job.next == (try instant("2026-03-21T03:00:00Z")))
    }

    @Test mutating func `a newer occurrence takes the place of one that waits, and says that it was missed`()
        throws
    {
        try advance(to: "2026-03-02T03:00:00Z")
        try advance(to: "2026-03-03T03:00:00Z")
        #expect(job.due == (try instant("2026-03-03T03:00:00Z")))
        #expect(job.missed == 1)
        // While a run is under way none is opened; afterwards the newest is.
        job.run = "r"
        try advance(to: "2026-03-05T04:00:00Z")
        #expect(job.due == (try instant("2026-03-03T03:00:00Z")))
        try end(RunEnd(.done), at: "2026-03-05T04:00:00Z")
        try advance(to: "2026-03-05T04:00:00Z", good: "2026-03-03T03:00:10Z")
        #expect(job.due == (try instant("2026-03-05T03:00:00Z")))
    }

    @Test mutating func `failures are tried again with growing pauses until the window is over`() throws {
        try advance(to: "2026-03-02T03:00:00Z")
        let due = try instant("2026-03-02T03:00:00Z")
        var now = due
        var pauses: [Int64] = []
        while job.due != nil {
            job.run = "r"
            now += 2 * minute
            planner.ended(&job, RunEnd(.failed, .dump, started: now - minute, error: "no dump"), now: now)
            guard let retry = job.retryAt else { break }
            pauses.append(retry - now)
            now = retry
            #expect(now <= due + 6 * hour)
            planner.advance(&job, good: nil, now: now)
        }
        #expect((7...10).contains(pauses.count), "\(pauses)")
        for (index, pause) in pauses.enumerated() {
            let base = min(60, 5 << Int64(index)) * minute
            #expect(pause >= base && pause <= base * 5 / 4, "\(index): \(pause)")
        }
        #expect(job.missed == 1)
        #expect(
            job.note?.contains("given up after \(pauses.count + 1) attempts") == true,
            "\(job.note ?? "")"
        )
        #expect(job.note?.contains("no dump") == true)
        planner.advance(&job, good: nil, now: now)
        #expect(job.due == nil && job.next == due + day)
    }

    @Test mutating func `what trying again cannot mend is not tried again, nor what a person cancelled`()
        throws
    {
        try advance(to: "2026-03-02T03:00:00Z")
        try end(RunEnd(.failed, .limit, error: "over its limit"), at: "2026-03-02T03:01:00Z")
        #expect(job.due == nil && job.missed == 1)
        #expect(job.note?.contains("over its limit") == true)
        try advance(to: "2026-03-03T03:00:00Z")
        try end(RunEnd(.cancelled), at: "2026-03-03T03:01:00Z")
        #expect(job.due == nil && job.missed == 1)
        try advance(to: "2026-03-04T03:00:00Z")
        // Somebody else's turn is no decision.
        try end(RunEnd(.cancelled, .locked), at: "2026-03-04T03:01:00Z")
        #expect(job.due != nil && job.retryAt != nil)
    }

    @Test mutating func `an attempt that was cut off has one more when that is possible again`() throws {
        try advance(to: "2026-03-02T03:00:00Z")
        try end(
            RunEnd(.interrupted, started: instant("2026-03-02T03:00:10Z")),
            at: "2026-03-02T20:00:00Z"
        )
        #expect(job.due != nil)
        #expect((job.retryAt ?? 0) - (try instant("2026-03-02T20:00:00Z")) < 30 * second)
        try end(
            RunEnd(.interrupted, .connection, started: instant("2026-03-02T20:00:30Z")),
            at: "2026-03-02T20:01:00Z"
        )
        #expect(job.due == nil && job.missed == 1)
    }

    @Test mutating func `a host that comes back late has its whole window`() throws {
        try advance(to: "2026-03-02T03:00:00Z")
        try end(
            RunEnd(.failed, .dump, started: instant("2026-03-02T17:59:00Z"), error: "no database"),
            at: "2026-03-02T18:00:00Z"
        )
        #expect(job.retryAt != nil)
        #expect(job.windowEnd == (try instant("2026-03-02T23:59:00Z")))
    }

    @Test mutating func `a good run that was begun since it was due is as good as its own`() throws {
        try advance(to: "2026-03-02T03:00:00Z", good: "2026-03-02T02:59:59Z")
        #expect(job.due != nil)
        job.missed = 3
        try advance(to: "2026-03-02T03:10:00Z", good: "2026-03-02T03:00:00Z")
        #expect(job.due == nil && job.missed == 0)
    }

    @Test mutating func `a clock that is put back makes nothing come twice`() throws {
        try advance(to: "2026-03-02T03:00:00Z")
        try end(RunEnd(.done), at: "2026-03-02T03:05:00Z")
        for text in [
            "2026-03-02T02:06:00Z", "2026-03-02T03:00:00Z", "2026-03-02T03:30:00Z", "2026-03-03T02:59:00Z",
        ] {
            try advance(to: text)
            #expect(job.due == nil, "\(text)")
        }
        try advance(to: "2026-03-03T03:00:00Z")
        #expect(job.due == (try instant("2026-03-03T03:00:00Z")))
    }

    @Test mutating func `a clock that was years ahead does not stop the schedule`() throws {
        try advance(to: "2100-01-05T10:00:00Z")
        try end(RunEnd(.done), at: "2100-01-05T10:10:00Z")
        try advance(to: "2026-03-02T12:00:00Z")
        #expect(job.due == nil)
        try advance(to: "2026-03-03T03:00:00Z")
        #expect(job.due == (try instant("2026-03-03T03:00:00Z")))
    }

    @Test mutating func `a pause that a clock made endless is none`() throws {
        try advance(to: "2026-03-02T03:00:00Z")
        job.retryAt = try instant("2026-04-01T00:00:00Z")
        try advance(to: "2026-03-02T03:01:00Z")
        #expect(job.retryAt == (try instant("2026-03-02T03:01:00Z")))
    }

    @Test mutating func `a changed schedule counts from now on, and what was due by the old one stays due`()
        throws
    {
        var changed = try policy(full: "0 18 * * *")
        let evening = Planner(try #require(JobTiming(.full, host: "lisbon", changed)))
        var late = job
        evening.reschedule(&late, now: try instant("2026-03-02T04:00:00Z"))
        #expect(late.due == (try instant("2026-03-02T03:00:00Z")))
        #expect(late.next == (try instant("2026-03-02T18:00:00Z")))
        evening.reschedule(&job, now: try instant("2026-03-01T20:00:00Z"))
        #expect(job.due == nil)
        #expect(job.next == (try instant("2026-03-02T18:00:00Z")))
        // Another zone is another schedule.
        changed.schedule.zone = try TimeZone(named: "Asia/Kathmandu")
        let elsewhere = Planner(try #require(JobTiming(.full, host: "lisbon", changed)))
        elsewhere.reschedule(&job, now: try instant("2026-03-01T20:00:00Z"))
        #expect(job.next == (try instant("2026-03-02T12:15:00Z")))
    }

    @Test func `fifty hosts begin at their own seconds, the same every day`() throws {
        let names = (0..<50).map { "immich-\($0)" }
        let offsets = try names.map {
            try #require(JobTiming(.full, host: $0, policy(full: "0 3 * * *", spread: 30 * minute))).offset
        }
        #expect(Set(offsets).count > 45)
        #expect(offsets.allSatisfy { $0 >= 0 && $0 < 30 * minute && $0 % second == 0 })
        // Each sixth of the time has its share.
        for part in Int64(0)..<6 {
            let share = offsets.count { $0 / (5 * minute) == part }
            #expect((2...18).contains(share), "\(share)")
        }
        let again = try names.map {
            try #require(JobTiming(.database, host: $0, policy(database: "0 3 * * *", spread: 30 * minute)))
                .offset
        }
        #expect(again == offsets)
    }

    @Test func `a spread that is longer than the time between two occurrences only shifts them`() throws {
        let quarter = try policy(full: "*/15 * * * *", spread: 2 * hour)
        let timing = try #require(
            (0..<100).compactMap { JobTiming(.full, host: "h\($0)", quarter) }.first { $0.offset > hour }
        )
        let planner = Planner(timing)
        let start = try instant("2026-03-01T00:00:00Z")
        var job = planner.job(host: 1, now: start)
        var begun = 0
        for now in stride(from: start, to: start + day, by: Int(minute)) {
            planner.advance(&job, good: nil, now: now)
            guard job.due != nil else { continue }
            begun += 1
            job.run = "r"
            planner.ended(&job, RunEnd(.done, started: now), now: now)
        }
        #expect((95...97).contains(begun), "\(begun)")
    }

    @Test func `forget follows each good capture, once`() throws {
        var forgetting = try policy(full: "0 3 * * *")
        #expect(JobTiming(.forget, host: "lisbon", forgetting) == nil)
        forgetting.retention = [.full: .init([.daily: 7])]
        let planner = Planner(try #require(JobTiming(.forget, host: "lisbon", forgetting)))
        var job = planner.job(host: 1, now: 5 * hour, captured: hour)
        planner.advance(&job, good: nil, captured: hour, now: 5 * hour)
        #expect(job.due == nil)
        planner.advance(&job, good: nil, captured: 6 * hour, now: 6 * hour + minute)
        #expect(job.due == nil)
        planner.advance(&job, good: nil, captured: 6 * hour, now: 6 * hour + 5 * minute)
        #expect(job.due == 6 * hour)
        job.run = "r"
        planner.ended(&job, RunEnd(.done), now: 6 * hour + 6 * minute)
        planner.advance(&job, good: 6 * hour + 5 * minute, captured: 6 * hour, now: 7 * hour)
        #expect(job.due == nil)
        // Also after a clock was put back.
        planner.advance(&job, good: hour, captured: 2 * hour, now: 3 * hour)
        #expect(job.due == 2 * hour)
    }
}

@Suite("Turns")
struct TurnTests {
    private func candidate(
        _ host: Int32,
        _ kind: RunKind = .full,
        since: Int64 = 0,
        priority: Int = 0,
        connected: Bool = true,
        busy: String? = nil,
        retry: Int64? = nil
    ) -> Candidate {
        var job = JobRow(host: host, kind: kind, schedule: "", handled: 0, next: nil)
        job.retryAt = retry
        return Candidate(
            job,
            hostName: "h\(host)",
            priority: priority,
            since: since,
            isConnected: connected,
            busy: busy
        )
    }

    private func beginning(
        _ candidates: [Candidate],
        limit: Int = 2,
        capturing: Int = 0,
        isQuiet: Bool = true
    )
        -> [Int]
    {
        var turns = Turns(capturesAtOnce: limit, capturing: capturing, isQuiet: isQuiet)
        let given = turns.give(candidates, now: 1000)
        return given.indices.filter { given[$0] == .begin }
    }

    @Test
    func `so many captures begin as there are places, the important first, then those that wait longest`() {
        let waiting = [
            candidate(1, since: 30), candidate(2, since: 10), candidate(3, since: 20),
            candidate(4, since: 40, priority: 5),
        ]
        #expect(beginning(waiting) == [1, 3])
        #expect(beginning(waiting, capturing: 1) == [3])
        #expect(beginning(waiting, capturing: 7) == [])
        #expect(beginning(waiting, limit: 9) == [0, 1, 2, 3])
    }

    @Test func `who is away, busy or in a pause takes no place`() {
        let waiting = [
            candidate(1, since: 1, connected: false), candidate(2, since: 2, busy: "check"),
            candidate(3, since: 3, retry: 1001), candidate(4, since: 4), candidate(5, since: 5, retry: 1000),
        ]
        #expect(beginning(waiting) == [3, 4])
    }

    @Test func `of one host the full capture comes first, unless it is in a pause`() {
        #expect(beginning([candidate(1, .database, since: 1), candidate(1, since: 2)]) == [1])
        #expect(beginning([candidate(1, .database), candidate(1, retry: 2000)]) == [0])
        // The database does not overtake its full capture because that waits for a place.
        #expect(beginning([candidate(1, .database), candidate(1)], capturing: 2) == [])
        #expect(beginning([candidate(1, .prune), candidate(1)], capturing: 2) == [])
        // But what the coordinator does alone goes on while the agent is away.
        #expect(beginning([candidate(1, .prune), candidate(1, connected: false)]) == [0])
    }

    @Test func `one forget or prune at a time, beside captures`() {
        let waiting = [
            candidate(1, .prune), candidate(2, .forget), candidate(3), candidate(4, connected: false),
        ]
        #expect(beginning(waiting) == [0, 2])
        #expect(beginning(waiting, isQuiet: false) == [2])
    }
}
