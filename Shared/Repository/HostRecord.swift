import JSON
import Posix

/// Whose repository this is, so that the catalogue's loss loses no host. Times are nanoseconds since
/// 1970-01-01T00:00:00Z.
package struct HostRecord: Equatable, Sendable {
    /// A key that an agent of the host is known by.
    package struct Key: Equatable, Sendable {
        /// In OpenSSH's one-line form.
        package var line: String
        /// Nil in records of earlier versions.
        package var added: Int64?

        package init(line: String, added: Int64? = nil) {
            self.line = line
            self.added = added
        }
    }

    package var name: String
    /// Nil in records of earlier versions.
    package var added: Int64?
    /// When it was taken out of the fleet; nil while it belongs to it.
    package var removed: Int64?
    /// Those that are in use; none once the host was removed.
    package var keys: [Key]

    package init(name: String, added: Int64? = nil, removed: Int64? = nil, keys: [Key] = []) {
        self.name = name
        self.added = added
        self.removed = removed
        self.keys = keys
    }

    init(parsing bytes: [UInt8]) throws {
        let json = try JSON(parsing: bytes)
        guard let name = json["name"]?.string, let keys = json["agent_keys"]?.array else {
            throw RepositoryError.invalid("it names no host")
        }
        self.init(
            name: name,
            added: json["added"]?.string.flatMap(Time.parseRFC3339),
            removed: json["removed"]?.string.flatMap(Time.parseRFC3339),
            keys: try keys.map { key in
                // A bare line in records of earlier versions.
                guard let line = key.string ?? key["key"]?.string else {
                    throw RepositoryError.invalid("it holds an agent's key that is none")
                }
                return Key(line: line, added: key["added"]?.string.flatMap(Time.parseRFC3339))
            }
        )
    }

    func encoded() -> [UInt8] {
        var members: [(String, JSON)] = [("name", JSON(name))]
        if let added { members.append(("added", JSON(Time.rfc3339(added)))) }
        if let removed { members.append(("removed", JSON(Time.rfc3339(removed)))) }
        let described = keys.map { key in
            JSON(
                [("key", JSON(key.line))] + (key.added.map { [("added", JSON(Time.rfc3339($0)))] } ?? [])
            )
        }
        members.append(("agent_keys", .array(described)))
        return JSON(members).encoded(pretty: true)
    }
}
