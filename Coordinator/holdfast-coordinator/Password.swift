import Arguments
import Catalogue
import Fleet
import JSON
import Posix
import Sessions

/// `password HOST`: a repository's own password, and how to open it without Holdfast.
func password(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let name = try arguments.required("HOST")
    try arguments.finish()
    let fleet = try settings.fleet()
    let path = fleet.repository(of: name)
    let file = fleet.folder.passwordFile(of: name)
    guard Files.exists(file) else {
        throw CommandFailure(.failed, "there is no host \(name): \(file) does not exist")
    }
    let password = try fleet.folder.password(of: name)
    if settings.json {
        printJSON([
            "host": JSON(name), "repository": JSON(path), "password": JSON(password),
            "password_file": JSON(file),
        ])
    } else {
        put(
            "\(password)\n\nwith a stock restic:\n    restic -r \(path) --password-file \(file) snapshots\n    "
                + "restic -r \(path) --password-file \(file) restore latest --tag kind:full --target DIR\n"
        )
    }
    return .done
}
