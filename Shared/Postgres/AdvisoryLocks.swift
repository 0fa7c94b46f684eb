/// Advisory locks of the session: they are held until they are released or the connection ends.
/// `pg_locks` shows them with `classid`, `objid` and `objsubid` 2.
extension PostgresConnection {
    /// Takes the lock (`class`, `object`) if that is possible at once.
    ///
    /// - Parameter shared: Several may hold it so, and nobody exclusively meanwhile.
    /// - Returns: False when somebody else holds it. Taking a lock twice counts twice.
    package func tryLock(class: Int32, object: Int32, shared: Bool = false) throws(PostgresError) -> Bool {
        let function = shared ? "pg_try_advisory_lock_shared" : "pg_try_advisory_lock"
        return try query("SELECT \(function)($1, $2) AS taken", [`class`, object]).single().bool("taken")
    }

    /// Waits for the lock and takes it.
    package func lock(class: Int32, object: Int32, shared: Bool = false) throws(PostgresError) {
        let function = shared ? "pg_advisory_lock_shared" : "pg_advisory_lock"
        try execute("SELECT \(function)($1, $2)", [`class`, object])
    }

    /// - Throws: `misuse` when this session does not hold the lock.
    package func unlock(class: Int32, object: Int32, shared: Bool = false) throws(PostgresError) {
        let function = shared ? "pg_advisory_unlock_shared" : "pg_advisory_unlock"
        let row = try query("SELECT \(function)($1, $2) AS held", [`class`, object]).single()
        guard try row.bool("held") else { throw .misuse("the advisory lock was not held by this connection") }
    }
}

extension PostgresResult {
    /// The only row.
    package func single() throws(PostgresError) -> Row {
        guard count == 1, let row = first else { throw .misuse("\(count) rows came where one was expected") }
        return row
    }
}
