import Arguments
import Configuration
import Glibc
import Posix
import Restore
import SSH
import Wire

/// The program's release, told to the coordinator.
let version = "0.1.0"

private let usage = """
    holdfast-agent: backs up this machine's Immich to a Holdfast coordinator

      holdfast-agent join ADDRESS TOKEN   makes this machine a host of the coordinator; `holdfast-coordinator host add`
                                          prints the whole line
      holdfast-agent run                  waits for the coordinator's word and captures (what systemd starts)
      holdfast-agent backup [--database-only]
                                          asks for a capture now, of everything or of the database alone, and shows it
      holdfast-agent restore ADDRESS TOKEN --to DIR [--json]
                                          fetches a backup into a new or empty folder; `holdfast-coordinator restore HOST
                                          --remote` prints the whole line, which also goes on with one that was cut
      holdfast-agent doctor [--json]      says what was found of Immich and the coordinator, and what to do about
                                          the rest

      holdfast-agent alarm test           sends a test message through the channel of `silence:` in agent.yaml

      --config DIR    the folder of agent.yaml and agent.key (default /etc/holdfast-agent)
      --help, --version

    Exit status: 0 done, 1 failed, 3 done but some files could not be read or kept changing, 11 the coordinator is busy with
    this host, 20 coordinator unreachable, 21 the database dump failed, 23 no space,
    25 damage found, 64 usage, 78 configuration, 130 interrupted

    """

@main
enum Program {
    static func main() {
        Host.ignoreBrokenPipes()
        Host.hideMemory()
        exit(run(Array(CommandLine.arguments.dropFirst())).rawValue)
    }

    private static func run(_ arguments: [String]) -> ExitCode {
        func complain(_ text: String) { put("holdfast-agent: \(text)\n", to: STDERR_FILENO) }
        do {
            return try dispatch(arguments)
        } catch let error as UsageError {
            complain("\(error)\n\n\(usage)")
            return .usage
        } catch let error as CommandFailure {
            complain(error.description)
            return error.code
        } catch let error as ConfigurationError {
            complain(error.description)
            return .configuration
        } catch let error as RestoreError {
            complain(error.description)
            return RestoreOutput.code(error)
        } catch let error as SSHError {
            complain(error.description)
            if case .keyFile = error { return .configuration }
            return .unreachable
        } catch {
            complain("\(error)")
            return .failed
        }
    }

    private static func dispatch(_ arguments: [String]) throws -> ExitCode {
        var reader = ArgumentReader(arguments)
        if reader.asksForHelp {
            put(usage)
            return .done
        }
        if reader.flag("--version") {
            put("holdfast-agent \(version)\n")
            return .done
        }
        let folder = try reader.option("--config") ?? "/etc/holdfast-agent"
        guard let command = reader.argument() else { throw UsageError.missingCommand }
        switch command {
        case "join":
            let address = try reader.required("ADDRESS")
            let token = try reader.required("TOKEN")
            try reader.finish()
            return try join(address: address, token: token, folder: folder)
        case "run":
            try reader.finish()
            return try Daemon(folder: folder).run()
        case "backup":
            let kind: CaptureKind = reader.flag("--database-only") ? .database : .full
            try reader.finish()
            return try backup(kind, folder: folder)
        case "restore":
            let target = try reader.option("--to")
            let asJSON = reader.flag("--json")
            let address = try reader.required("ADDRESS")
            let token = try reader.required("TOKEN")
            try reader.finish()
            guard let target else { throw UsageError.missingArgument("--to DIR") }
            return try RestoreCommand(address, token, target: target, folder: folder, asJSON: asJSON).run()
        case "doctor":
            let asJSON = reader.flag("--json")
            try reader.finish()
            return Doctor(folder: folder).run(asJSON: asJSON)
        case "alarm":
            let word = try reader.required("test")
            guard word == "test" else { throw UsageError.unknownCommand("alarm \(word)") }
            try reader.finish()
            return try testAlarm(folder: folder)
        default: throw UsageError.unknownCommand(command)
        }
    }
}
