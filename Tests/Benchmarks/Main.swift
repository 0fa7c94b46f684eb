import Arguments
import Glibc
import JSON
import Posix

private let usage = """
    usage: holdfast-benchmark [options]

    Makes a library and backs it up side by side with rsync, a stock restic, borg and Holdfast, over SSH on
    loopback: first backup, nothing changed, restore. One table; progress on standard error.

      --photos N       originals in the first library (60)
      --bytes N        their size together (photos times 2,000,000)
      --thumbnails N   small files beside them, 30 KB on average (400)
      --files N        small files, 2 KB on average, in the second library (2000)
      --places N       rows of place names in the database that Holdfast dumps (20000)
      --rounds N       how often all is measured; the table shows medians (1)
      --seed N         the same seed makes the same libraries (1)
      --only A,B       of rsync, restic, borg, holdfast
      --disk GB        a new ext4 for each tool, of this size, as root (0: all share the folder)
      --folder DIR     where to work (a new folder below /tmp, removed at the end)
      --programs DIR   where Holdfast's programs are (beside this one)
      --dumps N        instead: N daily dumps of a database that changes a little, and what the store grows by (0)
      --dump-rows N    rows of that database; 4,000,000 make dumps of about 0.8 GB (4000000)
      --together       instead: two hosts with such photos at once, against one alone
      --syncs          also counts what each syncs, by strace, in runs of their own
      --json           the figures of every round
      --idle N         something else: N agents that only wait, on one coordinator; what they cost, how soon
                       one hears of work, and how long all take to come back after a restart
      --status N       something else: a catalogue with a year of N hosts, and how long `status` takes with it
      --prune N        something else: a repository of N blobs, half of which nothing needs, and what `prune` takes,
                       beside a stock restic's
    """

struct Settings {
    var photos = 60
    var bytes = 0
    var thumbnails = 400
    var files = 2_000
    var places = 20_000
    var rounds = 1
    var seed = 1
    var only = ["rsync", "restic", "borg", "holdfast"]
    var disk = 0
    var folder: String?
    var programs = ""
    var dumps = 0
    var dumpRows = 4_000_000
    var together = false
    var syncs = false
    var json = false
    var idle = 0
    var status = 0
    var prune = 0

    init(_ arguments: [String]) throws {
        var reader = ArgumentReader(arguments)
        func number(_ name: String, _ standard: Int) throws -> Int {
            guard let text = try reader.option(name) else { return standard }
            guard let value = Int(text), value >= 0 else {
                throw CommandFailed(description: "\(name) needs a whole number, not `\(text)`")
            }
            return value
        }
        photos = try number("--photos", photos)
        bytes = try number("--bytes", photos * 2_000_000)
        thumbnails = try number("--thumbnails", thumbnails)
        files = try number("--files", files)
        places = try number("--places", places)
        rounds = max(1, try number("--rounds", rounds))
        seed = try number("--seed", seed)
        if let text = try reader.option("--only") { only = text.split(separator: ",").map(String.init) }
        disk = try number("--disk", disk)
        folder = try reader.option("--folder")
        programs = try reader.option("--programs") ?? Files.parent(ownPath())
        dumps = try number("--dumps", dumps)
        dumpRows = try number("--dump-rows", dumpRows)
        together = reader.flag("--together")
        syncs = reader.flag("--syncs")
        json = reader.flag("--json")
        idle = try number("--idle", idle)
        status = try number("--status", status)
        prune = try number("--prune", prune)
        try reader.finish()
    }

    private func ownPath() -> String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = readlink("/proc/self/exe", &buffer, buffer.count)
        return String(decoding: buffer.prefix(max(0, length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

@main
enum Benchmark {
    static func main() {
        Host.ignoreBrokenPipes()
        let arguments = Array(CommandLine.arguments.dropFirst())
        if ArgumentReader(arguments).asksForHelp {
            put(usage + "\n")
            exit(0)
        }
        do {
            let settings = try Settings(arguments)
            if settings.idle > 0 {
                try IdleBench(settings, agents: settings.idle).execute()
                exit(0)
            }
            if settings.status > 0 {
                try StatusBench(settings, hosts: settings.status).execute()
                exit(0)
            }
            if settings.prune > 0 {
                try PruneBench(settings, blobs: settings.prune).execute()
                exit(0)
            }
            let report = try Bench(settings).execute()
            put(settings.json ? report.json.text(pretty: true) + "\n" : report.table)
            exit(report.failures.isEmpty ? 0 : 1)
        } catch {
            put("holdfast-benchmark: \(error)\n", to: STDERR_FILENO)
            exit(1)
        }
    }
}
