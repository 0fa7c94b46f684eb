import Glibc
import Posix
import Postgres
import TestSupport
import Testing

/// A connection to an empty database.
private func connection(_ address: String? = nil) throws -> PostgresConnection {
    try PostgresConnection(address ?? PostgresServer.shared.get().newDatabase(), applicationName: "test")
}

@Suite struct PostgresConnectionTests {
    @Test func `values of every kind come back as they were sent`() throws {
        let connection = try connection()
        let bytes: [UInt8] = Array(0...255)
        let row = try connection.query(
            "SELECT $1::text AS t, $2::bigint AS n, $3::bytea AS b, $4::boolean AS yes, $5::text AS nothing, $6::int AS i",
            ["ä'; DROP TABLE x; -- \\ \"", Int64.min, bytes, true, nil, Int32.max]
        ).single()
        #expect(try row.string("t") == "ä'; DROP TABLE x; -- \\ \"")
        #expect(try row.int64("n") == Int64.min)
        #expect(try row.bytes("b") == bytes)
        #expect(try row.bool("yes"))
        #expect(try row.text("nothing") == nil)
        #expect(try row.optionalInt64("nothing") == nil)
        #expect(try row.int32("i") == Int32.max)
    }

    @Test func `a column that is missing, NULL or of another kind is an error`() throws {
        let row = try connection().query("SELECT NULL AS nothing, 'x' AS letter").single()
        #expect(throws: PostgresError.self) { try row.text("other") }
        #expect(throws: PostgresError.self) { try row.string("nothing") }
        #expect(throws: PostgresError.self) { try row.int("letter") }
        #expect(throws: PostgresError.self) { try row.bytes("letter") }
        #expect(throws: PostgresError.self) { try row.bool("letter") }
    }

    @Test func `the number of touched rows is given`() throws {
        let connection = try connection()
        try connection.script("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 5)")
        #expect(try connection.execute("UPDATE t SET n = n + 1 WHERE n > $1", [3]) == 2)
        #expect(
            try connection.query("SELECT n FROM t ORDER BY n").map { try $0.int("n") } == [1, 2, 3, 5, 6]
        )
    }

    @Test func `text with a NUL is refused and the connection goes on`() throws {
        let connection = try connection()
        #expect(throws: PostgresError.self) { try connection.query("SELECT $1::text", ["a\0b"]) }
        #expect(try connection.query("SELECT 1 AS n").single().int("n") == 1)
    }

    @Test func `an error keeps its SQLSTATE and shows neither SQL nor parameters`() throws {
        let connection = try connection()
        try connection.script("CREATE TABLE t (n int PRIMARY KEY)")
        try connection.execute("INSERT INTO t VALUES (1)")
        var caught: PostgresError?
        do throws(PostgresError) { try connection.execute("INSERT INTO t VALUES (1)") } catch {
            caught = error
        }
        #expect(caught?.sqlstate == "23505")
        guard case .server(let error) = caught else {
            Issue.record("not an error of the server")
            return
        }
        #expect(error.constraint == "t_pkey")
        do throws(PostgresError) {
            _ = try connection.query("SELECT secret_word, $1 FROM nowhere", ["hunter2"])
            Issue.record("it worked")
        } catch {
            #expect(!error.description.contains("secret_word"))
            #expect(!error.description.contains("hunter2"))
            #expect(error.sqlstate == "42P01")
        }
    }

    @Test func `a transaction commits, or rolls back when its body throws`() throws {
        struct Stop: Error {}
        let connection = try connection()
        try connection.script("CREATE TABLE t (n int)")
        try connection.transaction { try connection.execute("INSERT INTO t VALUES (1)") }
        #expect(throws: Stop.self) {
            try connection.transaction {
                try connection.execute("INSERT INTO t VALUES (2)")
                throw Stop()
            }
        }
        #expect(try connection.query("SELECT n FROM t").map { try $0.int("n") } == [1])
        #expect(throws: PostgresError.self) {
            try connection.transaction { try connection.transaction {} }
        }
    }

    @Test func `a transaction whose failure was swallowed is not taken as committed`() throws {
        let connection = try connection()
        try connection.script("CREATE TABLE t (n int)")
        #expect(throws: PostgresError.self) {
            try connection.transaction {
                try connection.execute("INSERT INTO t VALUES (1)")
                _ = try? connection.execute("SELECT 1/0")
            }
        }
        #expect(try connection.query("SELECT n FROM t").isEmpty)
    }

    @Test func `a server that is not there is told apart from one that went away`() throws {
        do throws(PostgresError) {
            _ = try PostgresConnection("host=/nonexistent user=x", applicationName: "test")
            Issue.record("it worked")
        } catch {
            guard case .cannotConnect = error else {
                Issue.record("\(error)")
                return
            }
        }
        let address = try PostgresServer.shared.get().newDatabase()
        let one = try connection(address)
        let two = try connection(address)
        try two.execute("SELECT pg_terminate_backend($1)", [one.greetedPID])
        do throws(PostgresError) {
            try one.execute("SELECT 1")
            Issue.record("it worked")
        } catch {
            guard case .connectionLost = error else {
                Issue.record("\(error)")
                return
            }
        }
        #expect(throws: PostgresError.self) { try one.execute("SELECT 1") }
    }

    @Test func `a connection that breaks in a transaction rolls back and says so`() throws {
        let address = try PostgresServer.shared.get().newDatabase()
        let one = try connection(address)
        let two = try connection(address)
        try two.script("CREATE TABLE t (n int)")
        #expect(throws: PostgresError.self) {
            try one.transaction {
                try one.execute("INSERT INTO t VALUES (1)")
                try two.execute("SELECT pg_terminate_backend($1)", [one.greetedPID])
            }
        }
        #expect(try two.query("SELECT n FROM t").isEmpty)
    }

    @Test(arguments: [
        "postgres://holdfast:hunter2@127.0.0.1:1/x", "host=127.0.0.1 port=1 password=hunter2",
        "hunter2", "host=x hunter2", "postgres://u:hunter2@[::1/x", "postgres://u@h/x?hunter2=1",
    ])
    func `a password in the address is never shown`(_ address: String) {
        do throws(PostgresError) {
            _ = try PostgresConnection(address, applicationName: "test", connectTimeout: 2)
            Issue.record("it worked")
        } catch { #expect(!error.description.contains("hunter2")) }
    }

    @Test func `a statement that takes too long ends the connection`() throws {
        let connection = try connection()
        let begin = Time.monotonic()
        #expect(throws: PostgresError.self) { try connection.query("SELECT pg_sleep(20)", timeout: 0.2) }
        #expect(Time.monotonic() - begin < 5_000_000_000)
        #expect(throws: PostgresError.self) { try connection.query("SELECT 1") }
        #expect(connection.descriptor == -1)
    }

    @Test func `COPY does not hang`() throws {
        let connection = try connection()
        #expect(throws: PostgresError.self) { try connection.query("COPY (SELECT 1) TO STDOUT") }
    }

    @Test func `notifications arrive, in order, and waiting has an end`() throws {
        let address = try PostgresServer.shared.get().newDatabase()
        let listener = try connection(address)
        let speaker = try connection(address)
        try listener.listen("holdfast_jobs")
        let begin = Time.monotonic()
        #expect(try listener.notifications(timeout: 0.1).isEmpty)
        #expect(Time.monotonic() - begin >= 90_000_000)
        try speaker.transaction {
            for word in ["1", "2"] { try speaker.execute("SELECT pg_notify('holdfast_jobs', $1)", [word]) }
        }
        var got: [String] = []
        for _ in 0..<20 where got.count < 2 { got += try listener.notifications(timeout: 1).map(\.payload) }
        #expect(got == ["1", "2"])
        try speaker.execute("SELECT pg_terminate_backend($1)", [listener.greetedPID])
        #expect(throws: PostgresError.self) {
            for _ in 0..<3 { _ = try listener.notifications(timeout: 1) }
        }
    }

    @Test func `advisory locks exclude, are shared, and go with the connection`() throws {
        let address = try PostgresServer.shared.get().newDatabase()
        let one = try connection(address)
        let two = try connection(address)
        #expect(try one.tryLock(class: 7, object: 1))
        #expect(try !two.tryLock(class: 7, object: 1))
        #expect(try !two.tryLock(class: 7, object: 1, shared: true))
        #expect(try two.tryLock(class: 7, object: 2))
        try one.unlock(class: 7, object: 1)
        #expect(throws: PostgresError.self) { try one.unlock(class: 7, object: 1) }
        #expect(try two.tryLock(class: 7, object: 1, shared: true))
        #expect(try one.tryLock(class: 7, object: 1, shared: true))
        one.close()
        let three = try connection(address)
        #expect(try !three.tryLock(class: 7, object: 1))
        two.close()
        var taken = false
        // The server notices the end of a connection by itself.
        for _ in 0..<100 where !taken {
            taken = try three.tryLock(class: 7, object: 1)
            if !taken { Time.sleep(seconds: 0.02) }
        }
        #expect(taken)
    }
}
