import CLinux
import Catalogue
import Fleet
import Glibc
import Posix
import Postgres

/// The running service: one thread that waits for connections, for what sessions say, and for the catalogue's
/// notifications. Sessions do the work, each in its own process.
struct Service {
    private let server: CatalogueServer
    private let listeners: [Int32]
    /// Readable when a signal came.
    private let wake: Int32
    private let inventory: Inventory
    private let hostKey: String
    private let addresses: [String]
    /// What came of the inventory while there was no catalogue to record it, and at the start.
    private var unrecorded: Inventory.Outcome? = .accepted(changed: true, notes: [])
    private var catalogue: Catalogue?
    /// When to try for the catalogue again; it is a moment on the monotonic clock.
    private var retryAt: Int64 = 0
    /// Seconds until then.
    private var pause: Int64 = 1
    private var table = SessionTable()
    private let errands: Errands
    /// What this coordinator's rows are known by.
    private let id = newUUID()
    /// The hosts whose agents the catalogue knows to wait here; nil when it knows nothing.
    private var announced: Set<Int32>?
    /// When contacts were written down, and old runs removed, last; monotonic nanoseconds.
    private var lastContact: Int64 = 0
    private var lastTidy: Int64 = 0

    private static let contactEvery: Int64 = 60_000_000_000
    private static let tidyEvery: Int64 = 6 * 3600 * 1_000_000_000

    /// - Parameters:
    ///   - hostKey: Fingerprint that agents pin.
    ///   - addresses: What agents dial, the best first.
    init(
        server: CatalogueServer,
        listeners: [Int32],
        wake: Int32,
        inventory: Inventory,
        hostKey: String,
        addresses: [String],
        errands: Errands
    ) throws {
        self.server = server
        self.listeners = listeners
        self.wake = wake
        self.inventory = inventory
        self.hostKey = hostKey
        self.addresses = addresses
        self.errands = errands
        catalogue = try connect()
    }

    /// The catalogue with the lock that tells the command line that a service runs.
    private func connect() throws -> Catalogue {
        let catalogue = try server.open(applicationName: Catalogue.serveName(id))
        try catalogue.markServing()
        try catalogue.connection.listen(Catalogue.Channel.jobs)
        try catalogue.connection.listen(Catalogue.Channel.reload)
        try catalogue.connection.listen(Catalogue.Channel.cancel)
        try catalogue.noteCoordinator(hostKey: hostKey, machine: Host.name, addresses: addresses)
        try catalogue.endAbandonedRuns()
        return catalogue
    }

    /// Waits for something to happen, at most five seconds, without a catalogue one, and deals with it.
    mutating func step() {
        record()
        let sessions = table.sessions
        let database = catalogue?.connection.descriptor ?? -1
        let polled = [wake, database] + listeners + sessions.map(\.control)
        let ready = (try? waitReadable(polled, seconds: catalogue == nil ? 1 : 5)) ?? []
        if ready.contains(0) { drain(wake) }
        for index in ready where index >= 2 {
            if index < 2 + listeners.count {
                accept(listeners[index - 2])
            } else {
                hear(sessions[index - 2 - listeners.count])
            }
        }
        reap()
        var requests: [String] = []
        let errands = errands
        withCatalogue { catalogue, table in
            for notification in try catalogue.connection.notifications(timeout: 0) {
                switch notification.channel {
                case Catalogue.Channel.jobs:
                    if let host = Int32(notification.payload) { table.wake(host: host) }
                case Catalogue.Channel.cancel: errands.cancel(notification.payload)
                case Catalogue.Channel.reload: requests.append(notification.payload)
                default: break
                }
            }
        }
        announce()
        tidy()
        let name = coordinatorName(inventory.current)
        for request in requests.compactMap({ Catalogue.reloadRequest($0, to: name) }) { reload(for: request) }
    }

    /// Takes up the inventory as it is now, or says why not.
    ///
    /// - Parameter request: Whose answer is awaited.
    mutating func reload(for request: String? = nil) {
        let outcome = inventory.reload()
        outcome.log(inventory)
        unrecorded = outcome
        record(for: request)
    }

    /// Writes down what came of the inventory last, as soon as there is a catalogue.
    private mutating func record(for request: String? = nil) {
        guard let outcome = unrecorded else { return }
        let inventory = self.inventory
        var isRecorded = false
        withCatalogue { catalogue, _ in
            try outcome.record(inventory, in: catalogue, request: request)
            isRecorded = true
        }
        if isRecorded { unrecorded = nil }
    }

    /// What is written down every minute, and every few hours.
    private mutating func tidy() {
        let now = Time.monotonic()
        if lastContact == 0 || now - lastContact >= Self.contactEvery {
            lastContact = now
            withCatalogue { [hostKey, addresses] catalogue, table in
                try catalogue.noteContact(keys: table.agentKeys)
                try catalogue.noteCoordinator(hostKey: hostKey, machine: Host.name, addresses: addresses)
            }
        }
        if lastTidy == 0 || now - lastTidy >= Self.tidyEvery {
            lastTidy = now
            withCatalogue { catalogue, _ in try catalogue.removeOldRuns() }
        }
    }

    /// Writes down whose agents wait here, for the schedule of whichever coordinator keeps it.
    private mutating func announce() {
        let hosts = table.waitingHosts
        guard hosts != announced else { return }
        let id = id
        var isDone = false
        withCatalogue { catalogue, _ in
            try catalogue.setWaitingAgents(hosts, serve: id)
            isDone = true
        }
        if isDone { announced = hosts }
    }

    private func drain(_ descriptor: Int32) {
        var buffer = [UInt8](repeating: 0, count: 256)
        while read(descriptor, &buffer, buffer.count) > 0 {}
    }

    private mutating func accept(_ listener: Int32) {
        do {
            guard let (socket, peer) = try TCPListener.accept(listener) else { return }
            let connection = FileDescriptor(owning: socket)
            // Closed at once when there is no room for one more stranger; those whose key is known stay.
            guard table.makeRoom(for: peer) else { return }
            try table.start(socket: connection, peer: peer, arguments: ["--config", inventory.acceptedPath])
        } catch {
            Log.write(.error, "cannot take a connection: \(error)")
            // Out of descriptors or processes: the listener stays readable, so wait a little.
            Time.sleep(seconds: 0.1)
        }
    }

    private mutating func hear(_ session: SessionTable.Session) {
        guard table.listen(to: session) else { return table.remove(session) }
        guard session.idle, let host = session.host else { return }
        // Work may have been queued just before the session went to sleep.
        withCatalogue { catalogue, table in
            if try catalogue.hostsWithQueuedRuns().contains(host) { table.wake(host: host) }
        }
    }

    private mutating func reap() {
        var status: Int32 = 0
        while true {
            let pid = waitpid(-1, &status, WNOHANG)
            guard pid > 0 else { return }
            table.ended(pid, signal: clinux_term_signal(status))
            errands.ended(pid, ChildProcess.End(status: status))
        }
    }

    /// Calls `body` while the catalogue is there; when it is lost, it is tried for again after a second, then ever less often, and
    /// captures that run meanwhile hold their own connections.
    private mutating func withCatalogue(_ body: (Catalogue, inout SessionTable) throws -> Void) {
        do {
            if catalogue == nil {
                guard Time.monotonic() >= retryAt else { return }
                announced = nil
                catalogue = try connect()
                Log.write(.notice, "the catalogue is back")
                pause = 1
                for session in table.sessions { if let host = session.host { table.wake(host: host) } }
            }
            if let catalogue { try body(catalogue, &table) }
        } catch {
            Log.write(.error, "the catalogue: \(error); trying again in \(pause) s")
            catalogue?.close()
            catalogue = nil
            retryAt = Time.monotonic() + pause * 1_000_000_000
            pause = min(30, pause * 2)
        }
    }

    /// Ends the sessions and errands, each after it has left its work in order, at most 20 s.
    mutating func stop() {
        table.signalAll(SIGTERM)
        errands.signalAll(SIGTERM)
        let end = Time.monotonic() + 20_000_000_000
        while !(table.sessions.isEmpty && errands.runs.isEmpty) && Time.monotonic() < end {
            for session in table.sessions where !table.listen(to: session) { table.remove(session) }
            reap()
            Time.sleep(seconds: 0.05)
        }
        table.signalAll(SIGKILL)
        errands.signalAll(SIGKILL)
        reap()
        catalogue?.close()
    }
}
