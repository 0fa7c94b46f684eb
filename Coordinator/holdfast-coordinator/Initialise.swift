import Arguments
import Catalogue
import Fleet
import Glibc
import JSON
import Posix
import Repository
import SSH
import Sessions

/// `init`: the state folder with the host key and the private catalogue, and the fleet's recovery passphrase, which is
/// shown here and never again. With `--further` one more coordinator of a fleet that is there.
func initialise(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let isFurther = arguments.flag("--further")
    try arguments.finish()
    let fleet = try FleetConfiguration(path: settings.configurationPath)
    try settings.becomeOwner(of: fleet)
    let folder = fleet.folder
    if isFurther { return try initialiseFurther(fleet, settings) }
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
                + "\(folder.recovery) to set up anew and give every host a new token; for one more coordinator of a fleet "
                + "that shares its catalogue: init --further"
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

/// A host key of its own beside the recovery key of the fleet, with which every repository opens.
private func initialiseFurther(_ fleet: FleetConfiguration, _ settings: Settings) throws -> ExitCode {
    let folder = fleet.folder
    guard fleet.catalogue != nil else {
        throw CommandFailure(
            .configuration,
            "coordinators of one fleet share a catalogue: set `catalogue:` in \(settings.configurationPath) here and at the "
                + "first one"
        )
    }
    guard Files.exists(folder.recovery) else {
        throw CommandFailure(
            .failed,
            "\(folder.recovery) is missing: copy it from the state folder of the first coordinator; it opens every "
                + "repository, so keep it at mode 600"
        )
    }
    let wasThere = Files.exists(folder.hostKey)
    if !wasThere { try KeyPair.generate().save(to: folder.hostKey) }
    let key = try KeyPair.load(folder.hostKey)
    return try fleet.withCatalogue { catalogue in
        let hosts = try catalogue.hosts()
        let closed = hosts.compactMap { host -> String? in
            do { _ = try fleet.openRepository(of: host.name) } catch { return "\(host.name): \(error)" }
            return nil
        }
        if settings.json {
            printJSON([
                "state": JSON(fleet.state), "repositories": JSON(fleet.repositories),
                "host_key": JSON(key.publicKey.fingerprint.text), "errors": JSON(closed),
            ])
        } else {
            put("\(wasThere ? "Was set" : "Set") up in \(fleet.state) as one more coordinator.\n")
            put("Host key: \(key.publicKey.fingerprint)\n")
            put(
                "\(hosts.count - closed.count) of \(hosts.count) repositories in \(fleet.repositories) open.\n"
            )
        }
        for line in closed { put("holdfast-coordinator: \(line)\n", to: STDERR_FILENO) }
        return closed.isEmpty ? .done : .failed
    }
}
