import Catalogue
import Glibc
import Posix
import Postgres
import Synchronization

/// Work that exactly one of the coordinators that share a catalogue does, in a thread of its own beside the service, on a
/// connection of its own. Whoever holds the duty's advisory lock has it; it goes with the connection, and another
/// coordinator takes it up within seconds.
final class Duty: Sendable {
    /// `objid` of the locks, so they are never renumbered.
    enum Kind: Int32, Sendable, CaseIterable {
        case schedule = 1
        case watch = 2
        case alarms = 3
    }

    private let stop = Atomic(false)
    /// Closing it wakes the thread.
    private let wake: Int32
    private let kind: Kind

    /// Starts the thread. What `body` throws is logged, and the duty taken up again with a new connection.
    ///
    /// - Parameters:
    ///   - channels: Those of NOTIFY at which `body` is called at once.
    ///   - seconds: After which it is called otherwise.
    ///   - body: Does what is due. It may block; it is asked to end by nothing but the end of the process.
    init(
        _ kind: Kind,
        server: CatalogueServer,
        channels: [String] = [],
        every seconds: Double,
        _ body: @escaping @Sendable (Catalogue) throws -> Void
    ) throws {
        self.kind = kind
        let (ours, theirs) = try socketPair()
        wake = ours
        let address = server.address
        try Thread("\(kind)") { [self] in
            let end = FileDescriptor(owning: theirs)
            var pause = 1.0
            while !stop.load(ordering: .relaxed) {
                do {
                    try attend(address, channels, seconds, end, body) { pause = 1 }
                } catch {
                    guard !stop.load(ordering: .relaxed) else { return }
                    Log.write(.error, "\(kind): \(error); trying again in \(Int(pause)) s")
                    _ = try? waitReadable([end.raw], seconds: pause)
                    pause = min(30, pause * 2)
                }
            }
        }.detach()
    }

    private func attend(
        _ address: String,
        _ channels: [String],
        _ seconds: Double,
        _ end: borrowing FileDescriptor,
        _ body: (Catalogue) throws -> Void,
        went: () -> Void
    ) throws {
        let catalogue = try Catalogue(address: address, applicationName: "holdfast duty \(kind)")
        defer { catalogue.close() }
        while try !catalogue.connection.tryLock(class: LockClass.duty, object: kind.rawValue) {
            if try !waitReadable([end.raw], seconds: 2).isEmpty { return }
        }
        for channel in channels { try catalogue.connection.listen(channel) }
        while !stop.load(ordering: .relaxed) {
            try body(catalogue)
            try catalogue.noteDuty(kind.rawValue)
            went()
            guard try !waitReadable([end.raw, catalogue.connection.descriptor], seconds: seconds).contains(0)
            else { return }
            _ = try catalogue.connection.notifications(timeout: 0)
        }
    }

    /// Lets the thread end after what it is doing. To be called once.
    func end() {
        stop.store(true, ordering: .relaxed)
        close(wake)
    }
}
