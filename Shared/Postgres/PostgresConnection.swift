import CLibPQ
import Glibc
import Posix

/// One connection to a PostgreSQL server. It blocks, and one thread at a time may use it.
///
/// A peer that went away without a word is noticed within 30 s (TCP keep-alive and user time-out).
package final class PostgresConnection {
    private var handle: OpaquePointer?
    private var inTransaction = false

    /// - Parameters:
    ///   - address: A connection string or `postgres://` URL as libpq reads it; what it leaves out comes from the
    ///     environment (`PGHOST`, …) as with `psql`.
    ///   - applicationName: What `pg_stat_activity` shows, at most 63 bytes.
    ///   - connectTimeout: Seconds for each address that is tried; a `connect_timeout` in `address` wins.
    /// - Throws: `cannotConnect` or `badAddress`.
    package init(_ address: String, applicationName: String, connectTimeout: Int = 10) throws(PostgresError) {
        let secrets = try Self.secrets(in: address)
        // What stands before `dbname` yields to the address; what stands after it wins over the address.
        let settings = [
            ("connect_timeout", String(connectTimeout)), ("keepalives", "1"), ("keepalives_idle", "15"),
            ("keepalives_interval", "5"), ("keepalives_count", "3"), ("tcp_user_timeout", "30000"),
            ("dbname", address), ("application_name", applicationName), ("client_encoding", "UTF8"),
        ]
        let connected = withCStrings(settings.map(\.0)) { keywords in
            withCStrings(settings.map(\.1)) { values in PQconnectdbParams(keywords, values, 1) }
        }
        guard let connected else { throw .cannotConnect(reason: "out of memory") }
        guard PQstatus(connected) == CONNECTION_OK else {
            var reason = oneLine(PQerrorMessage(connected))
            for secret in secrets { reason = reason.replacing(secret, with: "***") }
            PQfinish(connected)
            throw .cannotConnect(reason: reason)
        }
        // Notices would go to standard error.
        PQsetNoticeProcessor(connected, { _, _ in }, nil)
        handle = connected
    }

    deinit { close() }

    /// Ends the connection: locks are released, an open transaction is rolled back. Doing it twice does no harm.
    package func close() {
        if let handle { PQfinish(handle) }
        handle = nil
    }

    /// The socket, for poll(2); -1 after `close`. It changes never while the connection lives.
    package var descriptor: Int32 { handle.map { PQsocket($0) } ?? -1 }

    /// Process id that the server named in its greeting. Behind a pooler it is not the one that works for us.
    package var greetedPID: Int32 { handle.map { PQbackendPID($0) } ?? 0 }

    /// `150012` for 15.12.
    package var serverVersion: Int32 { handle.map { PQserverVersion($0) } ?? 0 }

    /// Runs one statement with `$1`, `$2`, … in it.
    ///
    /// - Parameter timeout: Seconds after which the connection is given up; nil waits as long as it takes.
    package func query(
        _ sql: String,
        _ parameters: [(any PostgresParameter)?] = [],
        timeout: Double? = nil
    ) throws(PostgresError) -> PostgresResult {
        let texts = parameters.map { $0?.postgresText }
        if texts.contains(where: { $0?.utf8.contains(0) ?? false }) {
            throw .misuse("PostgreSQL keeps no text with a NUL byte in it")
        }
        let handle = try open()
        let sent = withCStrings(texts) { values in
            PQsendQueryParams(handle, sql, Int32(texts.count), nil, values, nil, nil, 0)
        }
        guard sent == 1 else { throw failure(handle) }
        return try collect(handle, deadline: timeout.map { ($0, Time.monotonic() + Int64($0 * 1e9)) })
    }

    /// Runs one statement and gives the number of rows it touched.
    @discardableResult
    package func execute(_ sql: String, _ parameters: [(any PostgresParameter)?] = []) throws(PostgresError)
        -> Int
    {
        try query(sql, parameters).affected
    }

    /// Runs several statements without parameters, separated by semicolons.
    package func script(_ sql: String) throws(PostgresError) {
        let handle = try open()
        guard PQsendQuery(handle, sql) == 1 else { throw failure(handle) }
        _ = try collect(handle, deadline: nil)
    }

    /// Runs `body` inside a transaction: committed when it returns, rolled back when it throws.
    ///
    /// - Throws: What `body` throws; `commitUnknown` when the connection broke while committing.
    @discardableResult
    package func transaction<R>(_ body: () throws -> R) throws -> R {
        if inTransaction { throw PostgresError.misuse("a transaction is already open on this connection") }
        try execute("BEGIN")
        inTransaction = true
        defer { inTransaction = false }
        let result: R
        do { result = try body() } catch {
            // A connection that is gone has rolled back by itself.
            _ = try? execute("ROLLBACK")
            throw error
        }
        do throws(PostgresError) {
            // A transaction in which a statement failed ends with ROLLBACK, and that is no error to the server.
            if try query("COMMIT").status == "ROLLBACK" {
                throw .misuse("a transaction with a failed statement cannot be committed")
            }
        } catch {
            if case .connectionLost(let reason) = error { throw PostgresError.commitUnknown(reason: reason) }
            throw error
        }
        return result
    }

    private func open() throws(PostgresError) -> OpaquePointer {
        guard let handle else { throw .connectionLost(reason: "it was closed") }
        return handle
    }

    /// Takes all results of what was sent; the last one counts, and the first error.
    private func collect(_ handle: OpaquePointer, deadline: (seconds: Double, at: Int64)?)
        throws(PostgresError)
        -> PostgresResult
    {
        var last: PostgresResult?
        var problem: PostgresError?
        while true {
            if let deadline {
                while PQisBusy(handle) == 1 {
                    let left = deadline.at - Time.monotonic()
                    guard left > 0 else {
                        close()
                        throw .timeout(seconds: deadline.seconds)
                    }
                    _ = readable(PQsocket(handle), nanoseconds: left)
                    if PQconsumeInput(handle) == 0 { throw failure(handle) }
                }
            }
            guard let result = PQgetResult(handle) else { break }
            defer { PQclear(result) }
            switch PQresultStatus(result) {
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY: last = PostgresResult(result)
            case PGRES_FATAL_ERROR, PGRES_NONFATAL_ERROR, PGRES_BAD_RESPONSE:
                problem = problem ?? failure(handle, result)
            default:
                // COPY would wait for data that never comes.
                close()
                throw .misuse("COPY is not spoken here")
            }
        }
        if let problem {
            // The server's last words come before the end of the connection is noticed.
            if case .server(let error) = problem, PQstatus(handle) == CONNECTION_BAD {
                throw .connectionLost(reason: error.message)
            }
            throw problem
        }
        guard let last else { throw failure(handle) }
        return last
    }

    private func failure(_ handle: OpaquePointer, _ result: OpaquePointer? = nil) -> PostgresError {
        func field(_ code: Character) -> String? {
            guard let result, let value = code.asciiValue else { return nil }
            return PQresultErrorField(result, Int32(value)).map { oneLine($0) }
        }
        // The fields are used and not the whole message: that one quotes the statement.
        if let message = field("M"), let sqlstate = field("C") {
            return .server(.init(sqlstate: sqlstate, message: message, constraint: field("n")))
        }
        let reason = oneLine(PQerrorMessage(handle))
        return PQstatus(handle) == CONNECTION_BAD ? .connectionLost(reason: reason) : .misuse(reason)
    }

    // MARK: - Notifications

    /// A message that some connection sent with NOTIFY.
    package struct Notification: Sendable, Equatable {
        package let channel: String
        package let payload: String

        package init(channel: String, payload: String) {
            self.channel = channel
            self.payload = payload
        }
    }

    /// Subscribes to `channel`: letters, digits and `_`.
    package func listen(_ channel: String) throws(PostgresError) { try execute("LISTEN \"\(channel)\"") }

    /// What has come on the channels listened to, waiting for the first one.
    ///
    /// - Parameter timeout: Seconds; 0 only looks.
    /// - Returns: Nothing when the time is over or a signal came.
    /// - Throws: `connectionLost` when the server went away; what was sent meanwhile is lost too.
    package func notifications(timeout: Double) throws(PostgresError) -> [Notification] {
        let handle = try open()
        if PQconsumeInput(handle) == 0 { throw failure(handle) }
        var found = pending(handle)
        if found.isEmpty, timeout > 0, readable(PQsocket(handle), nanoseconds: Int64(timeout * 1e9)) {
            if PQconsumeInput(handle) == 0 { throw failure(handle) }
            found = pending(handle)
        }
        return found
    }

    private func pending(_ handle: OpaquePointer) -> [Notification] {
        var found: [Notification] = []
        while let next = PQnotifies(handle) {
            defer { PQfreemem(next) }
            found.append(
                Notification(
                    channel: String(cString: next.pointee.relname),
                    payload: String(cString: next.pointee.extra)
                )
            )
        }
        return found
    }

    private func readable(_ socket: Int32, nanoseconds: Int64) -> Bool {
        var entry = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        let milliseconds = Int32(clamping: (nanoseconds + 999_999) / 1_000_000)
        return poll(&entry, 1, milliseconds) > 0
    }

    // MARK: - Reading addresses

    /// The passwords in a connection string, which no message may show.
    private static func secrets(in address: String) throws(PostgresError) -> [String] {
        guard let options = PQconninfoParse(address, nil) else { throw .badAddress }
        defer { PQconninfoFree(options) }
        var found: [String] = []
        var next = options
        while let keyword = next.pointee.keyword {
            if ["password", "sslpassword"].contains(String(cString: keyword)), let value = next.pointee.val {
                let text = String(cString: value)
                if !text.isEmpty { found.append(text) }
            }
            next += 1
        }
        return found
    }
}

/// libpq's messages end with a newline and may have several lines.
private func oneLine(_ message: UnsafePointer<CChar>?) -> String {
    guard let message else { return "no reason given" }
    let lines = String(cString: message).split(separator: "\n").map {
        $0.drop(while: { $0 == "\t" || $0 == " " })
    }
    return lines.isEmpty ? "no reason given" : lines.joined(separator: "; ")
}

/// Calls `body` with a NULL-terminated array of C strings; nil becomes NULL in its place.
private func withCStrings<R>(_ texts: [String?], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> R) -> R {
    let copies = texts.map { text in text.flatMap { strdup($0) } }
    defer { copies.forEach { free($0) } }
    let pointers = copies.map { UnsafePointer($0) } + [nil]
    return pointers.withUnsafeBufferPointer { body($0.baseAddress) }
}
