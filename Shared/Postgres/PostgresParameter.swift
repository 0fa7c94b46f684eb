import Posix

/// A value that goes to the server as a parameter, in PostgreSQL's text format.
package protocol PostgresParameter {
    /// What the server's input function for the value's type reads.
    var postgresText: String { get }
}

extension String: PostgresParameter {
    package var postgresText: String { self }
}

extension Int: PostgresParameter {
    package var postgresText: String { String(self) }
}

extension Int32: PostgresParameter {
    package var postgresText: String { String(self) }
}

extension Int64: PostgresParameter {
    package var postgresText: String { String(self) }
}

extension Bool: PostgresParameter {
    package var postgresText: String { self ? "t" : "f" }
}

/// `bytea`, in its hexadecimal form.
extension [UInt8]: PostgresParameter {
    package var postgresText: String { "\\x" + hex(self) }
}
