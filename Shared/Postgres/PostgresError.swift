/// What can go wrong between this program and a PostgreSQL server. No description holds SQL text, a parameter
/// or a password.
package enum PostgresError: Error, CustomStringConvertible {
    /// No connection was made: the server is down, refuses, or is not there.
    case cannotConnect(reason: String)
    /// The connection string cannot be read. libpq's own sentence quotes parts of it, so it is not repeated.
    case badAddress
    /// The connection ended while it was in use; a transaction that was open is rolled back.
    case connectionLost(reason: String)
    /// The connection ended while a transaction was being committed: it may have been, or not.
    case commitUnknown(reason: String)
    /// The server refused one statement; the connection goes on.
    case server(ServerError)
    /// No answer came within this many seconds; the connection is closed.
    case timeout(seconds: Double)
    /// A mistake of the caller, or a result that is not what the caller takes it for.
    case misuse(String)

    /// A refusal by the server.
    package struct ServerError: Sendable, Equatable {
        /// Five characters of PostgreSQL's appendix A, `23505` for one.
        package let sqlstate: String
        /// The server's primary message.
        package let message: String
        /// The constraint that was violated, if it was that.
        package let constraint: String?
    }

    /// The SQLSTATE when the server refused a statement.
    package var sqlstate: String? {
        if case .server(let error) = self { return error.sqlstate }
        return nil
    }

    package var description: String {
        switch self {
        case .cannotConnect(let reason): "cannot connect to PostgreSQL: \(reason)"
        case .badAddress:
            "the PostgreSQL address cannot be read: write it like postgres://user@host:5432/database"
        case .connectionLost(let reason): "the connection to PostgreSQL was lost: \(reason)"
        case .commitUnknown(let reason):
            "the connection to PostgreSQL was lost during a commit, which may or may not have happened: \(reason)"
        case .server(let error): "PostgreSQL says: \(error.message) (SQLSTATE \(error.sqlstate))"
        case .timeout(let seconds): "PostgreSQL gave no answer within \(seconds) s"
        case .misuse(let text): "\(text)"
        }
    }
}
