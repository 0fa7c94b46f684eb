package import Catalogue
package import Fleet

/// What one alarm is to be told now, from what it was told before. Pure: times are nanoseconds since
/// 1970-01-01T00:00:00Z, and everything is in the catalogue, so that nothing is told twice or lost when the service
/// starts again.
///
/// A start or an end is news when it has lasted for half a minute, which gathers what happens at once into one message
/// and leaves out what came and went. A warning that becomes critical does not wait. A reminder tells everything that is
/// still open. Messages of one alarm keep a distance that grows with their number in the last hour.
package struct News: Sendable, Equatable {
    /// How long something must have been so before it is told.
    package static let gathering: Int64 = 30_000_000_000
    /// The most that messages are held apart.
    static let longestPause: Int64 = 900_000_000_000

    package var started: [ToldFinding] = []
    package var worse: [ToldFinding] = []
    /// What was told before and lasts; only in a reminder.
    package var still: [ToldFinding] = []
    package var over: [ToldFinding] = []
    /// What was told before, lasts, and is not told again here.
    package var untold = 0
    /// What the alarm does not hear of any more, without a word.
    package var forgotten: [ToldFinding] = []

    /// Whether there is nothing to tell.
    package var isEmpty: Bool { started.isEmpty && worse.isEmpty && still.isEmpty && over.isEmpty }

    /// - Parameters:
    ///   - findings: All that are open, or that the alarm takes for open.
    ///   - recent: When messages of this alarm were made in the last hour, in order.
    ///   - isWaiting: Whether one of them could not be delivered yet: then the news joins it and no distance is kept.
    package init(
        for name: String,
        _ alarm: AlarmSettings,
        _ findings: [ToldFinding],
        recent: [Int64],
        isWaiting: Bool,
        now: Int64
    ) {
        var newest: [ToldFinding] = []
        var last: [ToldFinding] = []
        var isSettled = false
        var isReminding = false
        for finding in findings {
            let isOn = finding.state.map { $0.over == nil } ?? false
            // The channel that does not deliver would tell about itself.
            let isOwn = finding.kind == Catalogue.channelFinding && finding.subject == name
            guard !isOwn, alarm.concerns(host: finding.host) else {
                if isOn { forgotten.append(finding) }
                continue
            }
            guard finding.closed == nil, alarm.severities.contains(finding.severity) else {
                if isOn {
                    over.append(finding)
                    // One that only became less bad has no time of its own.
                    isSettled = isSettled || now - (finding.closed ?? 0) >= Self.gathering
                }
                continue
            }
            guard isOn, let state = finding.state else {
                newest.append(finding)
                isSettled = isSettled || now - (finding.state?.over ?? finding.opened) >= Self.gathering
                continue
            }
            if finding.severity > state.severity {
                worse.append(finding)
            } else {
                last.append(finding)
                if now - state.told >= alarm.repeatInterval { isReminding = true }
            }
        }
        started = newest
        let isFree = isWaiting || now >= Self.earliest(after: recent)
        if !worse.isEmpty || isSettled && isFree {
            if isReminding { still = last } else { untold = last.count }
            return
        }
        started = []
        over = []
        if isReminding && isFree { still = last }
    }

    /// When the next message may be made.
    static func earliest(after recent: [Int64]) -> Int64 {
        guard let last = recent.last else { return 0 }
        let doublings = min(10, max(0, recent.count - 2))
        return last + min(longestPause, gathering << Int64(doublings))
    }

    /// What a message with this news tells of which finding.
    var tellings: [Telling] {
        (started + worse + still).map { Telling(finding: $0.id, severity: $0.severity, isOver: false) }
            + over.map { Telling(finding: $0.id, severity: $0.severity, isOver: true) }
    }
}
