/// A PostgreSQL connection string as libpq's environment variables, so that its password never shows in a list of
/// processes.
struct Connection: Equatable {
    let variables: [String: String]

    /// libpq's names of parameters and the variables that mean the same (PostgreSQL's manual, "Environment Variables").
    private static let names = [
        "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE",
        "user": "PGUSER",
        "password": "PGPASSWORD", "passfile": "PGPASSFILE", "service": "PGSERVICE", "sslmode": "PGSSLMODE",
        "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslcrl": "PGSSLCRL",
        "connect_timeout": "PGCONNECT_TIMEOUT", "channel_binding": "PGCHANNELBINDING",
        "gssencmode": "PGGSSENCMODE", "target_session_attrs": "PGTARGETSESSIONATTRS",
    ]

    /// Reads `postgresql://user:password@host:port/database?parameter=value`, each part percent-encoded.
    init(parsing text: String) throws(CaptureFailure) {
        func refuse(_ why: String) -> CaptureFailure {
            // The text itself holds a password and is not repeated.
            CaptureFailure(
                .discovery,
                "the connection string of PostgreSQL cannot be used: \(why); it looks like "
                    + "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            )
        }
        guard let scheme = ["postgresql://", "postgres://"].first(where: { text.hasPrefix($0) }) else {
            throw refuse("it does not begin with postgresql://")
        }
        var rest = text.dropFirst(scheme.count)
        var found: [String: String] = [:]
        if let mark = rest.firstIndex(of: "?") {
            for pair in rest[rest.index(after: mark)...].split(separator: "&") {
                let parts = pair.split(separator: "=", maxSplits: 1)
                guard parts.count == 2, let value = decoded(parts[1]) else { throw refuse("a bad parameter") }
                // Meant for another client library than libpq.
                if parts[0] == "uselibpqcompat" { continue }
                guard let name = Self.names[String(parts[0])] else {
                    throw refuse("the parameter '\(parts[0])' is unknown")
                }
                found[name] = value
            }
            rest = rest[..<mark]
        }
        if let slash = rest.firstIndex(of: "/") {
            guard let name = decoded(rest[rest.index(after: slash)...]) else {
                throw refuse("a bad database")
            }
            if !name.isEmpty { found["PGDATABASE"] = name }
            rest = rest[..<slash]
        }
        if let at = rest.lastIndex(of: "@") {
            let parts = rest[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard let user = decoded(parts[0]) else { throw refuse("a bad user") }
            if !user.isEmpty { found["PGUSER"] = user }
            if parts.count == 2 {
                guard let password = decoded(parts[1]) else { throw refuse("a bad password") }
                found["PGPASSWORD"] = password
            }
            rest = rest[rest.index(after: at)...]
        }
        if rest.hasPrefix("["), let end = rest.firstIndex(of: "]") {
            found["PGHOST"] = String(rest[rest.index(after: rest.startIndex)..<end])
            rest = rest[rest.index(after: end)...]
            if rest.hasPrefix(":") { found["PGPORT"] = String(rest.dropFirst()) }
        } else if !rest.isEmpty {
            let parts = rest.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count <= 2, let host = decoded(parts[0]) else { throw refuse("a bad host") }
            if !host.isEmpty { found["PGHOST"] = host }
            if parts.count == 2 { found["PGPORT"] = String(parts[1]) }
        }
        if let port = found["PGPORT"], UInt16(port) == nil { throw refuse("the port is no number") }
        variables = found
    }
}

/// Resolves `%41`; nil for broken escapes, NUL and bytes that are not UTF-8.
private func decoded(_ text: some StringProtocol) -> String? {
    var result: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
        if byte != 0x25 {
            result.append(byte)
            continue
        }
        guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16),
            value != 0
        else { return nil }
        rest = rest.dropFirst(2)
        result.append(value)
    }
    return String(validating: result, as: UTF8.self)
}
