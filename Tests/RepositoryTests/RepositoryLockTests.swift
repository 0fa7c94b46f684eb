import Glibc
import Posix
import Testing

import Repository

@Suite("Lock files")
struct RepositoryLockTests {
    private func lockFile(_ repository: Repository, _ json: String) throws -> BlobID {
        try repository.write(Array(json.utf8), to: .locks)
    }

    @Test func `shared locks go together, an exclusive one goes alone`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let first = try RepositoryLock(repository, exclusive: false, owner: "one")
        let second = try RepositoryLock(repository, exclusive: false, owner: "two")
        #expect {
            try RepositoryLock(repository, exclusive: true, owner: "three")
        } throws: { "\($0)".contains("holdfast:one") && "\($0)".contains("is locked by process \(getpid())") }
        #expect(try repository.locks().locks.map(\.owner) == ["one", "two"])
        first.release()
        second.release()
        let alone = try RepositoryLock(repository, exclusive: true, owner: "three")
        #expect(throws: RepositoryError.self) {
            try RepositoryLock(repository, exclusive: false, owner: "four")
        }
        #expect(try repository.locks().locks.map(\.exclusive) == [true])
        alone.release()
        #expect(try repository.list(.locks).isEmpty)
    }

    @Test func `of two who come at once, the one who looks again sees the other`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let lock = try RepositoryLock(repository, exclusive: false, owner: "one")
        let now = Time.rfc3339(Time.now())
        let other = try lockFile(
            repository,
            #"{"time":"\#(now)","exclusive":true,"hostname":"elsewhere","username":"root","pid":77}"#
        )
        #expect { try lock.confirm() } throws: { "\($0)".contains("elsewhere") }
        #expect(try repository.list(.locks) == [other])
    }

    @Test func `restic honours our locks, and we honour its`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let lock = try RepositoryLock(repository, exclusive: false, owner: "one")
        // check wants an exclusive lock.
        let refused = try restic(repository.path, password: "a", ["check"], succeeds: false)
        #expect(refused.contains("repository is already locked by PID \(getpid())"))
        #expect(refused.contains("holdfast:one"))
        try restic(repository.path, password: "a", ["snapshots"])
        // We live, so unlock leaves it.
        try restic(repository.path, password: "a", ["unlock"])
        #expect(try repository.list(.locks).count == 1)
        lock.release()
        try restic(repository.path, password: "a", ["check"])

        let now = Time.rfc3339(Time.now())
        _ = try lockFile(
            repository,
            #"{"time":"\#(now)","exclusive":true,"hostname":"elsewhere","username":"root","pid":77}"#
        )
        #expect {
            try RepositoryLock(repository, exclusive: false, owner: "two")
        } throws: { "\($0)".contains("elsewhere") && !"\($0)".contains("unlock") }
    }

    @Test func `dead locks of ours are removed and no others, and a stale foreign one says what to type`()
        throws
    {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let old = Time.rfc3339(Time.now() - 3600 * 1_000_000_000)
        func lock(_ user: String) throws -> BlobID {
            try lockFile(
                repository,
                #"{"time":"\#(old)","exclusive":true,"hostname":"nas","username":"\#(user)","pid":5}"#
            )
        }
        let dead = try lock("holdfast:dead")
        let alive = try lock("holdfast:alive")
        let foreign = try lock("root")
        let removed = try repository.removeDeadLocks { $0 == "alive" }
        #expect(removed.map(\.id) == [dead])
        #expect(try Set(repository.list(.locks)) == [alive, foreign])
        try repository.remove(.locks, alive)
        #expect {
            try RepositoryLock(repository, exclusive: false, owner: "x")
        } throws: { "\($0)".contains("stale") && "\($0)".contains(repository.unlockCommand) }
        let found = try #require(try repository.locks().locks.first)
        #expect(found.isStale() && found.owner == nil && found.exclusive && found.pid == 5)
        try restic(repository.path, password: "a", ["unlock"])
        try RepositoryLock(repository, exclusive: true, owner: "x").release()
    }

    @Test func `a refresh writes a new file, and a lock that was removed is noticed`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let lock = try RepositoryLock(repository, exclusive: false, owner: "one")
        let before = try repository.list(.locks)
        try lock.refreshIfDue()
        #expect(try repository.list(.locks) == before)
        try lock.refreshNow()
        let after = try repository.list(.locks)
        #expect(after.count == 1 && after != before)
        try repository.remove(.locks, after[0])
        #expect(throws: RepositoryError.lockLost(path: repository.path)) { try lock.refreshNow() }
        lock.release()
    }

    @Test func `an unreadable lock stops us and names itself, an empty one does not`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let empty = try BlobID.hash(of: [1])
        try Files.writeAtomically([], to: repository.filePath(.locks, empty))
        try RepositoryLock(repository, exclusive: true, owner: "one").release()
        let bad = try BlobID.hash(of: [2])
        try Files.writeAtomically([1, 2, 3], to: repository.filePath(.locks, bad))
        #expect {
            try RepositoryLock(repository, exclusive: false, owner: "one")
        } throws: {
            "\($0)".contains(bad.hex) && "\($0)".contains("restic -r \(repository.path) unlock --remove-all")
        }
        #expect(try repository.list(.locks).count == 2)
    }
}

@Suite("The folder holdfast")
struct RepositoryLockSideFileTests {
    @Test func `files are written whole, sealed ones open only under their own name`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        #expect(try repository.readSide("pins/a.json") == nil)
        try repository.writeSide("pins/a.json", [1, 2])
        #expect(try repository.readSide("pins/a.json") == [1, 2])
        for name in ["", "/x", "../config", "a/../../b", "a//b", "a b", "."] {
            #expect(throws: RepositoryError.self) { try repository.writeSide(name, []) }
        }
        #expect(try repository.readSealed("interrupted") == nil)
        let checkpoint = noise(300_000, seed: 3)
        try repository.writeSealed("interrupted", checkpoint)
        #expect(try repository.readSealed("interrupted") == checkpoint)
        try Files.rename(repository.sidePath("interrupted"), to: repository.sidePath("other"))
        #expect(throws: RepositoryError.self) { try repository.readSealed("other") }
        try repository.removeSide("other")
        try repository.removeSide("other")
        #expect(try repository.readSealed("other") == nil)
        let text = try restic(repository.path, password: "a", ["check"])
        #expect(text.contains("no errors were found"))
    }

    @Test func `the epoch never goes back, also with several writers`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        #expect(try repository.epoch() == 0)
        #expect(try repository.recordEpoch(7) == 7)
        #expect(try repository.recordEpoch(3) == 7)
        #expect(try repository.epoch() == 7)
        let other = try Thread("epochs") {
            for value in 100..<140 { try repository.recordEpoch(Int64(value)) }
        }
        for value in 10..<50 { try repository.recordEpoch(Int64(value)) }
        try other.join()
        #expect(try repository.epoch() == 139)
        try repository.writeSide("epoch", Array("x".utf8))
        #expect(throws: RepositoryError.self) { try repository.epoch() }
    }

    @Test func `the host's record comes back`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        #expect(try repository.hostRecord() == nil)
        let record = HostRecord(
            name: "söder",
            added: 1_700_000_000_123_456_789,
            removed: 1_700_000_001_000_000_000,
            keys: [.init(line: "ssh-ed25519 AAAA agent", added: 7), .init(line: "ssh-ed25519 BBBB")]
        )
        try repository.writeHostRecord(record)
        #expect(try repository.hostRecord() == record)
    }

    @Test func `what earlier versions kept in plain text is read`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        try repository.writeSide(
            "host.json",
            Array(#"{"name": "lisbon", "agent_keys": ["ssh-ed25519 AAAA"]}"#.utf8)
        )
        try repository.writeSide("epoch", Array("41\n".utf8))
        let record = HostRecord(name: "lisbon", keys: [.init(line: "ssh-ed25519 AAAA")])
        #expect(try repository.hostRecord() == record)
        #expect(try repository.epoch() == 41)
        try repository.writeHostRecord(record)
        try repository.recordEpoch(42)
        #expect(try repository.hostRecord() == record && repository.epoch() == 42)
        #expect(try repository.sideFiles() == ["epoch", "host"])
    }

    @Test func `pins and proofs come back, and one that was moved or changed does not count`() throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let ids = try (0..<3).map { try BlobID.hash(of: [$0]) }.sorted()
        let pins = ids.map {
            PinRecord(snapshot: $0, why: "the \"wedding\"\n", by: "söder", time: 1_234_567_890_123)
        }
        let proofs = ids.flatMap { id in
            ProofRecord.Level.allCases.map {
                ProofRecord(snapshot: id, level: $0, time: 99, figures: ["originals": 903, "bytes": 1 << 40])
            }
        }
        for pin in pins { try repository.writePin(pin) }
        for proof in proofs { try repository.writeProof(proof) }
        #expect(try repository.pins() == pins)
        #expect(
            try repository.proofs()
                == proofs.sorted { ($0.snapshot, $0.level.rawValue) < ($1.snapshot, $1.level.rawValue) }
        )
        // The same seal under another name.
        try repository.writeSide("pins/\(ids[0])", try #require(try repository.readSide("pins/\(ids[1])")))
        #expect(throws: RepositoryError.self) { try repository.pins() }
        var damaged: [RepositoryError] = []
        #expect(try repository.pins { damaged.append($0) } == Array(pins[1...]))
        #expect(damaged.count == 1 && "\(damaged)".contains("pins/\(ids[0])"))
    }
}
