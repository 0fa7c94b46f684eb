import Configuration
import Fleet
import Posix
import Sessions
import Synchronization

/// The inventory that the running service goes by: the file as it was when it was last found right. What was accepted lies
/// beside the state too, and the processes that the service starts read that copy and never the file itself, so that
/// one thing is in force everywhere and a slip of the pen stops nothing.
final class Inventory: Sendable {
    /// What came of looking at the file again.
    enum Outcome: Equatable {
        /// It is in force.
        ///
        /// - Parameters:
        ///   - changed: It is not what was in force before.
        ///   - notes: What of it waits for a restart.
        case accepted(changed: Bool, notes: [String])
        /// What was in force before stays so; the sentence names the place and what would be right.
        case refused(String)
    }

    /// The file that people write.
    let path: String
    private let folder: StateFolder
    private let held: Mutex<(fleet: FleetConfiguration, bytes: [UInt8])>

    /// Reads the file at `path`; `accept` takes it up.
    ///
    /// - Throws: `ConfigurationError`, or `CommandFailure` where `init` has not been run.
    init(_ path: String) throws {
        self.path = path
        let (fleet, bytes) = try Self.read(path)
        try fleet.requireSetUp()
        folder = fleet.folder
        held = Mutex((fleet, bytes))
    }

    /// Writes the copy. Before that a service that runs already on the same state is not disturbed.
    func accept() throws {
        let bytes = held.withLock { $0.bytes }
        try Files.writeAtomically(bytes, to: folder.acceptedInventory)
    }

    /// What is in force.
    var current: FleetConfiguration { held.withLock { $0.fleet } }

    /// The copy of what is in force: the `--config` of what the service starts.
    var acceptedPath: String { folder.acceptedInventory }

    /// Looks at the file again.
    func reload() -> Outcome {
        do {
            let (fleet, bytes) = try Self.read(path)
            return try held.withLock { held in
                if let moved = fleet.moved(from: held.fleet) {
                    return .refused(
                        "\(path): `\(moved)` was changed, which only a restart can take up: until then nothing of the "
                            + "file as it is now counts"
                    )
                }
                let changed = bytes != held.bytes
                if changed { try Files.writeAtomically(bytes, to: folder.acceptedInventory) }
                // The sockets stay what they are.
                let old = held.fleet
                held = (fleet, bytes)
                held.fleet.listen = old.listen
                held.fleet.metrics = old.metrics
                let later = [
                    fleet.listen == old.listen ? nil : "listen",
                    fleet.metrics == old.metrics ? nil : "metrics",
                ].compactMap { $0 }
                return .accepted(
                    changed: changed,
                    notes: later.map { "`\($0)` counts from the next restart of the service" }
                )
            }
        } catch let error as SystemCallError {
            return .refused("\(path) could not be taken up: \(error)")
        } catch { return .refused("\(error)") }
    }

    /// Both from the same bytes, whatever an editor does meanwhile.
    private static func read(_ path: String) throws -> (FleetConfiguration, [UInt8]) {
        let bytes = try YAMLNode.bytes(of: path)
        return (try FleetConfiguration(bytes, file: path), bytes)
    }
}

extension FleetConfiguration {
    /// The first key whose new value would send what the service starts elsewhere than the service itself.
    fileprivate func moved(from old: FleetConfiguration) -> String? {
        if state != old.state { return "state" }
        if repositories != old.repositories { return "repositories" }
        return catalogue != old.catalogue ? "catalogue" : nil
    }
}
