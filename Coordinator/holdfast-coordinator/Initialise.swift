import Arguments
import Catalogue
import Fleet
import JSON
import Posix
import Repository
import SSH
import Sessions

/// `init`: the state folder with the host key and the private catalogue, and the fleet's recovery passphrase, which is
/// shown here and never again.
func initialise(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try arguments.finish()
    let fleet = try FleetConfiguration(path: settings.configurationPath)
    try settings.becomeOwner(of: fleet)
    let folder = fleet.folder
    if folder.isSetUp {
        throw CommandFailure(
            .failed,
            "\(fleet.state) is set up already; the recovery passphrase can't be shown a second time"
        )
    }
    if Files.exists(folder.recovery) != Files.exists(folder.hostKey) && Files.exists(folder.recovery) {
        throw CommandFailure(
            .failed,
            "\(folder.hostKey) is missing, and agents trust no other key: put it back from a copy, or remove "
                + "\(folder.recovery) to set up anew and give every host a new token"
        )
    }
    try Files.makeDirectories(fleet.state)
    try Files.makeDirectories(fleet.repositories)
    if !Files.exists(folder.hostKey) { try KeyPair.generate().save(to: folder.hostKey) }
    let server = try CatalogueServer(fleet)
    defer { try? server.end() }
    try server.open().close()
    let key = try KeyPair.load(folder.hostKey)

    let passphrase = Passphrase.generate()
    let recovery = try RecoveryKey.derive(passphrase: passphrase)
    // Last, because its presence says that all of it is done.
    try Files.writeAtomically(recovery.encoded(), to: folder.recovery)
    if settings.json {
        printJSON([
            "state": JSON(fleet.state), "repositories": JSON(fleet.repositories),
            "host_key": JSON(key.publicKey.fingerprint.text), "recovery_passphrase": JSON(passphrase),
        ])
        return .done
    }
    put(
        """
        Set up in \(fleet.state); repositories will lie in \(fleet.repositories).
        Host key: \(key.publicKey.fingerprint)

        The recovery passphrase of this fleet:

            \(passphrase)

        It opens every repository with a stock restic, also when nothing else of this machine is left. It is not
        stored and can't be shown again: write it on paper now and keep it away from this machine.

        Next: start the service (systemctl enable --now holdfast-coordinator, or holdfast-coordinator serve), then
        holdfast-coordinator host add NAME for each Immich host.

        """
    )
    return .done
}
