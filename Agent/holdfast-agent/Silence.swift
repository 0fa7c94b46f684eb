import Arguments
import Configuration
import Glibc
import JSON
import Outward
import Posix
import Synchronization

/// `silence:` in `agent.yaml`: who is told when this machine reaches no coordinator any more, which nobody else may
/// notice while the coordinator is down.
///
/// ```yaml
/// silence:
///   after: 26h
///   alarm: { ntfy: { url: https://ntfy.sh/a-topic-nobody-guesses } }    # or email, webhook, gotify, discord
///   repeat: 24h
/// ```
struct SilenceSettings: Sendable {
    /// Nanoseconds.
    var after: Int64
    /// Nanoseconds from one reminder to the next.
    var repeatInterval: Int64
    var channel: AlarmChannel

    /// Nil when the key is missing.
    static func read(_ reader: MappingReader) throws(ConfigurationError) -> SilenceSettings? {
        try reader.mapping("silence") { (silence) throws(ConfigurationError) in
            let after = try silence.duration("after") ?? 26 * 3_600_000_000_000
            let interval = try silence.duration("repeat") ?? 24 * 3_600_000_000_000
            for (key, value) in [("after", after), ("repeat", interval)] where value < 600_000_000_000 {
                throw silence.error(
                    key,
                    "must be at least 10m: a coordinator is away for so long when it is updated"
                )
            }
            let channel = try silence.mapping("alarm") { (alarm) throws(ConfigurationError) in
                try AlarmChannel(alarm)
            }
            return SilenceSettings(
                after: after,
                repeatInterval: interval,
                channel: try silence.required("alarm", channel)
            )
        }
    }
}

/// Watches, on a thread of its own, for how long no coordinator was reached, and tells it: when it is too long, again
/// each time the interval is over, and when it has an end. The time of the last contact is kept in a file, so that it
/// goes on through restarts.
final class Silence: Sendable {
    private struct State {
        /// Nanoseconds since 1970-01-01T00:00:00Z.
        var contact: Int64
        /// When it was told last that the coordinator is away; nil while it is not.
        var told: Int64?
        /// The last contact before that.
        var since: Int64?

        // Of this process alone.
        /// The last contact on the monotonic clock, which no correction of the clock moves.
        var contactHere: Int64?
        var isConnected = false
        /// Attempts without success since then.
        var attempts = 0
        var error = "it was not tried yet"
        /// What the file says.
        var saved: Int64 = 0
    }

    /// A machine that was off for long first has to try, before anybody is told.
    private static let attemptsNeeded = 5

    private let settings: SilenceSettings
    private let file: String
    private let coordinator: String
    private let state: Mutex<State>

    init(_ settings: SilenceSettings, folder: String, coordinator: String) throws {
        self.settings = settings
        self.coordinator = coordinator
        file = "\(folder)/agent.silence"
        let now = Time.now()
        let saved = try? JSON(parsing: Files.read(file, limit: 4096))
        state = Mutex(
            State(
                // Without a file, or with one of the future, the time begins now.
                contact: min(now, saved?["contact"]?.int64 ?? now),
                told: saved?["told"]?.int64,
                since: saved?["since"]?.int64
            )
        )
        if let problem = settings.channel.problem() {
            Log.write(.error, "nobody can be told when the coordinator is away: \(problem)")
        }
        save()
        try Thread("silence") { [self] in
            var failures = 0
            while true {
                Time.sleep(seconds: failures == 0 ? 5 : Double(min(3600, 60 << min(6, failures - 1))))
                do throws(OutwardError) {
                    try look()
                    failures = 0
                } catch {
                    failures += 1
                    Log.write(.error, "nobody could be told about the coordinator: \(error)")
                }
            }
        }.detach()
    }

    /// A coordinator greeted this agent.
    func reached() {
        state.withLock {
            $0.isConnected = true
            $0.contact = Time.now()
            $0.contactHere = Time.monotonic()
            $0.attempts = 0
        }
        save()
    }

    /// A connection ended, or none came about.
    func failed(_ error: String, afterContact: Bool) {
        if afterContact { reached() }
        state.withLock {
            $0.isConnected = false
            $0.attempts += 1
            $0.error = error
        }
    }

    /// Tells what is to be told now.
    private func look() throws(OutwardError) {
        let now = Time.now()
        let found = state.withLock { state in
            if state.isConnected {
                state.contact = now
                state.contactHere = Time.monotonic()
            }
            return state
        }
        if found.isConnected {
            if now - found.saved >= 600_000_000_000 { save() }
            guard found.told != nil else { return }
            let away = Human.duration(nanoseconds: now - (found.since ?? now))
            try tell(nil, "over: \(Host.name) reaches its coordinator again", "It was away for \(away).")
            state.withLock { ($0.told, $0.since) = (nil, nil) }
            return save()
        }
        let silence = found.contactHere.map { Time.monotonic() - $0 } ?? now - found.contact
        guard found.attempts >= Self.attemptsNeeded, silence >= settings.after,
            found.told.map({ now - $0 >= settings.repeatInterval }) ?? true
        else { return }
        try tell(
            .critical,
            "critical: \(Host.name) \(found.told == nil ? "reaches" : "still reaches") no coordinator",
            """
            CRITICAL \(Host.name): the coordinator at \(coordinator) was not reached for \(Human.duration(nanoseconds: silence)) \
            (the limit is \(Human.duration(nanoseconds: settings.after))), and no backup of this machine's Immich is made meanwhile.
            The last attempt: \(plainLine(found.error))
            Next: is the coordinator's machine up? On this one: holdfast-agent doctor
            """
        )
        state.withLock {
            $0.told = now
            $0.since = $0.since ?? $0.contact
        }
        save()
    }

    private func tell(_ severity: Severity?, _ subject: String, _ text: String) throws(OutwardError) {
        let message = AlarmMessage(
            id: randomHex(16),
            alarm: "silence",
            severity: severity,
            subject: "Holdfast: \(subject)",
            text: text,
            created: Time.now()
        )
        try settings.channel.deliver(message)
        Log.write(.notice, "told through \(settings.channel.kind): \(subject)")
    }

    private func save() {
        let text = state.withLock { state in
            state.saved = state.contact
            return JSON([
                ("contact", JSON(state.contact)), ("told", state.told.map { JSON($0) } ?? .null),
                ("since", state.since.map { JSON($0) } ?? .null),
            ]).text()
        }
        do { try Files.writeAtomically(Array("\(text)\n".utf8), to: file) } catch {
            Log.write(.warning, "the time of the last contact is not kept: \(error)")
        }
    }
}

/// `alarm test`: a message through the channel of `silence:`, right now.
func testAlarm(folder: String) throws -> ExitCode {
    guard let settings = try AgentFile.load(folder).silence else {
        throw CommandFailure(
            .configuration,
            "\(AgentFile.path(folder)) has no `silence:`, so nobody would be told anything"
        )
    }
    let message = AlarmMessage(
        id: randomHex(16),
        alarm: "silence",
        severity: nil,
        subject: "Holdfast: test of the agent on \(Host.name)",
        text: "This is a test: messages of the agent on \(Host.name) get here.",
        created: Time.now()
    )
    do throws(OutwardError) { try settings.channel.deliver(message) } catch {
        throw CommandFailure(.failed, "\(settings.channel.kind): \(error)")
    }
    put("taken by \(settings.channel.place)\n")
    return .done
}
