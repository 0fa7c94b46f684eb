import CLibPQ
import Posix

/// The rows of one statement, and how many it touched.
package struct PostgresResult: Sendable, RandomAccessCollection {
    package struct Row: Sendable {
        fileprivate let columns: [String: Int]
        fileprivate let values: [String?]
    }

    private let rows: [Row]
    /// Rows that an INSERT, UPDATE or DELETE touched, or that a SELECT gave.
    package let affected: Int
    /// The server's word for what it did: `INSERT 0 1`, `ROLLBACK`.
    let status: String

    package var startIndex: Int { 0 }
    package var endIndex: Int { rows.count }
    package subscript(position: Int) -> Row { rows[position] }

    /// Copies a result of libpq, which the caller still clears.
    init(_ result: OpaquePointer) {
        var columns: [String: Int] = [:]
        let width = PQnfields(result)
        for column in 0..<width {
            if let name = PQfname(result, column) { columns[String(cString: name)] = Int(column) }
        }
        rows = (0..<PQntuples(result)).map { row in
            let values = (0..<width).map { column -> String? in
                guard PQgetisnull(result, row, column) == 0, let value = PQgetvalue(result, row, column)
                else { return nil }
                return String(cString: value)
            }
            return Row(columns: columns, values: values)
        }
        status = PQcmdStatus(result).map { String(cString: $0) } ?? ""
        affected = PQcmdTuples(result).flatMap { Int(String(cString: $0)) } ?? 0
    }
}

extension PostgresResult.Row {
    /// The text of a column, nil for NULL.
    ///
    /// - Throws: `PostgresError.misuse` when the result has no such column.
    package func text(_ column: String) throws(PostgresError) -> String? {
        guard let index = columns[column] else { throw .misuse("the result has no column \(column)") }
        return values[index]
    }

    /// The text of a column that holds a value.
    package func string(_ column: String) throws(PostgresError) -> String {
        guard let text = try text(column) else { throw .misuse("column \(column) is NULL") }
        return text
    }

    package func int(_ column: String) throws(PostgresError) -> Int {
        try convert(column, "an integer", Int.init)
    }

    package func int32(_ column: String) throws(PostgresError) -> Int32 {
        try convert(column, "a 32-bit integer", Int32.init)
    }

    package func int64(_ column: String) throws(PostgresError) -> Int64 {
        try convert(column, "a 64-bit integer", Int64.init)
    }

    package func optionalInt64(_ column: String) throws(PostgresError) -> Int64? {
        try text(column) == nil ? nil : int64(column)
    }

    package func optionalInt(_ column: String) throws(PostgresError) -> Int? {
        try text(column) == nil ? nil : int(column)
    }

    package func bool(_ column: String) throws(PostgresError) -> Bool {
        try convert(column, "a boolean") { $0 == "t" ? true : $0 == "f" ? false : nil }
    }

    /// A `bytea` in its hexadecimal form.
    package func bytes(_ column: String) throws(PostgresError) -> [UInt8] {
        try convert(column, "bytes") { $0.hasPrefix("\\x") ? Posix.bytes(hex: $0.dropFirst(2)) : nil }
    }

    private func convert<T>(_ column: String, _ kind: String, _ read: (String) -> T?) throws(PostgresError)
        -> T
    {
        guard let value = read(try string(column)) else {
            throw .misuse("column \(column) does not hold \(kind)")
        }
        return value
    }
}
