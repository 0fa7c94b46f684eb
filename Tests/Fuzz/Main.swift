import Arguments
import Glibc
import Posix
import TestSupport

private let usage = """
    usage: holdfast-fuzz [--frames N] [--seed S]

    Gives the coordinator and the agent what a hostile or broken peer would send: whole captures of a made-up library
    whose frames are changed, cut, doubled, put in another order or made up, against a real repository, which is
    read back whole after every 150; answers to an agent that sends files; and changed texts to everything that
    reads what comes from outside.

      --frames N   frames and texts in all (1000000)
      --seed S     the same seed does the same again (1)

    Prints what was accepted, what was refused and why. After a crash, or what takes over a minute, it prints the seed
    and the frame, and ends with 1.
    """

/// How far it is, in memory that the watching process shares.
private struct Place {
    var frames: UInt64 = 0
    var unit: UInt64 = 0
}

@main
enum Fuzz {
    static func main() {
        Host.ignoreBrokenPipes()
        var reader = ArgumentReader(Array(CommandLine.arguments.dropFirst()))
        do {
            if reader.asksForHelp { return put(usage + "\n") }
            let frames = try reader.option("--frames").flatMap { Int($0) } ?? 1_000_000
            let seed = try reader.option("--seed").flatMap { UInt64($0) } ?? 1
            let worker = try reader.option("--worker")
            try reader.finish()
            if let worker {
                try work(frames, seed, folder: worker)
            } else {
                exit(try watch(frames, seed) ? 0 : 1)
            }
        } catch {
            put("holdfast-fuzz: \(error)\n", to: STDERR_FILENO)
            exit(1)
        }
    }

    // MARK: Watching

    /// Runs the work in a process of its own, so that whatever ends it is seen.
    private static func watch(_ frames: Int, _ seed: UInt64) throws -> Bool {
        let base = Files.exists("/dev/shm") ? "/dev/shm" : "/tmp"
        let folder = "\(base)/holdfast-fuzz-\(randomHex(4))"
        try Files.makeDirectories(folder)
        defer { try? Files.removeTree(folder) }
        let place = try share(folder + "/place", create: true)
        let child = try ChildProcess(
            ["/proc/self/exe", "--frames", "\(frames)", "--seed", "\(seed)", "--worker", folder],
            ownGroup: false
        )
        var last = Place()
        var since = Time.monotonic()
        var stuck = false
        while true {
            if let end = try child.poll() {
                if end == .exit(0) { return true }
                let now = place.pointee
                put(
                    "\(stuck ? "took over a minute" : "ended: \(end)"); seed \(seed), in frame \(now.frames) of unit "
                        + "\(now.unit); again: holdfast-fuzz --seed \(seed) --frames \(now.frames + 1)\n",
                    to: STDERR_FILENO
                )
                return false
            }
            let now = place.pointee
            if now.frames != last.frames || now.unit != last.unit {
                last = now
                since = Time.monotonic()
            } else if Time.monotonic() - since > 60_000_000_000, !stuck {
                stuck = true
                child.signal(SIGKILL)
            }
            Time.sleep(seconds: 0.1)
        }
    }

    private static func share(_ path: String, create: Bool) throws -> UnsafeMutablePointer<Place> {
        let file = try FileDescriptor(open: path, O_RDWR | O_CREAT)
        _ = try retryingOnInterrupt("ftruncate") { ftruncate(file.raw, 4096) }
        guard let memory = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.raw, 0),
            memory != MAP_FAILED
        else {
            throw SystemCallError("mmap", errno: errno, path)
        }
        return memory.bindMemory(to: Place.self, capacity: 1)
    }

    // MARK: Working

    private static func work(_ frames: Int, _ seed: UInt64, folder: String) throws {
        let place = try share(folder + "/place", create: false)
        // What a hostile peer could make grow shows as a crash.
        Host.limitMemory(2 << 30)
        let captures = try Captures(folder: folder + "/repository")
        let sendings = try Sendings(folder: folder + "/library")
        let decoders = try Decoders()
        var outcomes: [String: Int] = [:]
        var random = SplitMix(seed)
        var counts = (captures: 0, sendings: 0, decoders: 0)
        let start = Time.monotonic()
        var done: Int { counts.captures + counts.sendings + counts.decoders }
        while done < frames {
            place.pointee.unit += 1
            let unit = random.next()
            let outcome: String
            // Shares: the coordinator's conversation half, the agent's a twentieth, texts the rest.
            if counts.captures * 2 <= done {
                let result = try captures.run(seed: unit) { place.pointee.frames += 1 }
                counts.captures += result.frames
                outcome = "capture \(result.outcome)"
            } else if counts.sendings * 20 <= done {
                let result = sendings.run(seed: unit)
                counts.sendings += max(1, result.frames)
                outcome = "sending \(result.outcome)"
            } else {
                counts.decoders += 1
                outcome = try decoders.run(seed: unit)
            }
            place.pointee.frames = UInt64(done)
            outcomes[outcome, default: 0] += 1
        }
        try captures.verify()
        let seconds = Double(Time.monotonic() - start) / 1e9
        for (outcome, count) in outcomes.sorted(by: { ($0.key, $0.value) < ($1.key, $1.value) }) {
            put("  \(Human.count(count))\t\(outcome)\n")
        }
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        put(
            "\(Human.count(done)) frames with seed \(seed) in \(Human.fixed(seconds, 1)) s: "
                + "\(Human.count(Int(Double(done) / seconds))) frames/s; \(Human.count(counts.captures)) to the coordinator, "
                + "\(Human.count(counts.sendings)) to the agent, \(Human.count(counts.decoders)) texts; "
                + "\(captures.snapshots) snapshots, \(captures.checks) checks of the repository passed; peak memory "
                + "\(Human.bytes(Int64(usage.ru_maxrss) * 1024))\n"
        )
    }
}
