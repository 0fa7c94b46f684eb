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

    /// Reads the inventory; where it cannot be taken, the one that the service took up last counts, and stderr says so: with
    /// a slip of the pen in the file one can still see and restore. As root it then becomes the owner of the state folder;
    /// `keepingRoot` is for what must set owners.
    func fleet(keepingRoot: Bool = false) throws -> FleetConfiguration {
        let fleet: FleetConfiguration
        do throws(ConfigurationError) {
            fleet = try FleetConfiguration(path: configurationPath)
        } catch {
            guard let accepted = acceptedFleet else { throw error }
            put("holdfast-coordinator: \(error); what the service took up last counts\n", to: STDERR_FILENO)
            fleet = accepted
        }
        if !keepingRoot { try becomeOwner(of: fleet) }
        return fleet
    }

    /// What the service of this file took up last. The file still has to say where the state is, unless it is the one of
    /// the system: another one's could be somebody else's.
    private var acceptedFleet: FleetConfiguration? {
        guard let bytes = try? YAMLNode.bytes(of: configurationPath) else { return nil }
        let said = bytes.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
            .first { $0.hasPrefix("state:") }?.dropFirst("state:".count)
        let isSystem = configurationPath == FleetConfiguration.defaultPath
        guard let text = said.map(String.init) ?? (isSystem ? FleetConfiguration().state : nil),
            let fleet = try? FleetConfiguration(Array("state: \(text)".utf8), file: configurationPath),
            let accepted = try? FleetConfiguration(path: fleet.folder.acceptedInventory),
            accepted.state == fleet.state
        else { return nil }
        return accepted
    }

    /// As root becomes the owner of the state folder, so that nothing of root's is left there for the service to trip over.
    func becomeOwner(of fleet: FleetConfiguration) throws {
        if geteuid() == 0, let owner = try? FileStatus(path: fleet.state), owner.uid != 0 {
            guard setgroups(0, nil) == 0, setgid(owner.gid) == 0, setuid(owner.uid) == 0 else {
                throw CommandFailure(
                    .failed,
                    "cannot become the owner of \(fleet.state): \(describeErrno(errno))"
                )
            }
        }
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
