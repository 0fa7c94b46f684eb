import Glibc
import JSON
import Posix
import TestSupport
import Testing

/// One small host that is backed up again and again by programs that obey a recording layer. The agent is started
/// for each backup, so that every run begins with a connection and nobody waits for one who tries again later.
final class FaultRig {
    let sample: SampleHost
    let installation: Installation
    let agent: AgentProcess
    let layer: FaultLayer
    /// Files of this rig alone: other rigs share the host.
    let folder: String
    private var files: [String] = []
    private var made = 0
    var random: SplitMix
    /// What snapshots hold of `folder`, by their ids, for restoring them later.
    private(set) var listings: [(snapshot: String, listing: TreeListing)] = []
    private var snapshotFiles: Set<[UInt8]> = []
    private var iterations = 0
    let seed: UInt64

    private static let sharedSample = Result { try SampleHost(photos: 6, photoSize: 60_000, places: 300) }

    /// - Parameter prepare: Called with the installation's folder before anything is in it.
    init(
        sample own: SampleHost? = nil,
        extra: String = "",
        environment: [String: String?] = [:],
        prepare: (String) throws -> Void = { _ in }
    ) throws {
        sample = try own ?? Self.sharedSample.get()
        seed =
            environmentVariables()["HOLDFAST_SEED"].flatMap { UInt64($0) }
            ?? randomBytes(4).reduce(0) { $0 << 8 | UInt64($1) }
        random = SplitMix(seed)
        installation = try Installation(extra: extra, prepare: prepare)
        agent = try AgentProcess(sample)
        layer = try FaultLayer(folders: [
            installation.folder + "/repositories", installation.folder + "/state",
        ])
        folder = sample.uploadLocation + "/upload/rig-\(randomHex(4))"
        try Files.makeDirectories(folder, mode: 0o755)
        try installation.initialise()
        serveEnvironment = layer.environment.merging(environment) { $1 }
        try installation.serve(environment: serveEnvironment)
        try agent.join(installation, token: installation.addHost("lisbon"))
        try change()
    }

    deinit { try? Files.removeTree(folder) }

    let serveEnvironment: [String: String?]

    // MARK: Running

    /// Two new photos, and one that was there is gone.
    func change(photos: Int = 2, size: Int = 30_000) throws {
        for _ in 0..<photos {
            made += 1
            let path = "\(folder)/IMG_\(made).jpg"
            let count = size / 2 + Int(random.next() % UInt64(size))
            try Files.writeAtomically(random.bytes(count), to: path, mode: 0o644)
            files.append(path)
        }
        if files.count > 2 * photos {
            try Files.remove(files.remove(at: Int(random.next() % UInt64(files.count - photos))))
        }
    }

    /// A backup to its end: the agent asks for it, or the coordinator when the agent runs as a service.
    func run() throws -> Outcome {
        agent.pid == nil
            ? try agent.command("backup", environment: layer.environment)
            : try installation.coordinator("backup", "lisbon", "--json")
    }

    /// The same without waiting for its end.
    func start() throws -> ChildProcess { try agent.start("backup", environment: layer.environment) }

    /// The steps of a backup that nothing happens to.
    func record(_ order: FaultLayer.Order) throws -> [FaultLayer.Step] {
        try change()
        try layer.set(order)
        try backup()
        defer { try? layer.clear() }
        return try layer.steps()
    }

    /// A backup to which something happens.
    ///
    /// - Returns: How it ended, or nil when it had not so many steps.
    func strike(_ order: FaultLayer.Order) throws -> Outcome? {
        try change()
        try layer.set(order)
        let outcome = try run()
        let isHit = layer.fired != nil
        try layer.clear()
        return isHit ? outcome : nil
    }

    /// Starts `serve` anew after it was killed.
    func restart() throws {
        installation.stop(SIGKILL)
        try installation.serve(environment: serveEnvironment)
    }

    /// The newest run as `status` shows it, once it is over: whoever was cut off puts things in order first.
    func settled() throws -> JSON {
        var last: Outcome?
        do {
            return try eventually("the run is over") { () -> JSON? in
                let status = try installation.coordinator("status", "--json")
                last = status
                guard let host = status.json?["hosts"]?.array?.first, let run = host["run"],
                    run["state"]?.string != "running"
                else { return nil }
                return host
            }
        } catch { throw Unexpected(last ?? Outcome(status: -1, output: "", error: "\(error)")) }
    }

    /// A backup that must be done, though the last one may still be ending.
    @discardableResult
    func backup() throws -> String {
        _ = try settled()
        let listing = try TreeListing(folder)
        let outcome = try run()
        let host = try settled()
        guard outcome.status == 0, host["run"]?["state"]?.string == "done", host["state"]?.string == "ok",
            let snapshot = host["run"]?["snapshot"]?.string
        else {
            throw Unexpected(
                Outcome(
                    status: outcome.status,
                    output: host.text(),
                    error: outcome.error + "\n" + installation.serveLog.suffix(3000)
                        + ((try? Outcome.of(
                            ["docker", "logs", "--tail", "30", sample.postgresContainer],
                            environment: ["DOCKER_HOST": sample.dockerHost]
                        ).error) ?? "")
                )
            )
        }
        listings.append((snapshot, listing))
        return snapshot
    }

    func restic(_ arguments: String...) throws -> Outcome {
        try Outcome.of(
            ["restic", "--no-cache", "-r", installation.repository("lisbon")] + arguments,
            environment: ["RESTIC_PASSWORD": try password.get()]
        )
    }
    private(set) lazy var password = Result { try installation.password("lisbon") }

    // MARK: Looking

    private func snapshotNames() throws -> Set<[UInt8]> {
        Set(try Directory.names(installation.repository("lisbon") + "/snapshots").filter { $0.count == 64 })
    }

    /// All that must hold after a fault is over: what the killed or failed run is called, the next one without a
    /// person, a stock client's view, nothing left over, and nothing lost.
    ///
    /// - Parameter readEvery: A stock client reads all data after so many calls.
    func verify(_ what: String, readEvery: Int = 1) throws {
        let before = snapshotFiles
        let host = try settled()
        let ended = host["run"]?["state"]?.string ?? "?"
        if ended == "done" || ended == "incomplete" {
            let snapshot = host["run"]?["snapshot"]?.string ?? ""
            let there = Files.exists(installation.repository("lisbon") + "/snapshots/" + snapshot)
            #expect(there && !snapshot.isEmpty, "\(what): \(ended) without a snapshot")
        } else {
            let hasRun = host["run"].map { !$0.isNull } ?? false
            #expect(host["state"]?.string == (hasRun ? "failed" : "never"), "\(what): \(host.text())")
        }
        try backup()
        // No unlock in between: nothing that a killed process left may stand in a stock client's way.
        if iterations % readEvery == 0 {
            let check = try restic("check", "--read-data")
            #expect(check.status == 0, "\(what): \(check)")
            let said = check.output + check.error
            #expect(!said.contains("additional files") && !said.contains("uplicate"), "\(what): \(said)")
        }
        #expect(try leftovers() == [], "\(what)")
        let now = try snapshotNames()
        #expect(before.subtracting(now).isEmpty, "\(what): a snapshot is gone")
        snapshotFiles = now
        iterations += 1
        if iterations % 10 == 0 { try restoreOne(what) }
    }

    /// Restores the oldest snapshot or any other, and compares it with what the host had then.
    func restoreOne(_ what: String) throws {
        guard !listings.isEmpty else { return }
        let (snapshot, listing) = listings[
            random.next() % 2 == 0 ? 0 : Int(random.next() % UInt64(listings.count))
        ]
        let target = installation.folder + "/restored"
        defer { try? Files.removeTree(target) }
        let part = "immich/upload/" + (folder.split(separator: "/").last.map(String.init) ?? "")
        let outcome = try installation.coordinator(
            "restore",
            "lisbon",
            "--snapshot",
            snapshot,
            "--to",
            target,
            "--include",
            part
        )
        #expect(outcome.status == 0, "\(what): \(outcome)")
        #expect(try listing.differences(to: TreeListing(target + "/" + part)) == [], "\(what)")
    }

    /// Files of the repository and the state folder that belong to nobody.
    private func leftovers() throws -> [String] {
        let repository = installation.repository("lisbon")
        var found = try Outcome.of([
            "find", repository, installation.folder + "/state", "-path", "*/catalogue/data", "-prune", "-o",
            "-name", "*tmp*", "-print", "-o", "-path", "*/locks/*", "-print",
        ]).output.split(separator: "\n").map(String.init)
        let side = try Directory.names(repository + "/holdfast").map { String(decoding: $0, as: UTF8.self) }
        found += side.filter { !["epoch", "forgotten", "host", "pins", "proofs"].contains($0) }
        return found
    }

    /// After all: the oldest and any snapshot come back whole, every stock client is content, and what no snapshot
    /// names is no more than what each run that something happened to may have sent in vain.
    func conclude(_ what: String) throws {
        for _ in 0..<2 { try restoreOne(what) }
        try restoreFirst(what)
        for restic in Restic.versions {
            let check = try restic.on(installation.repository("lisbon"), password: password.get())
                .attempt(["check", "--read-data"])
            #expect(check.exit == .exit(0), "\(what), \(restic.name): \(check.text)")
        }
        let (used, unused) = try blobs()
        try change()
        try backup()
        let ofOneRun = try blobs().used - used
        let readers = Restic.versions.map(\.name).joined(separator: ", ")
        print(
            "\(what): \(iterations) iterations, seed \(seed), read by \(readers); \(used) blobs used, \(unused) not, "
                + "\(ofOneRun) of a run of its own"
        )
        #expect(unused <= iterations * ofOneRun, "\(what): more is left over than killed runs can have sent")
    }

    /// Blobs that snapshots name, and others, as a stock client counts them.
    private func blobs() throws -> (used: Int, unused: Int) {
        let prune = try restic("prune", "--dry-run", "--verbose=2")
        func count(_ name: String) throws -> Int {
            let line = prune.output.split(separator: "\n").first { $0.hasPrefix(name) }
            let words = line?.split(separator: " ") ?? []
            guard prune.status == 0, words.count > 1, let number = Int(words[1]) else {
                throw Unexpected(prune)
            }
            return number
        }
        return (try count("used:"), try count("unused:"))
    }

    private func restoreFirst(_ what: String) throws {
        guard let first = listings.first else { return }
        listings = [first]
        try restoreOne(what)
    }
}

extension SplitMix {
    /// Every tenth of `all`, by chance and at least `least`; all of them in the long form.
    mutating func share<T>(of all: [T], least: Int = 1) -> [T] {
        if isLong { return all }
        let wanted = min(all.count, max(least, all.count / 10))
        var chosen = Set<Int>()
        while chosen.count < wanted { chosen.insert(Int(next() % UInt64(all.count))) }
        return chosen.sorted().map { all[$0] }
    }
}
