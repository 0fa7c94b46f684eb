import Glibc
import JSON
import Posix
import TestSupport
import Testing

/// A call on the repository fails, each that a backup makes: the run fails with a word and an exit status that says
/// why, `status` shows it, nothing is lost, and the next backup goes on by itself.
@Suite("Failing calls", .serialized)
struct FailingCallTests {
    /// What is made to fail, and what is said then.
    struct Fault: Sendable, CustomTestStringConvertible {
        let name: String
        let code: Int32
        let kinds: [FaultLayer.Kind]
        var lasting = false
        let status: Int32
        let failure: String
        let words: [String]
        var testDescription: String { name }
    }

    private static let names: [FaultLayer.Kind] = [.create, .write, .mkdir, .rename]

    static let faults = [
        Fault(
            name: "a full disk, once",
            code: ENOSPC,
            kinds: names,
            status: 23,
            failure: "space",
            words: ["No space left on device", "free some space", "goes on from here"]
        ),
        Fault(
            name: "a full disk in the middle of a write",
            code: ENOSPC,
            kinds: names,
            lasting: true,
            status: 23,
            failure: "space",
            words: ["No space left on device", "free some space"]
        ),
        Fault(
            name: "a used up quota",
            code: EDQUOT,
            kinds: [.write],
            lasting: true,
            status: 23,
            failure: "space",
            words: ["Disk quota exceeded", "quota"]
        ),
        Fault(
            name: "a failed sync",
            code: EIO,
            kinds: [.sync],
            status: 1,
            failure: "storage",
            words: ["Input/output error", "dmesg", "check HOST --read-data"]
        ),
        Fault(
            name: "a disk that becomes read-only",
            code: EROFS,
            kinds: names + [.unlink],
            lasting: true,
            status: 1,
            failure: "storage",
            words: ["Read-only file system", "dmesg"]
        ),
        Fault(
            name: "no more descriptors",
            code: EMFILE,
            kinds: [.create, .open],
            status: 1,
            failure: "storage",
            words: ["Too many open files", "LimitNOFILE"]
        ),
    ]

    @Test(arguments: faults)
    func `each fails the run with a word, and the next is whole`(fault: Fault) throws {
        let rig = try FaultRig()
        try rig.agent.run(environment: rig.layer.environment)
        defer { rig.agent.stop(SIGKILL) }
        try rig.backup()
        let steps = try rig.record(.init(.session, fault.kinds))
        let chosen = rig.random.share(of: steps, least: 2)
        var hits = 0
        var harmless: [String] = []
        for step in chosen {
            var order = FaultLayer.Order(.session, fault.kinds, .fail(fault.code), at: step.number)
            order.allLater = fault.lasting
            order.short = fault.lasting
            let what = "\(fault.name) at \(step)"
            guard let outcome = try rig.strike(order) else { continue }
            hits += 1
            let host = try rig.settled()
            if outcome.status == 0 {
                // Something that no backup depends on, such as its lock's removal.
                harmless.append(step.description)
                #expect(host["state"]?.string == "ok", "\(what): \(host.text())")
            } else {
                #expect(outcome.status == fault.status, "\(what): \(outcome)")
                #expect(outcome.json?["failure"]?.string == fault.failure, "\(what): \(outcome)")
                #expect(host["state"]?.string == "failed", "\(what): \(host.text())")
                for word in fault.words {
                    #expect(outcome.error.contains(word), "\(what): \(outcome)")
                    #expect(host["trouble"]?.string?.contains(word) == true, "\(what): \(host.text())")
                }
                #expect(outcome.error.contains(rig.installation.folder), "\(what) names no file: \(outcome)")
            }
            try rig.verify(what, readEvery: 4)
        }
        print(
            "\(fault.name): \(chosen.count) of \(steps.count) calls, \(hits) failed; without harm: \(harmless)"
        )
        #expect(hits > 0)
        try rig.conclude(fault.name)
    }
}

/// The catalogue's server goes away or has no room.
@Suite("The catalogue is away", .serialized)
struct CatalogueAwayTests {
    @Test func `killed at any commit of a run it costs that run, and is started again`() throws {
        let rig = try FaultRig()
        try rig.agent.run(environment: rig.layer.environment)
        defer { rig.agent.stop(SIGKILL) }
        try rig.backup()
        let steps = try rig.record(.init(.session, [.commit]))
        let moments = steps.flatMap { step in [false, true].map { (step: step, after: $0) } }
        let chosen = rig.random.share(of: moments, least: 3)
        var ends: [String: Int] = [:]
        for moment in chosen {
            var order = FaultLayer.Order(.session, [.commit], .killOther, at: moment.step.number)
            order.after = moment.after
            order.victim = rig.installation.postmaster
            let what = "the catalogue's server killed \(moment.after ? "after" : "before") \(moment.step)"
            guard let outcome = try rig.strike(order) else { continue }
            let host = try rig.settled()
            let state = host["run"]?["state"]?.string ?? "?"
            ends["\(state) \(outcome.status)", default: 0] += 1
            if outcome.status == 0 {
                #expect(state == "done", "\(what): \(host.text())")
            } else {
                #expect(host["state"]?.string != "ok" || state == "done", "\(what): \(host.text())")
                // Who notices first says so: the session, `backup` itself, or, when both are cut off, the next who looks.
                #expect(
                    outcome.json?["failure"]?.string == "catalogue" || state == "interrupted"
                        || outcome.status == 22,
                    "\(what): \(outcome)"
                )
            }
            try rig.verify(what, readEvery: 4)
        }
        print("\(chosen.count) of \(moments.count) moments; runs ended \(ends)")
        #expect(!ends.isEmpty)
        try rig.conclude("the catalogue's server killed")
    }

    @Test func `killed while nobody works it is there again for the next backup`() throws {
        let rig = try FaultRig()
        try rig.agent.run(environment: rig.layer.environment)
        defer { rig.agent.stop(SIGKILL) }
        for _ in 0..<2 {
            kill(rig.installation.postmaster, SIGKILL)
            try rig.verify("the catalogue's server killed before a run")
        }
    }

    @Test func `cut off from it at a commit, a session says so and publishes nothing by halves`() throws {
        let rig = try FaultRig()
        try rig.backup()
        let steps = try rig.record(.init(.session, [.commit]))
        let moments = steps.flatMap { step in [false, true].map { (step: step, after: $0) } }
        let chosen = rig.random.share(of: moments, least: 2)
        var hits = 0
        for moment in chosen {
            // The code does not matter: the connection is shut.
            var order = FaultLayer.Order(.session, [.commit], .fail(EPIPE), at: moment.step.number)
            order.after = moment.after
            if try rig.strike(order) != nil { hits += 1 }
            try rig.verify("cut off \(moment.after ? "after" : "before") \(moment.step)", readEvery: 4)
        }
        print("cut off from the catalogue at \(chosen.count) of \(moments.count) commits, \(hits) hit")
        #expect(hits > 0)
        try rig.conclude("cut off from the catalogue")
    }

    @Test(.enabled(if: geteuid() == 0, "mounting a small file system needs root"))
    func `a full disk below it fails the backup with a word, and the next is whole`() throws {
        var disk = ""
        defer { _ = try? Outcome.of(["umount", "-l", disk]) }
        let rig = try FaultRig { folder in
            disk = folder + "/state"
            try mount(disk, "size=160m,mode=711")
        }
        try rig.agent.run(environment: rig.layer.environment)
        defer { rig.agent.stop(SIGKILL) }
        try rig.backup()
        // First what the catalogue has room for already, then the disk.
        _ = try? rig.installation.sql(
            "CREATE TABLE eater AS SELECT repeat('x', 100) FROM generate_series(1, 2000000)"
        )
        let filler = try Outcome.of(["dd", "if=/dev/zero", "of=\(disk)/filler", "bs=64k"])
        #expect(filler.status != 0)
        // Then the segments that the server keeps for its log.
        var megabytes = 0
        while megabytes < 400,
            (try? rig.installation.sql(
                "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 4000000))"
            )) != nil
        { megabytes += 4 }
        var failures = 0
        var last = ""
        for _ in 0..<6 {
            try rig.change()
            let outcome = try rig.run()
            if outcome.status == 0 { continue }
            failures += 1
            #expect(outcome.status == 22, "\(outcome)")
            last = outcome.error
        }
        print("a catalogue without room after \(megabytes) MB of log: \(failures) of 6 backups failed")
        #expect(last.contains("free some space"), "\(last)")
        try Files.remove(disk + "/filler")
        try rig.verify("after the catalogue had no room")
        try rig.conclude("a catalogue without room")
    }
}

/// The real thing, without the layer.
@Suite("Starved", .serialized)
struct StarvedTests {
    private func starve(
        _ options: String,
        photos: Int,
        _ words: [String],
        status: Int32,
        starve: (String) throws -> Void = { _ in },
        feed: (String) throws -> Void
    ) throws {
        var disk = ""
        defer { _ = try? Outcome.of(["umount", "-l", disk]) }
        let rig = try FaultRig { folder in
            disk = folder + "/repositories"
            try mount(disk, options)
        }
        try rig.agent.run(environment: rig.layer.environment)
        defer { rig.agent.stop(SIGKILL) }
        try rig.backup()
        try starve(disk)
        try rig.change(photos: photos, size: 500_000)
        for _ in 0..<2 {
            let outcome = try rig.run()
            #expect(outcome.status == status, "\(outcome)")
            for word in words { #expect(outcome.error.contains(word), "\(outcome)") }
            #expect(try rig.settled()["state"]?.string == "failed")
        }
        try feed(disk)
        try rig.verify("starved by \(options)")
        try rig.conclude("starved by \(options)")
    }

    private func remount(_ disk: String, _ options: String) throws {
        // Busy for as long as a session that is ending has a file open for writing.
        _ = try eventually("\(disk) is mounted anew") {
            try Outcome.of(["mount", "-o", "remount,\(options)", disk]).status == 0 ? true : nil
        }
    }

    @Test(.enabled(if: geteuid() == 0, "mounting a small file system needs root"))
    func `a full disk is named, and the next backup goes on once there is space`() throws {
        try starve("size=12m", photos: 40, ["No space left", "free some space"], status: 23) {
            try remount($0, "size=300m")
        }
    }

    @Test(.enabled(if: geteuid() == 0, "mounting a small file system needs root"))
    func `no inodes are named, and the next backup goes on once there are some`() throws {
        try starve(
            "nr_inodes=400",
            photos: 2,
            ["No space left", "inodes"],
            status: 23,
            starve: { disk in
                for number in 0..<400 {
                    guard
                        (try? Files.writeAtomically([], to: "\(disk)/filler-\(number)")) != nil
                    else { break }
                }
            },
            feed: { try remount($0, "nr_inodes=4000") }
        )
    }

    @Test(.enabled(if: geteuid() == 0, "mounting a small file system needs root"))
    func `a read-only disk is named, and the next backup goes on once it can be written`() throws {
        try starve(
            "size=100m",
            photos: 2,
            ["Read-only file system", "mount"],
            status: 1,
            starve: { try remount($0, "ro") },
            feed: { try remount($0, "rw") }
        )
    }

    @Test func `between backups a session keeps no file of the repository open`() throws {
        let rig = try FaultRig()
        try rig.agent.run(environment: rig.layer.environment)
        defer { rig.agent.stop(SIGKILL) }
        for _ in 0..<3 { try rig.backup() }
        let session = try #require(rig.installation.sessions().first)
        let repository = Array(rig.installation.repository("lisbon").utf8)
        _ = try eventually("the session has closed its files") { () -> Bool? in
            let files = try FileDescriptor(open: "/proc/\(session)/fd", O_RDONLY | O_DIRECTORY)
            let open = try Directory.names("/proc/\(session)/fd").compactMap {
                try? Files.linkTarget(at: files.raw, $0)
            }
            return open.contains { $0.starts(with: repository) } ? nil : true
        }
    }

    @Test func `few descriptors end in a word or a backup, and with enough the next is whole`() throws {
        let rig = try FaultRig()
        try rig.backup()
        var ends: [String] = []
        for limit in isLong
            ? Array(4...30) + Array(stride(from: 34, through: 80, by: 2)) : [6, 9, 12, 15, 18, 30, 60, 64]
        {
            rig.installation.stop()
            try rig.change()
            let before = rig.installation.serveLog.utf8.count
            func isSaid(_ more: String = "") -> Bool {
                let said =
                    more + String(decoding: rig.installation.serveLog.utf8.dropFirst(before), as: UTF8.self)
                return said.contains("Too many open files") || said.contains("insufficient file descriptors")
            }
            do {
                try rig.installation.serve(wrapper: ["prlimit", "--nofile=\(limit)"], seconds: 3)
            } catch {
                #expect(isSaid(), "\(limit): \(rig.installation.serveLog)")
                ends.append("\(limit): no service")
                continue
            }
            let outcome = try rig.run()
            ends.append("\(limit): \(outcome.status)")
            #expect(
                outcome.status == 0 || isSaid(outcome.error),
                "\(limit): \(outcome) \(rig.installation.serveLog)"
            )
        }
        print("descriptors and exit status of a backup: \(ends.joined(separator: ", "))")
        rig.installation.stop()
        try rig.installation.serve(environment: rig.serveEnvironment)
        try rig.verify("with few descriptors")
        try rig.conclude("with few descriptors")
    }
}

/// Mounts a tmpfs on a new folder.
private func mount(_ folder: String, _ options: String) throws {
    try Files.makeDirectories(folder, mode: 0o711)
    let mounted = try Outcome.of(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder])
    guard mounted.status == 0 else { throw Unexpected(mounted) }
}
