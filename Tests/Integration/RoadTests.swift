import Glibc
import JSON
import Posix
import SSH
import TestSupport
import Testing

/// A real agent and a real coordinator with a road between them that breaks.
@Suite("A bad road", .serialized)
struct RoadTests {
    private static let sample = Result { try SampleHost(photos: 4, photoSize: 100_000) }

    /// An agent of a library of its own at the far end of a road.
    private final class Lane {
        let installation: Installation
        let road: Road
        let agent: AgentProcess
        let sample: SampleHost

        init(_ sample: SampleHost) throws {
            self.sample = sample
            installation = try Installation()
            try installation.initialise()
            try installation.serve()
            road = try Road(to: installation.port)
            agent = try AgentProcess(sample)
            let token = try installation.addHost("lisbon")
            let joined = try agent.command("join", "127.0.0.1:\(road.port)", token)
            guard joined.status == 0 else { throw Unexpected(joined) }
            try agent.run()
        }
        deinit { road.close() }

        func backup() throws -> (status: Int32, run: JSON) {
            let outcome = try installation.coordinator("backup", "lisbon", "--json")
            guard let run = outcome.json else { throw Unexpected(outcome) }
            return (outcome.status, run)
        }

        /// Adds files with random bytes and gives how many bytes they have.
        func addFiles(_ sizes: [Int], in name: String) throws -> Int {
            let folder = "\(sample.uploadLocation)/upload/\(name)"
            try Files.makeDirectories(folder, mode: 0o755)
            for (number, size) in sizes.enumerated() {
                let file = try FileDescriptor(open: "\(folder)/\(number).jpg", O_WRONLY | O_CREAT | O_TRUNC)
                try file.writeAll(randomBytes(size))
            }
            return sizes.reduce(0, +)
        }
    }

    /// What a series of cuts came to; bytes.
    private struct Cuts: Sendable {
        var cut = 0
        var uncut = 0
        var sentAgain = 0
        var mostAgain = 0
        var lostUnderWay = 0
    }

    private static func sent(_ run: JSON) -> Int { run["bytes_sent"]?.int ?? 0 }

    /// Cuts a run at a random byte for each seed; the run after it is whole.
    private static func cut(_ lane: Lane, seeds: [UInt64], name: String) throws -> Cuts {
        var cuts = Cuts()
        // The dump, and what the agent makes itself, are sent in every run.
        _ = try lane.backup()
        let always = sent(try lane.backup().run)
        for seed in seeds {
            var random = SplitMix(seed)
            var sizes = (0..<6).map { _ in 200_000 + random.below(1_000_000) }
            if seed % 10 == 3 { sizes.append(24_000_000) }
            let new = try lane.addFiles(sizes, in: "\(name)-\(seed)")
            let fault: Road.Fault = random.below(2) == 0 ? .reset : .end
            // What comes back is a hundredth of what goes there.
            let plan =
                random.below(4) == 0
                ? Road.Plan(fault, .back, after: random.below(4000))
                : Road.Plan(fault, .there, after: random.below(new + always))
            lane.road.plan(plan)
            let first = try lane.backup()
            let isCut = !lane.road.isPlanned
            lane.road.plan(nil)
            if first.status == 0 {
                // Cut before it began or after it was published.
                cuts.uncut += 1
                continue
            }
            #expect(isCut && first.run["state"]?.string == "interrupted", "seed \(seed): \(first.run.text())")
            let second = try lane.backup()
            #expect(second.status == 0, "seed \(seed): \(second.run.text())")
            let received = max(0, sent(first.run) - always)
            let again = max(0, received + sent(second.run) - always - new)
            cuts.cut += 1
            cuts.sentAgain += again
            cuts.mostAgain = max(cuts.mostAgain, again)
            if let end = first.run["bytes_sent"]?.int, end > 0, plan.direction == .there {
                cuts.lostUnderWay = max(cuts.lostUnderWay, plan.bytes - end)
            }
            // One chunk of a large file may have been open, and one small file.
            #expect(again <= 18 << 20, "seed \(seed): \(again) bytes were sent again")
        }
        return cuts
    }

    @Test func `a run that is cut at any byte costs little, and the next is whole`() throws {
        let count = isLong ? 200 : 20
        let first = UInt64.random(in: 0..<1_000_000)
        let sample = try Self.sample.get()
        let seeds = (0..<count).map { first + UInt64($0) }
        // Two at a time: most of the time an agent waits before it connects again.
        // Each with a library of its own, so that one's new files are not the other's.
        let lanes = [try Lane(sample), try Lane(SampleHost(photos: 4, photoSize: 100_000, seed: 2))]
        let parts = [Array(seeds.prefix(count / 2)), Array(seeds.suffix(count - count / 2))]
        let box = Results<Cuts>()
        let other = Unchecked(lanes[1])
        let thread = try Posix.Thread("lane") {
            box.add(try Self.cut(other.value, seeds: parts[1], name: "b"))
        }
        box.add(try Self.cut(lanes[0], seeds: parts[0], name: "a"))
        try thread.join()
        let all = box.values
        let cut = all.reduce(0) { $0 + $1.cut }
        print(
            "\(count) runs from seed \(first): \(cut) cut, \(all.reduce(0) { $0 + $1.uncut }) ended before; sent again"
                + " \(all.reduce(0) { $0 + $1.sentAgain } / max(1, cut)) bytes on average, \(all.map(\.mostAgain).max() ?? 0)"
                + " at most; under way at a cut at most \(all.map(\.lostUnderWay).max() ?? 0)"
        )
        #expect(cut > count / 4)
        for lane in lanes {
            #expect(try lane.backup().status == 0)
            let check = try Outcome.of(
                [
                    "restic", "--no-cache", "-r", lane.installation.repository("lisbon"), "check",
                    "--read-data",
                ],
                environment: ["RESTIC_PASSWORD": try lane.installation.password("lisbon")]
            )
            #expect(check.status == 0, "\(check)")
            let target = lane.installation.folder + "/restored"
            #expect(try lane.installation.coordinator("restore", "lisbon", "--to", target).status == 0)
            let differences = try TreeListing(lane.sample.uploadLocation + "/upload").differences(
                to: TreeListing(target + "/immich/upload")
            )
            #expect(differences == [])
        }
    }

    /// Where a large file is when the coordinator is killed.
    enum Moment: String, CaseIterable { case underWay = "under way", whole }

    @Test(arguments: Moment.allCases)
    func `a coordinator that is killed costs a pack or two of bytes to send again`(large: Moment) throws {
        let lane = try Lane(SampleHost(photos: 2, photoSize: 1000))
        _ = try lane.backup()
        let always = Self.sent(try lane.backup().run)
        let (size, count, small) = (isLong ? 400_000_000 : 160_000_000, isLong ? 200 : 80, 2_000_000)
        // In the order of their names; the large one has number 50.
        var sizes = [Int](repeating: small, count: count)
        sizes.insert(size, at: 50)
        let before = (0...count).map { "\($0).jpg" }.sorted().prefix { $0 != "50.jpg" }.count * small
        let new = try lane.addFiles(sizes, in: "large")
        let until = before + (large == .whole ? size + 6_000_000 : size * 6 / 10)
        let watcher = try ChildProcess(
            [Programs.coordinator, "--config", lane.installation.configuration, "backup", "lisbon"],
            output: .nothing,
            error: .nothing
        )
        let pid = watcher.pid
        let goal = lane.road.carried.there + until
        _ = try eventually("most of it is sent", seconds: 120) { lane.road.carried.there > goal ? true : nil }
        lane.installation.stop(SIGKILL)
        kill(pid, SIGKILL)
        _ = try watcher.wait()
        let carried = lane.road.carried.there
        try lane.installation.serve()
        _ = try eventually("the killed run is over") { () -> Bool? in
            try lane.installation.run(of: "lisbon")?["state"]?.string == "running" ? nil : true
        }
        let second = try lane.backup()
        #expect(second.status == 0, "\(second.run.text())")
        let rest = Self.sent(second.run) - always
        let missing = new - (carried - (goal - until))
        print(
            "killed while the large file was \(large.rawValue), with \(missing) of \(new) bytes to come; the next run sent \(rest): \(rest - missing) again"
        )
        // The open pack, the one that was being synced, and what was under way.
        #expect(rest - missing < 160 << 20)
    }

    @Test func `a backup over a road of 300 ms goes through, and how fast is printed`() throws {
        let installation = try Installation()
        try installation.initialise()
        try installation.serve()
        let agent = try ScriptedAgent(installation, host: "far")
        let road = try Road(to: installation.port, latency: 0.15)
        defer { road.close() }
        agent.port = road.port
        try agent.begin()
        let size = 16 << 20
        let files = (0..<8).map { ScriptedAgent.file("f\($0)", size) }
        let wanted = try agent.listWithMarker(files)
        #expect(wanted.count == files.count)
        let content = randomBytes(size)
        let start = Time.monotonic()
        for file in files { try agent.send(file, content) }
        _ = try agent.commit()
        agent.channel.close(seconds: 1)
        // The answer to the commit takes a round by itself.
        let seconds = Double(Time.monotonic() - start) / 1e9 - 0.3
        let rate = Double(size * files.count) / seconds
        let most = Double(8 << 20) / 0.3
        print("300 ms: \(Int(rate / 1e6)) MB/s, \(Int(rate / most * 100)) % of what a window of 8 MiB allows")
    }

    /// The root's own network, a switch and a machine behind it, each in a network namespace.
    private final class Network {
        let vm = "hf-vm-\(randomHex(2))"
        let road = "hf-road-\(randomHex(2))"
        let link = "hf\(randomHex(3))"

        init() throws {
            for command in [
                "netns add \(vm)", "netns add \(road)",
                "link add \(link) type veth peer name p1 netns \(road)",
                "-n \(road) link add p2 type veth peer name eth0 netns \(vm)",
                "-n \(road) link add sw type bridge", "-n \(road) link set p1 master sw",
                "-n \(road) link set p2 master sw", "-n \(road) link set sw up", "-n \(road) link set p1 up",
                "-n \(road) link set p2 up", "addr add 10.79.83.1/24 dev \(link)", "link set \(link) up",
                "-n \(vm) addr add 10.79.83.2/24 dev eth0", "-n \(vm) link set eth0 up",
                "-n \(vm) link set lo up",
            ] { try ip(command) }
        }
        deinit {
            for command in ["netns del \(vm)", "netns del \(road)", "link del \(link)"] { try? ip(command) }
        }

        func ip(_ command: String) throws {
            let outcome = try Outcome.of(["ip"] + command.split(separator: " ").map(String.init))
            guard outcome.status == 0 else { throw Unexpected(outcome) }
        }

        /// From now on packets are lost, and both machines have their links.
        func cut() throws { try ip("-n \(road) link set p2 nomaster") }
    }

    @Test(
        .enabled(if: geteuid() == 0, "network namespaces need root"),
        .enabled(if: isLong, "it takes a minute: deploy/test --long")
    )
    func `both ends notice within a minute that the other is unreachable`() throws {
        let network = try Network()
        let sample = try Self.sample.get()
        let installation = try Installation(extra: "", address: "10.79.83.1")
        try installation.initialise()
        try installation.serve()
        let agent = try AgentProcess(sample, within: ["nsenter", "--net=/run/netns/\(network.vm)"])
        let joined = try agent.command(
            "join",
            "10.79.83.1:\(installation.port)",
            installation.addHost("lisbon")
        )
        try #require(joined.status == 0, "\(joined)")
        try agent.run()
        _ = try eventually("the agent is connected") { agent.log.contains("waiting for work") ? true : nil }
        let sessions = installation.sessions()
        #expect(sessions.count == 1)
        let start = Time.monotonic()
        try network.cut()
        var noticed: (agent: Double?, coordinator: Double?) = (nil, nil)
        while noticed.agent == nil || noticed.coordinator == nil, Time.monotonic() - start < 90_000_000_000 {
            let now = Double(Time.monotonic() - start) / 1e9
            if noticed.agent == nil && agent.log.contains("trying again") { noticed.agent = now }
            if noticed.coordinator == nil && installation.sessions().isEmpty { noticed.coordinator = now }
            Time.sleep(seconds: 0.2)
        }
        print(
            "half-open: noticed by the agent after \(noticed.agent ?? -1) s, by the coordinator after \(noticed.coordinator ?? -1) s"
        )
        #expect(noticed.agent ?? 99 < 60)
        #expect(noticed.coordinator ?? 99 < 60)
    }
}
