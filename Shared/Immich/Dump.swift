/// What a dump holds, by the PostgreSQL program that makes it.
package enum DumpProgram: String, Sendable {
    /// One database.
    case database = "pg_dump"
    /// Every database of the server, and its roles.
    case cluster = "pg_dumpall"

    /// The program that Immich's own backup job uses, and that its restore screen expects by the version in
    /// the file's name: `pg_dumpall` before 2.5.0, `pg_dump` since then and where no version is named.
    package static func used(by version: ImmichVersion?) -> DumpProgram {
        guard let version, version < ImmichVersion(2, 5, 0) else { return .database }
        return .cluster
    }

    /// The line with which a dump of this kind begins, after one `--`.
    package var opening: String {
        self == .database ? "-- PostgreSQL database dump" : "-- PostgreSQL database cluster dump"
    }
    /// The last line that says something; only an `\unrestrict` line may follow.
    package var closing: String { opening + " complete" }
}

/// File names of dumps, as Immich writes and accepts them in `backups/`.
package enum DumpName {
    /// `immich-db-backup-20261121T102334-v2.5.0-pg14.19.sql`. Without a version the part is left out: Immich
    /// takes such a file for a dump of one database.
    ///
    /// - Parameters:
    ///   - time: `yyyyMMddTHHmmss`.
    ///   - postgres: `server_version`; what follows the first space is left out.
    package static func make(time: String, immich: ImmichVersion?, postgres: String) -> String {
        let short = postgres.split(separator: " ").first.map(String.init) ?? ""
        let number = String(decoding: short.utf8.filter(isAllowed), as: UTF8.self)
        let version = immich.map { "-v\($0)" } ?? ""
        return "immich-db-backup-\(time)\(version)-pg\(number.isEmpty ? "0" : number).sql"
    }

    /// Whether Immich lists and restores a file of this name: letters, digits, `_`, `-`, `.`, ending in `.sql` or
    /// `.sql.gz`; at most 255 bytes, and no hidden file.
    package static func isAccepted(_ name: String) -> Bool {
        name.utf8.count <= 255 && name.utf8.first != 0x2E && name.utf8.allSatisfy(isAllowed)
            && (name.hasSuffix(".sql") || name.hasSuffix(".sql.gz"))
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F: true
        default: false
        }
    }
}
