import Arguments
import Fleet
import Glibc
import Posix

/// The command line of the coordinator: `holdfast-coordinator [--config FILE] COMMAND …`.
@main
enum Program {
    static func main() {
        Host.ignoreBrokenPipes()
        Host.hideMemory()
        exit(run(ArgumentReader(Array(CommandLine.arguments.dropFirst()))).rawValue)
    }
}

let version = "0.1.0"

/// A command: its words, what follows them, and what it does. `run` returns the exit status.
struct Command: Sendable {
    let words: [String]
    let synopsis: String
    let summary: String
    let run: @Sendable (inout ArgumentReader, Settings) throws -> ExitCode
}

private let commands = [
    Command(
        words: ["init"],
        synopsis: "[--further]",
        summary:
            "set up the state folder and show the recovery passphrase; or one more coordinator of a fleet",
        run: initialise
    ),
    Command(words: ["serve"], synopsis: "", summary: "receive backups until stopped", run: serve),
    Command(
        words: ["reload"],
        synopsis: "",
        summary: "have the running service take up a changed inventory",
        run: reload
    ),
    Command(
        words: ["config", "check"],
        synopsis: "[FILE]",
        summary: "check the inventory and show when what is due",
        run: configCheck
    ),
    Command(
        words: ["config", "show"],
        synopsis: "HOST",
        summary: "show what counts for a host, and where it comes from",
        run: configShow
    ),
    Command(
        words: ["host", "add"],
        synopsis: "NAME",
        summary: "add an Immich host and print its join line",
        run: hostAdd
    ),
    Command(words: ["host", "list"], synopsis: "", summary: "list the hosts", run: hostList),
    Command(words: ["host", "show"], synopsis: "NAME", summary: "show one host", run: hostShow),
    Command(
        words: ["host", "token"],
        synopsis: "NAME",
        summary: "print a new join line for a machine that was replaced",
        run: hostToken
    ),
    Command(
        words: ["host", "remove"],
        synopsis: "NAME",
        summary: "take no more backups of a host; its repository stays",
        run: hostRemove
    ),
    Command(
        words: ["backup"],
        synopsis: "HOST [--database-only]",
        summary: "back up a host now and watch it",
        run: backup
    ),
    Command(
        words: ["jobs"],
        synopsis: "[HOST]",
        summary: "show what is scheduled, when it is due, and what it waits for",
        run: jobs
    ),
    Command(words: ["runs"], synopsis: "[HOST] [--limit N]", summary: "list the newest runs", run: runs),
    Command(words: ["run", "show"], synopsis: "ID", summary: "show one run", run: runShow),
    Command(
        words: ["cancel"],
        synopsis: "RUN|HOST",
        summary: "end a run that waits or is under way",
        run: cancel
    ),
    Command(
        words: ["status"],
        synopsis: "[HOST] [--watch|--nagios]",
        summary: "show how the fleet stands, the worst first, or everything of one host",
        run: status
    ),
    Command(
        words: ["findings"],
        synopsis: "[HOST]",
        summary: "list what is wrong now, and what was lately",
        run: findings
    ),
    Command(
        words: ["finding", "close"],
        synopsis: "ID --why TEXT",
        summary: "say that a finding is as it should be",
        run: findingClose
    ),
    Command(
        words: ["snapshots"],
        synopsis: "[HOST] [--forgotten]",
        summary: "list snapshots, or those that can be recalled",
        run: snapshots
    ),
    Command(
        words: ["snapshot", "pin"],
        synopsis: "ID [HOST] --why TEXT",
        summary: "keep a snapshot whatever retention says",
        run: snapshotPin
    ),
    Command(
        words: ["snapshot", "unpin"],
        synopsis: "ID [HOST]",
        summary: "leave a snapshot to retention again",
        run: snapshotUnpin
    ),
    Command(
        words: ["snapshot", "recall"],
        synopsis: "ID [HOST]",
        summary: "bring a forgotten snapshot back",
        run: snapshotRecall
    ),
    Command(
        words: ["ls"],
        synopsis: "HOST [PATH] [--snapshot ID]",
        summary: "list what a snapshot holds",
        run: list
    ),
    Command(
        words: ["restore"],
        synopsis: "HOST [--snapshot ID] --to DIR|--remote [--include PATH]…",
        summary: "write a snapshot into a folder here, or let another machine fetch it, and verify it",
        run: restore
    ),
    Command(
        words: ["check"],
        synopsis: "HOST [--read-data]",
        summary: "check a repository; with --read-data every byte of it",
        run: check
    ),
    Command(
        words: ["prune"],
        synopsis: "HOST [--dry-run]",
        summary: "free what no snapshot needs: taken out of the index now, deleted by a run a day later",
        run: prune
    ),
    Command(
        words: ["catalogue", "rebuild"],
        synopsis: "",
        summary: "make a lost catalogue again from the repositories",
        run: catalogueRebuild
    ),
    Command(
        words: ["forget"],
        synopsis: "HOST [--dry-run]",
        summary: "let go of the snapshots that retention does not keep",
        run: forget
    ),
    Command(
        words: ["alarm", "list"],
        synopsis: "",
        summary: "show who is told what, and whether messages get there",
        run: alarmList
    ),
    Command(
        words: ["alarm", "test"],
        synopsis: "[NAME]",
        summary: "send a test message through every alarm, or one",
        run: alarmTest
    ),
    Command(words: ["locks"], synopsis: "", summary: "list who works on which host", run: locks),
    Command(
        words: ["password"],
        synopsis: "HOST",
        summary: "print a repository's password and how to open it with restic",
        run: password
    ),
]

private var usage: String {
    var text = """
        holdfast-coordinator \(version): receives, keeps and proves the backups of Immich hosts

        usage: holdfast-coordinator [--config FILE] COMMAND [--json]


        """
    let lines = commands.map {
        (($0.words + [$0.synopsis]).filter { !$0.isEmpty }.joined(separator: " "), $0.summary)
    }
    let width = lines.map(\.0.count).max() ?? 0
    for (call, summary) in lines {
        text += "  \(call)\(String(repeating: " ", count: width - call.count))  \(summary)\n"
    }
    return text + """

        --config FILE  the inventory (default /etc/holdfast/fleet.yaml); --json prints for programs
        exit status: 0 done, 1 failed, 3 done but incomplete, 10 no repository, 11 locked, 12 wrong password,
        20 unreachable, 21 dump failed, 22 no catalogue, 23 no space, 25 damage found, 26 over the size limit,
        64 usage, 78 configuration, 130 interrupted; of status --nagios 0 ok, 1 warning, 2 critical, 3 unknown

        """
}

private func run(_ arguments: ArgumentReader) -> ExitCode {
    var reader = arguments
    do {
        if reader.asksForHelp {
            put(usage)
            return .done
        }
        if reader.flag("--version") {
            put("holdfast-coordinator \(version)\n")
            return .done
        }
        let settings = Settings(
            configurationPath: try reader.option("--config") ?? FleetConfiguration.defaultPath,
            json: reader.flag("--json")
        )
        guard let word = reader.argument() else { throw UsageError.missingCommand }
        if word == "session" { return try session(&reader, settings) }
        let candidates = commands.filter { $0.words[0] == word }
        guard let first = candidates.first else { throw UsageError.unknownCommand(word) }
        var command = first
        if first.words.count > 1 {
            let second = try reader.required("a command after \(word)")
            guard let found = candidates.first(where: { $0.words[1] == second }) else {
                throw UsageError.unknownCommand("\(word) \(second)")
            }
            command = found
        }
        return try command.run(&reader, settings)
    } catch let error as UsageError {
        put("holdfast-coordinator: \(error)\nsee holdfast-coordinator --help\n", to: STDERR_FILENO)
        return .usage
    } catch {
        return complain(error)
    }
}
