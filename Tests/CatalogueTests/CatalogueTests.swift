import Catalogue
import Glibc
import Posix
import Postgres
import TestSupport
import Testing

/// An empty catalogue and its address.
func newCatalogue() throws -> (catalogue: Catalogue, address: String) {
    let address = try PostgresServer.shared.get().newDatabase()
    return (try Catalogue(address: address), address)
}

/// What `body` says when it fails, or that it did not.
func refusal(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
}

@Suite struct MigrationTests {
    private static let one = "CREATE TABLE a (n int)"
    private static let two = "CREATE TABLE b (n int); INSERT INTO b VALUES (1)"

    @Test func `steps are applied once and in order`() throws {
        let address = try PostgresServer.shared.get().newDatabase()
        for steps in [[Self.one], [Self.one], [Self.one, Self.two], [Self.one, Self.two]] {
            let opened = try Catalogue(address: address, applicationName: "test", migrations: steps)
            let rows = try opened.connection.query("SELECT number FROM migrations ORDER BY number")
            #expect(try rows.map { try $0.int("number") } == Array(1...steps.count))
        }
    }

    @Test func `a catalogue newer than the program is refused and left alone`() throws {
        let address = try PostgresServer.shared.get().newDatabase()
        try Catalogue(address: address, applicationName: "test", migrations: [Self.one, Self.two]).close()
        let text = refusal {
            _ = try Catalogue(address: address, applicationName: "test", migrations: [Self.one])
        }
        #expect(text.contains("newer Holdfast (schema 2, this program knows 1)"))
    }

    @Test func `a step that was changed after it was applied is refused`() throws {
        let address = try PostgresServer.shared.get().newDatabase()
        try Catalogue(address: address, applicationName: "test", migrations: [Self.one]).close()
        let text = refusal {
            _ = try Catalogue(
                address: address,
                applicationName: "test",
                migrations: [Self.one + " ", Self.two]
            )
        }
        #expect(text.contains("migration 1"))
    }

    @Test func `a step that fails leaves the ones before it, and the next try goes on from there`() throws {
        let address = try PostgresServer.shared.get().newDatabase()
        #expect(throws: PostgresError.self) {
            try Catalogue(
                address: address,
                applicationName: "test",
                migrations: [Self.one, "CREATE TABLE b (n int); SELECT 1/0"]
            )
        }
        let opened = try Catalogue(
            address: address,
            applicationName: "test",
            migrations: [Self.one, Self.two]
        )
        #expect(try opened.connection.query("SELECT n FROM b").count == 1)
    }

    @Test func `many that open an empty database at once make one schema`() throws {
        let address = try PostgresServer.shared.get().newDatabase()
        try inParallel(8) { _ in try Catalogue(address: address).close() }
        let opened = try Catalogue(address: address)
        #expect(try opened.connection.query("SELECT number FROM migrations").count >= 1)
    }

    @Test func `opening is quick`() throws {
        let (catalogue, address) = try newCatalogue()
        catalogue.close()
        let begin = Time.monotonic()
        for _ in 0..<50 { try Catalogue(address: address).close() }
        let each = Double(Time.monotonic() - begin) / 50e6
        print("opening the catalogue: \(each) ms")
        #expect(each < 100)
    }
}

@Suite struct HostAndKeyTests {
    @Test func `hosts are added, listed, found and removed`() throws {
        let (catalogue, _) = try newCatalogue()
        let porto = try catalogue.addHost("porto")
        let lisbon = try catalogue.addHost("lisbon")
        #expect(try catalogue.hosts() == [lisbon, porto])
        #expect(try catalogue.host(named: "porto") == porto)
        #expect(try catalogue.host(id: lisbon.id) == lisbon)
        #expect(refusal { _ = try catalogue.addHost("porto") }.contains("is there already"))
        #expect(refusal { _ = try catalogue.addHost("../etc") }.contains("a host's name is made of"))
        try catalogue.removeHost("porto")
        #expect(try catalogue.hosts() == [lisbon])
        #expect(try catalogue.hosts(removedToo: true).count == 2)
        #expect(refusal { _ = try catalogue.host(named: "porto") }.contains("there is no host porto"))
    }

    @Test func `a host that comes back keeps its id and its epoch`() throws {
        let (catalogue, address) = try newCatalogue()
        let before = try catalogue.addHost("porto")
        let lease = try HostLease(before, .capture, server: address)
        lease.release()
        try catalogue.removeHost("porto")
        let after = try catalogue.addHost("porto")
        #expect(after.id == before.id)
        #expect(after.epoch == 1)
        #expect(after.removed == nil)
    }

    @Test func `a token brings one key to its host`() throws {
        let (catalogue, _) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        let token = try catalogue.makeToken(for: host)
        #expect(try catalogue.join(token: token, publicKey: [1, 2, 3], fingerprint: "SHA256:a") == host)
        #expect(try catalogue.host(keyFingerprint: "SHA256:a") == host)
        #expect(try catalogue.host(keyFingerprint: "SHA256:b") == nil)
        let keys = try catalogue.keys(of: host)
        #expect(keys.map(\.publicKey) == [[1, 2, 3]])
        #expect(
            refusal { _ = try catalogue.join(token: token, publicKey: [4], fingerprint: "SHA256:b") }
                == "the token was used already: `host token porto` on the coordinator makes a new one"
        )
        // The same agent asks again because it never got the answer.
        #expect(try catalogue.join(token: token, publicKey: [1, 2, 3], fingerprint: "SHA256:a") == host)
    }

    @Test func `a token is unknown, expired, or replaced by a newer one`() throws {
        let (catalogue, _) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        #expect(
            refusal { _ = try catalogue.join(token: [1, 2], publicKey: [1], fingerprint: "a") }
                .contains("the token is unknown")
        )
        let old = try catalogue.makeToken(for: host, lifetime: 1_000_000_000)
        let late = Time.now() + 2_000_000_000
        #expect(
            refusal { _ = try catalogue.join(token: old, publicKey: [1], fingerprint: "a", now: late) }
                .contains("the token has expired")
        )
        let new = try catalogue.makeToken(for: host)
        #expect(
            refusal { _ = try catalogue.join(token: old, publicKey: [1], fingerprint: "a") }
                .contains("the token is unknown")
        )
        #expect(try catalogue.join(token: new, publicKey: [1], fingerprint: "a").name == "porto")
        try catalogue.removeHost("porto")
        #expect(try catalogue.host(keyFingerprint: "a") == nil)
    }

    @Test func `a replaced machine's old key counts no more`() throws {
        let (catalogue, _) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        _ = try catalogue.join(token: catalogue.makeToken(for: host), publicKey: [1], fingerprint: "a")
        _ = try catalogue.join(token: catalogue.makeToken(for: host), publicKey: [2], fingerprint: "b")
        #expect(try catalogue.host(keyFingerprint: "a") == nil)
        #expect(try catalogue.host(keyFingerprint: "b") == host)
        #expect(try catalogue.revokeKey(fingerprint: "b"))
        #expect(try !catalogue.revokeKey(fingerprint: "b"))
        #expect(try catalogue.host(keyFingerprint: "b") == nil)
        _ = try catalogue.join(token: catalogue.makeToken(for: host), publicKey: [2], fingerprint: "b")
        #expect(try catalogue.host(keyFingerprint: "b") == host)
    }

    @Test func `a key in use for one host cannot join another, and the token stays good`() throws {
        let (catalogue, _) = try newCatalogue()
        let porto = try catalogue.addHost("porto")
        let lisbon = try catalogue.addHost("lisbon")
        _ = try catalogue.join(token: catalogue.makeToken(for: porto), publicKey: [1], fingerprint: "a")
        _ = try catalogue.join(token: catalogue.makeToken(for: lisbon), publicKey: [3], fingerprint: "c")
        let token = try catalogue.makeToken(for: lisbon)
        #expect(
            refusal { _ = try catalogue.join(token: token, publicKey: [1], fingerprint: "a") }
                .contains("belongs to the host porto already")
        )
        #expect(try catalogue.host(keyFingerprint: "c") == lisbon)
        #expect(try catalogue.join(token: token, publicKey: [2], fingerprint: "b") == lisbon)
    }

    @Test func `of many that use one token at once, one succeeds`() throws {
        let (catalogue, address) = try newCatalogue()
        let host = try catalogue.addHost("porto")
        for round in 0..<5 {
            let token = try catalogue.makeToken(for: host)
            let answers = Answers()
            try inParallel(6) { index in
                let own = try Catalogue(address: address)
                answers.add(
                    refusal {
                        _ = try own.join(token: token, publicKey: [1], fingerprint: "key \(round) \(index)")
                    }
                )
            }
            #expect(answers.all.count(where: { $0 == "no error" }) == 1)
            #expect(answers.all.count(where: { $0.hasPrefix("the token was used already") }) == 5)
            #expect(try catalogue.keys(of: host).count(where: { $0.revoked == nil }) == 1)
        }
    }

    @Test func `secrets of tokens are not kept`() throws {
        let (catalogue, _) = try newCatalogue()
        let token = try catalogue.makeToken(for: catalogue.addHost("porto"))
        #expect(try catalogue.connection.query("SELECT FROM join_tokens WHERE sha256 = $1", [token]).isEmpty)
        #expect(token.count == 16)
    }
}

/// Runs `body` on several threads at once and rethrows the first error.
func inParallel(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
    let errors = Answers()
    let running = Answers()
    for index in 0..<count {
        let thread = try Thread("parallel") {
            defer { running.add("done") }
            do { try body(index) } catch { errors.add("\(error)") }
        }
        thread.detach()
    }
    while running.all.count < count { Time.sleep(seconds: 0.005) }
    struct Failed: Error { let first: String }
    if let first = errors.all.first { throw Failed(first: first) }
}
