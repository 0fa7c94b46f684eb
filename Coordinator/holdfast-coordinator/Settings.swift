import Arguments
import Catalogue
import Configuration
import Fleet
import Glibc
import Posix
import Repository
import Sessions

/// What every command stands on: the inventory, the state folder, and the ways into catalogue and repositories.
struct Settings {
    let configurationPath: String
    let json: Bool

    /// Reads the inventory. As root it then becomes the owner of the state folder, so that nothing of root's
    /// is left there for the service to trip over; `keepingRoot` is for what must set owners.
    func fleet(keepingRoot: Bool = false) throws -> FleetConfiguration {
        let fleet = try FleetConfiguration(path: configurationPath)
        if !keepingRoot && geteuid() == 0, let owner = try? FileStatus(path: fleet.state), owner.uid != 0 {
            guard setgroups(0, nil) == 0, setgid(owner.gid) == 0, setuid(owner.uid) == 0 else {
                throw CommandFailure(
                    .failed,
                    "cannot become the owner of \(fleet.state): \(describeErrno(errno))"
                )
            }
        }
        return fleet
    }
}

extension FleetConfiguration {
    /// Throws unless `init` has been run.
    func requireSetUp() throws {
        guard folder.isSetUp else {
            throw CommandFailure(
                .configuration,
                "\(state) is not set up: run `holdfast-coordinator init` first, as the user who will run `serve`"
            )
        }
    }
}
