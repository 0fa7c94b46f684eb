import Arguments
package import Catalogue
package import Fleet
import JSON
import Outward
import Posix
import Synchronization

/// The duty of telling people: makes messages of findings, delivers what waits, and pings the checks elsewhere.
///
/// A message and what it tells are one transaction, and it counts as delivered when the other side took it. Only when
/// this process or its connection ends in the moment between that and the note of it does the message go out a second time;
/// it then has the same identifier.
package final class AlarmDuty: Sendable {
    /// The inventory that is in force.
    private let fleet: @Sendable () -> FleetConfiguration
    private let pings = Pings()
    /// From when a message goes out until that is written down.
    private let isSending = Atomic(false)

    package init(_ fleet: @escaping @Sendable () -> FleetConfiguration) { self.fleet = fleet }

    /// Waits until what is being sent is written down, or `seconds` are over: a process that ends in between would have
    /// it sent again.
    package func settle(seconds: Double) {
        let end = Time.monotonic() + Int64(seconds * 1e9)
        while isSending.load(ordering: .sequentiallyConsistent) && Time.monotonic() < end {
            Time.sleep(seconds: 0.02)
        }
    }

    /// Does what is due. Blocks while it sends, under a minute.
    package func work(_ catalogue: Catalogue) throws {
        let fleet = fleet()
        let names = fleet.alarms.keys.sorted()
        let waiting = try waitingMessages(catalogue, names)
        for name in names {
            guard let alarm = fleet.alarms[name] else { continue }
            try tell(name, alarm, isWaiting: waiting.contains { $0.alarm == name }, catalogue)
        }
        try deliver(catalogue, fleet)
        try judgeChannels(catalogue, fleet)
        try pings.work(catalogue, fleet)
        try catalogue.clearMessages(before: Time.now() - 90 * 86_400_000_000_000)
    }

    /// What waits, without that of alarms which are gone and without what waited too long.
    private func waitingMessages(_ catalogue: Catalogue, _ names: [String]) throws -> [AlarmMessageRow] {
        let now = Time.now()
        return try catalogue.waitingMessages().filter { message in
            if !names.contains(message.alarm) {
                try catalogue.drop(
                    message,
                    why: "it is no longer configured; a message was not sent",
                    now: now
                )
                return false
            }
            if now - message.created >= Retry.patience {
                let why =
                    "a message could not be delivered for \(Human.duration(nanoseconds: now - message.created)) and "
                    + "is given up (\(message.error ?? "no attempt was made"))"
                Log.write(.error, "alarm \(message.alarm): \(why)")
                try catalogue.drop(message, why: why, now: now)
                return false
            }
            return true
        }
    }

    private func tell(_ name: String, _ alarm: AlarmSettings, isWaiting: Bool, _ catalogue: Catalogue) throws
    {
        let now = Time.now()
        let news = News(
            for: name,
            alarm,
            try catalogue.findings(toldTo: name),
            recent: try catalogue.messageTimes(of: name, since: now - 3_600_000_000_000),
            isWaiting: isWaiting,
            now: now
        )
        try catalogue.forgetTold(alarm: name, findings: news.forgotten.map(\.id))
        guard !news.isEmpty else { return }
        let wording = Wording(
            news,
            alarm: name,
            coordinator: Host.name,
            repeatInterval: alarm.repeatInterval,
            now: now
        )
        let message = AlarmMessage(
            id: newUUID(),
            alarm: name,
            severity: wording.severity,
            subject: wording.subject,
            text: wording.text,
            created: now
        )
        try catalogue.keep(message, tells: news.tellings, findings: wording.findings.text(), now: now)
    }

    // MARK: - Delivery

    /// Sends what is due, all channels at once, so that one that hangs holds nobody up.
    private func deliver(_ catalogue: Catalogue, _ fleet: FleetConfiguration) throws {
        let now = Time.now()
        var sending: [(message: AlarmMessageRow, channel: AlarmChannel)] = []
        for message in try catalogue.waitingMessages() where message.nextTry <= now {
            guard let channel = fleet.alarms[message.alarm]?.channel else { continue }
            sending.append((message, channel))
        }
        isSending.store(true, ordering: .sequentiallyConsistent)
        defer { isSending.store(false, ordering: .sequentiallyConsistent) }
        let outcomes = Parallel.run(
            sending.map { item in
                { Result { () throws(OutwardError) in try item.channel.deliver(AlarmMessage(item.message)) } }
            }
        )
        // Each is written down as soon as it is known.
        while let (index, outcome) = outcomes.next() {
            let message = sending[index].message
            switch outcome {
            case .success:
                try catalogue.delivered(message, now: Time.now())
                Log.write(.notice, "alarm \(message.alarm) told: \(message.subject)")
            case .failure(let error):
                let attempts = message.attempts + 1
                let pause = Retry.pause(after: attempts, asked: error.retryAfter)
                try catalogue.notDelivered(message, error: error.description, nextTry: Time.now() + pause)
                Log.write(
                    .error,
                    "alarm \(message.alarm) is not delivered: \(error); trying again in \(Human.duration(nanoseconds: pause))"
                )
            }
        }
    }

    /// A channel that does not deliver is a finding, so that `status` shows it and the other channels tell it.
    private func judgeChannels(_ catalogue: Catalogue, _ fleet: FleetConfiguration) throws {
        let now = Time.now()
        let waiting = try catalogue.waitingMessages()
        var failing: [String] = []
        for (name, alarm) in fleet.alarms.sorted(by: { $0.key < $1.key }) {
            let messages = waiting.filter { $0.alarm == name && $0.attempts > 0 }
            guard let oldest = messages.first, let error = oldest.error else { continue }
            let age = now - oldest.created
            // One failed attempt is a hiccup, unless the next one can't go better.
            guard oldest.attempts > 1 || alarm.channel.problem() != nil || age > Retry.pause(after: 1) else {
                continue
            }
            failing.append(name)
            try catalogue.openFinding(
                Catalogue.channelFinding,
                subject: name,
                age > 3_600_000_000_000 ? .critical : .warning,
                "alarm \(name) is not delivered: \(error); next: holdfast-coordinator alarm test \(name)",
                now: now
            )
        }
        try catalogue.closeChannelFindings(except: failing, now: now)
    }
}

extension AlarmMessage {
    init(_ row: AlarmMessageRow) {
        self.init(
            id: row.uuid,
            alarm: row.alarm,
            severity: row.severity,
            subject: row.subject,
            text: row.body,
            created: row.created,
            findings: (try? JSON(parsing: row.findings)) ?? []
        )
    }
}
