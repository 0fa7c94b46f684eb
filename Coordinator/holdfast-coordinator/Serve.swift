import Alarms
import Arguments
import CLinux
import Catalogue
import Configuration
import Fleet
import Glibc
import Health
import Posix
import SSH
import Sessions
import Synchronization

/// `serve`: listens, starts a session process per connection, and wakes sessions when there is work for their host.
/// It alone listens to the catalogue. On SIGHUP it takes up a changed inventory. It ends on SIGTERM and SIGINT, after its sessions, each of which leaves its
/// capture in order.
func serve(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try arguments.finish()
    try settings.becomeOwner(of: FleetConfiguration(path: settings.configurationPath))
    let inventory = try Inventory(settings.configurationPath)
    let fleet = inventory.current
    let stopping = Atomic(false)
    let reloading = Atomic(false)
    let wake = try FileDescriptor.pipe()
    let wakeEnd = wake.write
    try Signals.watch([SIGTERM, SIGINT, SIGHUP, SIGCHLD]) { number in
        switch number {
        case SIGCHLD: break
        case SIGHUP: reloading.store(true, ordering: .relaxed)
        default: stopping.store(true, ordering: .relaxed)
        }
        var byte: UInt8 = 0
        _ = write(wakeEnd, &byte, 1)
    }
    clinux_set_nonblocking(wake.read, 1)
    // One for each session.
    Host.raiseDescriptorLimit()

    let server = try CatalogueServer(fleet)
    defer { try? server.end() }
    var listeners: [Int32] = []
    for endpoint in fleet.listen {
        do {
            let listener = try TCPListener(address: endpoint.host, port: endpoint.port)
            clinux_set_nonblocking(listener.descriptor.raw, 1)
            Log.write(.notice, "listening on \(endpoint.host) port \(listener.port)")
            listeners.append(listener.release())
        } catch {
            let advice =
                error.code == EADDRINUSE
                ? "; another program has this port: see `ss -ltnp`, or choose another in `listen:` of "
                    + "\(settings.configurationPath)" : ""
            throw CommandFailure(.failed, "\(error)\(advice)")
        }
    }
    try inventory.accept()
    let metrics = try MetricsExporter(fleet.metrics, server: server) { inventory.current }
    defer { withExtendedLifetime(metrics) {} }
    let errands = Errands()
    var service = try Service(
        server: server,
        listeners: listeners,
        wake: wake.read,
        inventory: inventory,
        hostKey: KeyPair.load(fleet.folder.hostKey).publicKey.fingerprint.text,
        addresses: fleet.dialled,
        errands: errands
    )
    for problem in fleet.alarmProblems() { Log.write(.error, problem) }
    let schedule = ScheduleWork(inventory, errands)
    let alarms = AlarmDuty { inventory.current }
    let duties = [
        try Duty(
            .schedule,
            server: server,
            channels: [Catalogue.Channel.runs, Catalogue.Channel.schedule, Catalogue.Channel.inventory],
            every: 2
        ) { try schedule.pass($0) },
        try Duty(.watch, server: server, every: 30) { try Watch.goRound($0, inventory.current) },
        try Duty(
            .alarms,
            server: server,
            channels: [Catalogue.Channel.findings, Catalogue.Channel.runs],
            every: 15
        ) { try alarms.work($0) },
    ]
    while !stopping.load(ordering: .relaxed) {
        if reloading.exchange(false, ordering: .relaxed) { service.reload() }
        service.step()
    }
    Log.write(.notice, "stopping")
    for duty in duties { duty.end() }
    service.stop()
    alarms.settle(seconds: 20)
    return .done
}
