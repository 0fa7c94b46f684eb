import Arguments
import Glibc
import JSON
import Posix

/// The whole run: libraries, servers, tools, rounds.
struct Bench {
    let settings: Settings
    private let folder: String

    init(_ settings: Settings) throws {
        self.settings = settings
        folder = settings.folder ?? "/tmp/holdfast-benchmark-\(randomHex(4))"
        // PostgreSQL, another user than root, has to pass through.
        try Files.makeDirectories(folder, mode: 0o755)
    }

    func execute() throws -> Report {
        defer { if settings.folder == nil { try? Files.removeTree(folder) } }
        var report = Report()
        if settings.dumps > 0 {
            try Growth(settings: settings, folder: folder).measure(into: &report)
            return report
        }
        if settings.together {
            try Together(settings: settings, folder: folder).measure(into: &report)
            return report
        }
        say("making the libraries")
        let empty = try Library("empty", in: "\(folder)/vm")
        var photos = try Library("photos", in: "\(folder)/vm")
        let seed = UInt64(settings.seed)
        try photos.add(
            settings.photos,
            average: settings.bytes / max(1, settings.photos),
            kind: "upload",
            seed: seed
        )
        try photos.add(settings.thumbnails, average: 30_000, kind: "thumbs", seed: seed &+ 1)
        var many = try Library("many", in: "\(folder)/vm")
        try many.add(settings.files, average: 2_000, kind: "thumbs", seed: seed &+ 2)

        let server = try SSHServer(folder: "\(folder)/ssh")
        defer { server.stop() }
        var disks: [OwnDisk] = []
        defer { disks = [] }
        var tools: [any Tool] = []
        defer { for tool in tools { tool.stop() } }
        for name in settings.only {
            let place = "\(folder)/\(name)"
            if settings.disk > 0 { disks.append(try OwnDisk(at: place, gigabytes: settings.disk)) }
            switch name {
            case "rsync": tools.append(try Rsync(server: server, folder: place))
            case "restic": tools.append(try Restic(server: server, folder: place))
            case "borg": tools.append(try Borg(server: server, folder: place))
            case "holdfast": tools.append(try Holdfast(settings, server: server, folder: place))
            default:
                throw CommandFailed(
                    description: "--only knows rsync, restic, borg and holdfast, not `\(name)`"
                )
            }
        }
        for round in 0..<settings.rounds {
            // Another one goes first each time.
            let turn = tools.indices.map { tools[($0 + round) % tools.count] }
            for tool in turn {
                say("round \(round + 1): \(tool.name)")
                // One that fails ends its own rounds and no one else's.
                if report.failures.contains(where: { $0.tool == tool.name }) { continue }
                do { try cover(tool, empty: empty, photos: photos, many: many, into: &report) } catch {
                    say("\(tool.name) failed: \(error)")
                    report.failures.append((tool.name, "\(error)"))
                }
            }
        }
        for tool in tools { if let holdfast = tool as? Holdfast { try holdfast.measureAlone(into: &report) } }
        describe(&report, photos: photos, many: many, tools: tools)
        if settings.syncs {
            for tool in tools where !report.failures.contains(where: { $0.tool == tool.name }) {
                say("syncs: \(tool.name)")
                try tool.prepare(photos)
                let counts = try countSyncs(below: tool.nasProcesses(), log: "\(folder)/syncs") {
                    _ = try tool.backUp(photos)
                }
                let said = counts.map { "\(Human.count($0.count)) \($0.call)" }.joined(separator: ", ")
                report.notes.append(
                    "synced on the NAS in `first, photos` by \(tool.name): \(said.isEmpty ? "nothing" : said)"
                )
            }
        }
        return report
    }

    private func cover(
        _ tool: any Tool,
        empty: Library,
        photos: Library,
        many: Library,
        into report: inout Report
    ) throws {
        try tool.prepare(empty)
        report.add("connect, open", tool.name, try tool.open(empty))
        report.add("first, six markers only", tool.name, try tool.backUp(empty), stored: tool.stored(empty))

        try tool.prepare(photos)
        let cost = try tool.backUp(photos)
        report.add("first, photos", tool.name, cost, bytes: photos.bytes, stored: tool.stored(photos))
        report.add("nothing changed, photos", tool.name, try tool.backUp(photos))
        try restore(photos, by: tool, as: "restore, photos", into: &report)

        try tool.prepare(many)
        report.add(
            "first, small files",
            tool.name,
            try tool.backUp(many),
            bytes: many.bytes,
            stored: tool.stored(many)
        )
        report.add("nothing changed, small files", tool.name, try tool.backUp(many))
        try restore(many, by: tool, as: "restore, small files", into: &report)
    }

    private func restore(_ library: Library, by tool: any Tool, as work: String, into report: inout Report)
        throws
    {
        // Stays to the end: see `PeerTool.setAside`.
        let target = "\(tool.folder)/restored-\(randomHex(4))"
        try Files.makeDirectories(target)
        // A backup is read from the disk on the day it is needed.
        Glibc.sync()
        for other in try Directory.names(folder) where other != Array("vm".utf8) {
            forgetCached(below: "\(folder)/" + String(decoding: other, as: UTF8.self))
        }
        for (part, cost) in try tool.restore(library, to: target) {
            let name = part.isEmpty ? tool.name : "\(tool.name): \(part)"
            report.add(work, name, cost, bytes: library.bytes)
        }
        try compare(library, with: target, tool: tool.name)
    }

    /// A restore that lost something would be fast. Tools put the tree at different depths: the folder that has
    /// `upload/.immich` is taken for the root.
    private func compare(_ library: Library, with target: String, tool: String) throws {
        let markers = try run(["find", target, "-path", "*/upload/.immich"]).split(separator: "\n")
        guard let marker = markers.first else {
            throw CommandFailed(description: "\(tool) restored nothing into \(target)")
        }
        let found = Files.parent(Files.parent(String(marker)))
        for part in ["upload", "thumbs"] {
            let result = try ChildProcess.run([
                "diff", "-r", "-q", "\(library.folder)/\(part)", "\(found)/\(part)",
            ])
            guard result.end == .exit(0) else {
                throw CommandFailed(
                    description: "what \(tool) restored differs from its source: "
                        + String(decoding: result.output.prefix(500), as: UTF8.self)
                )
            }
        }
    }

    private func describe(_ report: inout Report, photos: Library, many: Library, tools: [any Tool]) {
        report.facts = [
            ("photos_files", JSON(photos.files)), ("photos_bytes", JSON(photos.bytes)),
            ("small_files", JSON(many.files)), ("small_bytes", JSON(many.bytes)),
            ("seed", JSON(settings.seed)),
            ("rounds", JSON(settings.rounds)), ("cores", JSON(Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))),
        ]
        report.notes += [
            "photos: \(Human.count(settings.photos)) originals and \(Human.count(settings.thumbnails)) thumbnails,"
                + " \(Human.bytes(photos.bytes)); small files: \(Human.count(many.files)), \(Human.bytes(many.bytes));"
                + " seed \(settings.seed); \(settings.rounds) round(s), the median by wall time",
            "VM: the end with the photos. NAS: the end that keeps the backup. Both are this machine, with"
                + " \(sysconf(Int32(_SC_NPROCESSORS_ONLN))) cores; SSH on loopback with aes128-gcm",
            "peak: the memory of all processes of an end together, shared pages once, looked at every 250 ms",
            "what is backed up lies in the page cache, what is restored does not; everything dirty is written out before each run",
        ]
        if settings.disk > 0 { report.notes.append("each tool has a new ext4 of its own, for both ends") }
        report.notes += tools.map { "\($0.name): \($0.note)" }
    }

    private func say(_ text: String) { put("\(text)\n", to: STDERR_FILENO) }
}
