import Arguments
import Catalogue
import Fleet
import Glibc
import Posix
import Sessions

/// `session`, which only `serve` starts: one agent's connection on descriptor 3, the control socket on 4.
func session(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let peer = try arguments.required("PEER")
    try arguments.finish()
    let socket = FileDescriptor(owning: 3)
    let control = FileDescriptor(owning: 4)
    guard fcntl(socket.raw, F_GETFD) >= 0, fcntl(control.raw, F_GETFD) >= 0 else {
        throw UsageError.unknownCommand("session")
    }
    // Inherited so that they could be handed over; programs started from here shall not have them.
    try socket.setCloseOnExec()
    try control.setCloseOnExec()
    let fleet = try settings.fleet()
    let server = try CatalogueServer(fleet)
    defer { try? server.end() }
    let session = AgentSession(
        fleet: fleet,
        reload: { try settings.fleet() },
        server: server,
        control: control,
        program: "holdfast \(version)"
    )
    do { try session.run(socket, peer: peer) } catch {
        Log.write(.warning, "the connection from \(peer) ended: \(error)")
        return .failed
    }
    return .done
}
