import Arguments
import Catalogue
import Fleet
import Outward
import Posix
import Synchronization

/// Pings in the protocol of healthchecks: somebody elsewhere raises the alarm when they stay away, also when this
/// machine is the one that is dead.
final class Pings: Sendable {
    /// Of the coordinator's own ping.
    private static let interval: Int64 = 240_000_000_000
    /// A duty that was not done for so long is not alive.
    private static let longestSilence: Int64 = 600_000_000_000

    private struct State {
        /// When the coordinator's own ping is due.
        var next: Int64 = 0
        /// What was said of it in the log last.
        var trouble: String?
    }

    private let state = Mutex(State())
    private let started = Time.monotonic()
    /// A service that has just started watches soon.
    private static let startingUp: Int64 = 60_000_000_000

    func work(_ catalogue: Catalogue, _ fleet: FleetConfiguration) throws {
        if let address = fleet.pings { try ownPing(address, catalogue) }
        try hostPings(catalogue, fleet)
    }

    // MARK: - The coordinator's own

    /// Says that the coordinator lives, while it does: the catalogue answers, and every duty was done lately.
    private func ownPing(_ address: WebAddress, _ catalogue: Catalogue) throws {
        let now = Time.now()
        guard state.withLock({ $0.next }) <= Time.monotonic() else { return }
        let duties = try catalogue.duties()
        // The duty of watching is what makes findings, without which everything would look well.
        let isWatching =
            duties[Self.watch] != nil && duties.values.allSatisfy { now - $0 <= Self.longestSilence }
        guard isWatching || Time.monotonic() - started > Self.startingUp else { return }
        var trouble: String?
        if isWatching {
            let open = try catalogue.openFindings()
            let critical = open.count { $0.severity == .critical }
            let body = "\(open.count) findings are open, \(critical) of them critical\n"
            do throws(OutwardError) {
                try HTTP.send(Array(body.utf8), to: address.text, at: address, seconds: 20)
            } catch { trouble = "\(error)" }
        } else {
            trouble =
                "not sent, because the hosts were not watched for \(Human.duration(nanoseconds: Self.longestSilence))"
        }
        let next = Time.monotonic() + (trouble == nil ? Self.interval : 60_000_000_000)
        let said = state.withLock { state -> String? in
            let said = state.trouble
            state = State(next: next, trouble: trouble)
            return said
        }
        if let trouble, trouble != said { Log.write(.warning, "the ping of `pings:`: \(trouble)") }
        if trouble == nil && said != nil { Log.write(.notice, "the ping of `pings:` gets through again") }
    }

    private static let watch: Int32 = 2

    // MARK: - The hosts'

    /// Tells each host's check of the start and the end of its full captures.
    private func hostPings(_ catalogue: Catalogue, _ fleet: FleetConfiguration) throws {
        var addresses: [String: WebAddress] = [:]
        for host in try catalogue.hosts() {
            if let address = fleet.policy(of: host.name).ping {
                addresses[host.name] = address
            }
        }
        guard !addresses.isEmpty else { return }
        let due = try catalogue.duePings(hosts: addresses.keys.sorted(), now: Time.now())
        var sending: [Catalogue.DuePing] = []
        var works: [@Sendable () -> Parallel.Outcome] = []
        for ping in due {
            let run = ping.run
            guard let address = addresses[run.hostName] else { continue }
            let url = address.adding(Self.word(run), parameter: "rid=\(run.id)")
            let body = Array(try Self.report(run, catalogue).utf8)
            sending.append(ping)
            works.append {
                Result { () throws(OutwardError) in try HTTP.send(body, to: url, at: address, seconds: 20) }
                    .map { _ in }
            }
        }
        let outcomes = Parallel.run(works)
        while let (index, outcome) = outcomes.next() {
            let ping = sending[index]
            switch outcome {
            case .success: try catalogue.pinged(ping.run, now: Time.now())
            case .failure(let error):
                let pause = Retry.pause(after: ping.attempts + 1, asked: error.retryAfter)
                try catalogue.notPinged(ping.run, nextTry: Time.now() + pause)
                Log.write(.warning, "the ping of \(ping.run.hostName): \(error)")
            }
        }
    }

    /// What the protocol puts behind the address; nothing for success.
    static func word(_ run: RunRow) -> String? {
        switch run.state {
        case .queued, .running: "start"
        case .done: nil
        // A snapshot without everything in it is not a good one.
        case .incomplete, .failed, .interrupted, .cancelled: "fail"
        }
    }

    /// The last lines of a run, which the check keeps.
    private static func report(_ run: RunRow, _ catalogue: Catalogue) throws -> String {
        guard run.state.isOver else { return "" }
        var lines = ["\(run.hostName): \(run.state.rawValue)"]
        if let error = run.error { lines.append(plainLine(error)) }
        if let snapshot = run.snapshot { lines.append("snapshot \(snapshot)") }
        let figures = run.figures
        lines.append(
            "\(Human.count(figures.filesSeen)) entries seen, \(Human.count(figures.filesSent)) files sent, "
                + "\(Human.bytes(figures.bytesStored)) stored, \(Human.count(figures.problems)) problems"
        )
        for line in try catalogue.log(of: run.id).suffix(50) {
            lines.append("\(Time.rfc3339(line.time / 1_000_000_000 * 1_000_000_000)) \(plainLine(line.text))")
        }
        return cut(lines.joined(separator: "\n"), bytes: 10_000) + "\n"
    }
}
