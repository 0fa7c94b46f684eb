import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

/// The commands of retention are killed at every step that the recording layer knows. After each kill every snapshot is
/// in exactly one place, a stock restic finds nothing to complain about, and the next command brings the catalogue in
/// line.
@Suite("Retention killed at a durable step", .serialized)
struct ForgetKillTests {
    /// A host of three snapshots, of which retention keeps the newest.
    private final class Killing {
        let rig: RetentionRig
        /// The newest first.
        let ids: [BlobID]
        let bytes: [BlobID: [UInt8]]
        var random: SplitMix
        let seed: UInt64

        init() throws {
            rig = try RetentionRig(retention: "{ full: { last: 1 } }")
            let (rig, count) = (rig, 3)
            ids = try (0..<count).map { try rig.add(Double($0) + 1) }
            try rig.rebuild()
            bytes = try Dictionary(
                uniqueKeysWithValues: ids.map {
                    ($0, try Files.read(rig.repository.filePath(.snapshots, $0)))
                }
            )
            seed =
                environmentVariables()["HOLDFAST_SEED"].flatMap { UInt64($0) }
                ?? randomBytes(4).reduce(0) { $0 << 8 | UInt64($1) }
            random = SplitMix(seed)
        }

        func command(_ arguments: [String], faulty: Bool = false) throws -> Outcome {
            try Outcome.of(
                [Programs.coordinator, "--config", rig.installation.configuration] + arguments,
                environment: faulty ? rig.layer.environment : [:]
            )
        }

        /// The server may need a moment to see that the one before was killed.
        func succeed(_ arguments: String...) throws {
            _ = try eventually("\(arguments)") { () -> Bool? in
                let outcome = try command(arguments)
                if outcome.status == 11 { return nil }
                guard outcome.status == 0 else { throw Unexpected(outcome) }
                return true
            }
        }

        /// Each snapshot's file lies in one folder with the bytes that it ever had, and the newest is there.
        func verifyPlaces(_ what: String) throws {
            let (present, forgotten) = (try rig.files(.snapshots), try rig.files(.forgotten))
            #expect(present.isDisjoint(with: forgotten), "\(what): in two places")
            #expect(present.union(forgotten) == Set(ids), "\(what): a snapshot is gone")
            #expect(present.contains(ids[0]), "\(what): the newest went")
            for id in ids {
                let folder = present.contains(id) ? Repository.Folder.snapshots : .forgotten
                #expect(try Files.read(rig.repository.filePath(folder, id)) == bytes[id], "\(what)")
            }
            // None is forgotten since nobody knows when.
            for id in forgotten {
                let record = try rig.repository.readSealed("forgotten/\(id).when")
                #expect(record != nil, "\(what): \(id.short) lacks its record")
            }
            let check = try Restic(rig.repository.path, password: rig.password)
                .attempt(["check", "--read-data", "--no-lock"])
            #expect(check.exit == .exit(0), "\(what): \(check.text)")
        }

        /// The rows say what the files say.
        func verifyRows(_ what: String) throws {
            var expected: [String: String] = [:]
            for id in try rig.files(.snapshots) { expected[id.hex] = "present" }
            for id in try rig.files(.forgotten) { expected[id.hex] = "forgotten" }
            #expect(try rig.states() == expected, "\(what)")
            let pins = try rig.repository.pins().map { "\($0.snapshot.hex) \($0.why)\n" }.joined()
            #expect(
                try rig.installation.sql("SELECT snapshot || ' ' || why FROM pins ORDER BY 1") == pins,
                "\(what)"
            )
            // Whoever looks ends what a killed process left open.
            _ = try command(["status"])
            let running = try rig.installation.sql("SELECT count(*) FROM runs WHERE state = 'running'")
            #expect(running == "0\n", "\(what)")
        }

        /// Kills `arguments` before and after its durable steps.
        ///
        /// - Parameters:
        ///   - prepare: Makes what was before the command so again.
        ///   - repeated: The command again brings to its end what was cut off.
        func killAtSteps(
            _ name: String,
            _ arguments: [String],
            prepare: () throws -> Void,
            afterwards: (String) throws -> Void
        ) throws {
            var order = FaultLayer.Order(.command, FaultLayer.Kind.durable)
            try prepare()
            try rig.layer.set(order)
            let whole = try command(arguments, faulty: true)
            #expect(whole.status == 0, "\(whole)")
            let steps = try rig.layer.steps()
            try rig.layer.clear()
            let moments = steps.flatMap { [(step: $0, after: false), (step: $0, after: true)] }
            let chosen = random.share(of: moments, least: 4)
            var hits = 0
            for moment in chosen {
                try prepare()
                order.action = .kill
                order.at = moment.step.number
                order.after = moment.after
                try rig.layer.set(order)
                let outcome = try command(arguments, faulty: true)
                if rig.layer.fired != nil { hits += 1 }
                try rig.layer.clear()
                let what = "\(name) killed \(moment.after ? "after" : "before") \(moment.step), seed \(seed)"
                #expect(outcome.status == 0 || outcome.status == 128 + SIGKILL, "\(what): \(outcome)")
                try verifyPlaces(what)
                try afterwards(what)
                try verifyPlaces(what)
                try verifyRows(what)
            }
            print(
                "\(name): \(steps.count) durable steps, \(chosen.count) of \(moments.count) kills tried, \(hits) hit"
            )
            #expect(hits >= chosen.count / 2)
            for version in Restic.versions {
                let check = try version.on(rig.repository.path, password: rig.password)
                    .attempt(["check", "--read-data"])
                #expect(check.exit == .exit(0), "\(name), \(version.name): \(check.text)")
            }
        }
    }

    @Test func `forget killed at every step leaves each snapshot in one place, and the next one ends it`()
        throws
    {
        let killing = try Killing()
        try killing.killAtSteps("forget", ["forget", "lisbon"]) {
            for id in try killing.rig.files(.forgotten) { try killing.succeed("snapshot", "recall", id.hex) }
            #expect(try killing.rig.files(.snapshots).count == 3)
        } afterwards: { what in
            try killing.succeed("forget", "lisbon")
            #expect(try killing.rig.files(.forgotten) == Set(killing.ids[1...]), "\(what)")
        }
    }

    @Test func `recall killed at every step leaves the snapshot in one place, and doing it again ends it`()
        throws
    {
        let killing = try Killing()
        let id = killing.ids[1]
        try killing.killAtSteps("recall", ["snapshot", "recall", id.hex]) {
            try killing.succeed("forget", "lisbon")
            #expect(try killing.rig.files(.forgotten).contains(id))
        } afterwards: { what in
            try killing.succeed("snapshot", "recall", id.hex)
            #expect(try killing.rig.files(.snapshots).contains(id), "\(what)")
        }
    }

    @Test func `a disk that is full or fails at any step of forget costs nothing, and is told`() throws {
        let killing = try Killing()
        let rig = killing.rig
        func prepare() throws {
            for id in try rig.files(.forgotten) { try killing.succeed("snapshot", "recall", id.hex) }
        }
        var order = FaultLayer.Order(.command, FaultLayer.Kind.durable)
        try rig.layer.set(order)
        _ = try killing.command(["forget", "lisbon"], faulty: true)
        let steps = try rig.layer.steps()
        try rig.layer.clear()
        var told = 0
        let chosen = killing.random.share(of: steps, least: 6)
        for step in chosen {
            try prepare()
            // For a commit it is the connection that breaks.
            let code = killing.random.below(2) == 0 ? ENOSPC : EIO
            order.action = .fail(code)
            order.at = step.number
            order.allLater = killing.random.below(2) == 0
            try rig.layer.set(order)
            let outcome = try killing.command(["forget", "lisbon"], faulty: true)
            try rig.layer.clear()
            let what = "forget failed with \(code) at \(step), seed \(killing.seed)"
            #expect(outcome.status < 128, "\(what): \(outcome)")
            if outcome.status != 0 {
                told += 1
                #expect(outcome.error.contains("holdfast-coordinator: "), "\(what): \(outcome)")
            }
            try killing.verifyPlaces(what)
            try killing.succeed("forget", "lisbon")
            try killing.verifyPlaces(what)
            try killing.verifyRows(what)
            #expect(try rig.files(.forgotten) == Set(killing.ids[1...]), "\(what)")
        }
        print("forget: failures at \(chosen.count) of \(steps.count) durable steps, \(told) told")
        #expect(told > 0)
    }

    @Test func `pin and unpin killed at every step end as they were meant, and forget agrees`() throws {
        let killing = try Killing()
        let id = killing.ids[2]
        try killing.killAtSteps("pin", ["snapshot", "pin", id.hex, "--why", "the wedding"]) {
            for id in try killing.rig.files(.forgotten) { try killing.succeed("snapshot", "recall", id.hex) }
            _ = try killing.command(["snapshot", "unpin", id.hex])
        } afterwards: { what in
            let isPinned = try !killing.rig.repository.pins().isEmpty
            try killing.succeed("forget", "lisbon")
            #expect(try killing.rig.files(.forgotten).contains(id) != isPinned, "\(what)")
        }
        for id in try killing.rig.files(.forgotten) { try killing.succeed("snapshot", "recall", id.hex) }
        try killing.killAtSteps("unpin", ["snapshot", "unpin", id.hex]) {
            for id in try killing.rig.files(.forgotten) { try killing.succeed("snapshot", "recall", id.hex) }
            try killing.succeed("snapshot", "pin", id.hex, "--why", "the wedding")
        } afterwards: { what in
            let isPinned = try !killing.rig.repository.pins().isEmpty
            try killing.succeed("forget", "lisbon")
            #expect(try killing.rig.files(.forgotten).contains(id) != isPinned, "\(what)")
        }
    }
}
