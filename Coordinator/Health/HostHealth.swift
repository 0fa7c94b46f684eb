package import Catalogue
package import Fleet
import Arguments
import Posix

/// How one host stands at one moment: what is wrong with it, and how that comes. Nothing is read or written for it.
package struct HostHealth: Sendable {
    /// One clock of the host.
    package struct Reading: Sendable {
        package let clock: Clock
        /// Nil when there never was one.
        package let moment: Int64?
        package let threshold: Threshold
        /// When it becomes a warning, and critical; a moment may have passed.
        package let warningAt: Int64
        package let criticalAt: Int64
    }

    package let readings: [Reading]
    /// The worst first.
    package private(set) var conditions: [Condition] = []
    /// It lacks something that it has until the end of its enrolment to get.
    package let isNew: Bool

    package var level: Level { max(conditions.map { Level($0.severity) }.max() ?? .ok, isNew ? .new : .ok) }

    /// Nothing dated further ahead than this is believed, in nanoseconds.
    package static let future: Int64 = 300_000_000_000

    package init(_ facts: HostFacts, _ policy: HostPolicy, now: Int64) {
        let enrolled = Time.adding(policy.thresholds.enrolment, to: facts.added)
        readings = Clock.counted.map { clock in
            let threshold = clock.threshold(policy.thresholds)
            // What is dated in the future says nothing of how old it is; a contact's says at least that there was one.
            let moment = facts.moment(clock).flatMap {
                clock == .contact || $0 <= now + Self.future ? $0 : nil
            }
            return Reading(
                clock: clock,
                moment: moment,
                threshold: threshold,
                warningAt: moment.map { Time.adding(threshold.warning, to: $0) } ?? enrolled,
                criticalAt: moment.map { Time.adding(threshold.critical, to: $0) } ?? enrolled
            )
        }
        isNew = readings.contains { $0.moment == nil } && now < enrolled
        var found = readings.compactMap { Self.stale($0, facts, policy, now) }
        found += [Self.dumpShrank(facts, policy), Self.libraryShrank(facts, policy)].compactMap { $0 }
        found += Self.clocksThatAreOff(facts, policy, now)
        found += Self.failures(facts, now) + Self.slowRuns(facts, policy, now)
        found += Self.outside(facts, policy, now)
        if let missing = facts.missing {
            found.append(
                Condition(
                    .incomplete,
                    .warning,
                    "the newest full snapshot lacks \(Human.count(missing)) entries that could not be read or kept changing",
                    advice: "`holdfast-coordinator backup \(facts.name)` tries again and names them"
                )
            )
        }
        if let version = facts.version, let before = facts.fullVersion, version != before {
            found.append(
                Condition(
                    .immichVersion,
                    .warning,
                    "Immich is \(version) now, and the newest complete backup is of \(before)",
                    advice: "the next complete full backup ends this"
                )
            )
        }
        // The same order every time: by what is worst, and then as found.
        conditions = found.filter { $0.severity == .critical } + found.filter { $0.severity == .warning }
    }

    // MARK: - Ages

    private static func stale(_ reading: Reading, _ facts: HostFacts, _ policy: HostPolicy, _ now: Int64)
        -> Condition?
    {
        let clock = reading.clock
        let advice =
            clock == .contact
            ? "is the machine up? `systemctl status holdfast-agent` there tells more"
            : "`holdfast-coordinator backup \(facts.name)` takes one now"
        guard let moment = reading.moment else {
            guard now >= reading.criticalAt else { return nil }
            let age = Age.text(now - facts.added)
            let grace = Age.limit(policy.thresholds.enrolment)
            let fact =
                clock == .contact
                ? facts.hasKey ? "never in contact" : "it has not joined yet"
                : "no \(clock == .dump ? "dump" : "complete backup") yet"
            return Condition(
                clock.kind,
                .critical,
                "\(fact), \(age) after it was added (should be within \(grace))",
                advice: clock == .contact && !facts.hasKey
                    ? "`holdfast-coordinator host token \(facts.name)` gives the line to type there" : advice
            )
        }
        guard now >= min(reading.warningAt, reading.criticalAt) else { return nil }
        let limits =
            "should be < \(Age.limit(reading.threshold.warning)); critical at \(Age.limit(reading.threshold.critical))"
        let age = Age.text(now - moment)
        return Condition(
            clock.kind,
            now >= reading.criticalAt ? .critical : .warning,
            clock == .contact
                ? "last contact was \(age) ago (\(limits))" : "\(clock.name) is \(age) old (\(limits))",
            advice: advice
        )
    }

    private static func outside(_ facts: HostFacts, _ policy: HostPolicy, _ now: Int64) -> [Condition] {
        zip(policy.outside, facts.outside).compactMap { backup, file in
            let look = "see what makes it; the pattern is \(backup.pattern)"
            if let problem = file.problem {
                return Condition(
                    .outside,
                    subject: backup.name,
                    .warning,
                    "\(backup.name): its age is not known: \(problem)",
                    advice: look
                )
            }
            guard let time = file.time else {
                guard now >= Time.adding(policy.thresholds.enrolment, to: facts.added) else { return nil }
                return Condition(
                    .outside,
                    subject: backup.name,
                    .critical,
                    "\(backup.name): no file that holds anything is there",
                    advice: look + ", and the coordinator's user must be able to read that folder"
                )
            }
            if time > now + future {
                return Condition(
                    .outside,
                    subject: backup.name,
                    .warning,
                    "\(backup.name): the newest file is dated \(Age.text(time - now)) in the future",
                    advice: look
                )
            }
            let limit = backup.threshold
            guard now - time >= min(limit.warning, limit.critical) else { return nil }
            return Condition(
                .outside,
                subject: backup.name,
                now - time >= limit.critical ? .critical : .warning,
                "\(backup.name): the newest file is \(Age.text(now - time)) old (should be < "
                    + "\(Age.limit(limit.warning)); critical at \(Age.limit(limit.critical)))",
                advice: look
            )
        }
    }

    // MARK: - Runs

    private static func failures(_ facts: HostFacts, _ now: Int64) -> [Condition] {
        facts.failures.compactMap { failure in
            // A whole dump since then, whoever took it, makes up for one of the database alone.
            if failure.kind == .database, let dump = facts.newestDump, dump > failure.ended { return nil }
            return Condition(
                .runFailed,
                subject: failure.kind.rawValue,
                .warning,
                "the last \(failure.kind.title) failed \(Age.text(now - failure.ended)) ago: \(failure.error)",
                advice: ""
            )
        }
    }

    private static func slowRuns(_ facts: HostFacts, _ policy: HostPolicy, _ now: Int64) -> [Condition] {
        facts.running.compactMap { run in
            guard let usual = run.usual else { return nil }
            let limit = max(Int64(Double(usual) * policy.watch.slow), usual + 600_000_000_000)
            guard now - run.started > limit else { return nil }
            return Condition(
                .runSlow,
                subject: run.kind.rawValue,
                .warning,
                "a \(run.kind.title) runs for \(Age.text(now - run.started)) (usually "
                    + "\(Human.duration(nanoseconds: usual)); too long from \(Age.limit(limit)))",
                advice: "`holdfast-coordinator status \(facts.name)` shows how far it is"
            )
        }
    }

    // MARK: - Clocks

    private static func clocksThatAreOff(_ facts: HostFacts, _ policy: HostPolicy, _ now: Int64)
        -> [Condition]
    {
        var found: [Condition] = []
        if let skew = facts.clockSkew, skew.magnitude > UInt64(max(0, policy.watch.clock)) {
            found.append(
                Condition(
                    .clock,
                    subject: "agent",
                    .warning,
                    "the clock of its machine is \(Human.duration(nanoseconds: Int64(clamping: skew.magnitude))) "
                        + "\(skew > 0 ? "ahead" : "behind") (allowed: \(Age.limit(policy.watch.clock)))",
                    advice: "set it there, best by NTP: `timedatectl`; nothing is forgotten meanwhile",
                    freezes: true
                )
            )
        }
        if let time = facts.future, time > facts.settled[.clock] ?? .min {
            var condition = Condition(
                .clock,
                subject: "snapshot",
                .critical,
                "a snapshot is dated \(Age.text(time - now)) in the future, so it counts for nothing",
                advice:
                    "set the coordinator's clock if it is wrong; if it was wrong then, `holdfast-coordinator "
                    + "findings \(facts.name)` and `finding close` end this",
                freezes: true
            )
            condition.dataOf = time
            found.append(condition)
        }
        if let contact = facts.lastContact, contact > now + future {
            found.append(
                Condition(
                    .clock,
                    subject: "contact",
                    .critical,
                    "the last contact is dated \(Age.text(contact - now)) in the future",
                    advice:
                        "set the coordinator's clock if it is wrong; if it was wrong then, the next contact ends this",
                    freezes: true
                )
            )
        }
        return found
    }
}

extension RunKind {
    /// `full backup`.
    package var title: String {
        switch self {
        case .full: "full backup"
        case .database: "database backup"
        case .forget, .prune: rawValue
        }
    }
}

/// Spans as status tells them: short, and in hours as long as thresholds are.
package enum Age {
    private static let hour: Int64 = 3_600_000_000_000

    /// `12 min`, `29 h`, `9 d 4 h`; what lies ahead is no age, and 0.
    package static func text(_ span: Int64) -> String {
        let span = max(0, span)
        if span < 2 * hour { return Human.duration(nanoseconds: span / 60_000_000_000 * 60_000_000_000) }
        if span < 100 * hour { return "\(span / hour) h" }
        return Human.duration(nanoseconds: span)
    }

    /// The same in at most six characters, for a column.
    package static func short(_ span: Int64) -> String {
        let span = max(0, span)
        if span < 2 * hour { return "\(span / 60_000_000_000) min" }
        if span < 100 * hour { return "\(span / hour) h" }
        return "\(span / (24 * hour)) d"
    }

    /// A limit, which is mostly a round one: `26 h`, `8 d`.
    package static func limit(_ span: Int64) -> String {
        if span >= 96 * hour && span % (24 * hour) == 0 { return "\(span / (24 * hour)) d" }
        if span >= hour && span % hour == 0 { return "\(span / hour) h" }
        return Human.duration(nanoseconds: span)
    }
}
