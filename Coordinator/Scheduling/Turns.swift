package import Catalogue
import Posix

/// A job whose occurrence is under way and has no run, with what its start depends on.
package struct Candidate: Sendable, Equatable {
    package let job: JobRow
    package let hostName: String
    package let priority: Int
    /// Since when it waits: due, with the host's share of the spread.
    package let since: Int64
    /// The host's agent is connected to one of the coordinators and takes work.
    package let isConnected: Bool
    /// Why the host can't have work of this kind now: another run, or somebody who holds its locks.
    package let busy: String?
    /// What is said while the agent is not there.
    package let absence: String

    package init(
        _ job: JobRow,
        hostName: String,
        priority: Int,
        since: Int64,
        isConnected: Bool,
        busy: String? = nil,
        absence: String = "waits for the host's agent"
    ) {
        self.job = job
        self.hostName = hostName
        self.priority = priority
        self.since = since
        self.isConnected = isConnected
        self.busy = busy
        self.absence = absence
    }
}

/// Who begins now: over the whole fleet so many captures at once and one of the coordinator's own works, on one host one
/// at a time.
package struct Turns {
    /// What becomes of a candidate.
    package enum Turn: Sendable, Equatable {
        case begin
        /// Why not yet, for people.
        case wait(String)
    }

    /// Captures that may still begin.
    package var places: Int
    /// For what is said of those who wait for a place.
    package let capturesAtOnce: Int
    /// No forget or prune of the schedule is under way.
    package var isQuiet: Bool

    package init(capturesAtOnce: Int, capturing: Int, isQuiet: Bool) {
        self.capturesAtOnce = capturesAtOnce
        places = max(0, capturesAtOnce - capturing)
        self.isQuiet = isQuiet
    }

    /// The turn of each candidate, in their order. Those with the higher priority come first, then those that wait for
    /// longest. On one host a full capture comes before one of the database, which it makes needless, and captures before
    /// what is deleted.
    package mutating func give(_ candidates: [Candidate], now: Int64) -> [Turn] {
        var turns = [Turn](repeating: .begin, count: candidates.count)
        /// The kind of work that each host has been given, or will be given before any other.
        var taken: [Int32: RunKind] = [:]
        for index in Self.order(candidates) {
            let candidate = candidates[index]
            let turn = turn(of: candidate, taken: taken[candidate.job.host], now: now)
            turns[index] = turn
            // One that waits for its turn alone keeps the others of its host waiting, so that they do not overtake it.
            if turn == .begin || turn == .wait(placesTaken) {
                taken[candidate.job.host] = taken[candidate.job.host] ?? candidate.job.kind
            }
        }
        return turns
    }

    private var placesTaken: String {
        "waits for its turn: \(capturesAtOnce) captures at once is the limit (captures_at_once)"
    }

    private mutating func turn(of candidate: Candidate, taken: RunKind?, now: Int64) -> Turn {
        let job = candidate.job
        if let retry = job.retryAt, retry > now {
            return .wait("failed, and is tried again at \(Time.local(retry))")
        }
        if let taken { return .wait("the \(taken.words) comes first") }
        if job.kind.capture != nil && !candidate.isConnected { return .wait(candidate.absence) }
        if let busy = candidate.busy { return .wait(busy) }
        if job.kind.capture != nil {
            guard places > 0 else { return .wait(placesTaken) }
            places -= 1
        } else {
            guard isQuiet else { return .wait("waits until another host's forget or prune is over") }
            isQuiet = false
        }
        return .begin
    }

    /// Host by host, so that kinds decide only within one.
    private static func order(_ candidates: [Candidate]) -> [Int] {
        let since = Dictionary(candidates.map { ($0.job.host, $0.since) }, uniquingKeysWith: min)
        return candidates.indices.sorted { one, other in
            let (first, second) = (candidates[one], candidates[other])
            if first.job.host == second.job.host { return first.job.kind.rank < second.job.kind.rank }
            let earlier = since[first.job.host] ?? first.since
            let later = since[second.job.host] ?? second.since
            return (-first.priority, earlier, first.hostName) < (-second.priority, later, second.hostName)
        }
    }
}

extension RunKind {
    /// Of one host's work, what comes first.
    fileprivate var rank: Int {
        switch self {
        case .full: 0
        case .database: 1
        case .forget: 2
        case .prune: 3
        }
    }

    /// For people: `full capture`.
    package var words: String {
        switch self {
        case .full: "full capture"
        case .database: "database capture"
        case .forget, .prune: rawValue
        }
    }
}
