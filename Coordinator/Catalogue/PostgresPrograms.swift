import Glibc
import Posix

/// An installed PostgreSQL: `initdb`, `pg_ctl` and `postgres` of one major version in one folder.
package struct PostgresPrograms: Sendable, Equatable {
    package let folder: String
    /// Major version, 15 for one.
    package let version: Int

    package init(folder: String, version: Int) {
        self.folder = folder
        self.version = version
    }

    /// What Holdfast runs on.
    package static let versions = 14...18

    /// Where Debian and the RPM packages put each version, newest first, and then the folders of PATH.
    package static var usualFolders: [String] {
        versions.reversed().flatMap { ["/usr/lib/postgresql/\($0)/bin", "/usr/pgsql-\($0)/bin"] }
            + (environmentVariables()["PATH"] ?? "").split(separator: ":").map(String.init)
    }

    /// The newest version in `folders`, or the one that an existing cluster needs.
    ///
    /// - Throws: `CatalogueError.cluster` with the package to install.
    package static func find(in folders: [String], version wanted: Int? = nil) throws(CatalogueError) -> Self
    {
        var best: Self?
        var broken: String?
        for folder in folders {
            do {
                guard let found = try version(in: folder), versions.contains(found),
                    found == wanted ?? found, found > best?.version ?? 0
                else { continue }
                best = Self(folder: folder, version: found)
            } catch { broken = "PostgreSQL in \(folder) can't be run: \(error)" }
        }
        if let best { return best }
        if let broken { throw .cluster(broken) }
        guard let wanted else {
            throw .cluster(
                "no PostgreSQL \(versions.lowerBound) to \(versions.upperBound) is installed, which the catalogue needs: "
                    + "apt install postgresql, or set `catalogue:` to a server of your own"
            )
        }
        throw .cluster(
            "the catalogue was made by PostgreSQL \(wanted), which is not installed: apt install postgresql-\(wanted)"
        )
    }

    private static func version(in folder: String) throws -> Int? {
        let server = "\(folder)/postgres"
        guard Files.exists(server), Files.exists("\(folder)/initdb"), Files.exists("\(folder)/pg_ctl")
        else { return nil }
        let run = try ChildProcess.run([server, "--version"], limit: 4096)
        guard run.end == .exit(0) else { return nil }
        // postgres (PostgreSQL) 15.12 (Debian 15.12-0+deb12u2); a beta is 19beta1.
        let words = String(decoding: run.output, as: UTF8.self).split(separator: " ")
        guard words.count > 2 else { return nil }
        return Int(words[2].prefix { $0.isNumber })
    }
}

/// The operating-system user that a private cluster belongs to and runs as. PostgreSQL refuses root.
struct ClusterOwner: Sendable, Equatable {
    let uid: uid_t
    let gid: gid_t
    let name: String

    /// The owner of the state folder, or `postgres` when that is root.
    static func of(state: String) throws -> ClusterOwner {
        let owner = try FileStatus(path: state).uid
        let me = geteuid()
        if owner == 0 {
            guard me == 0 else {
                throw CatalogueError.cluster("\(state) belongs to root: run this as root, with sudo for one")
            }
            guard let user = try user(named: "postgres") else {
                throw CatalogueError.cluster(
                    "PostgreSQL refuses to run as root and there is no user `postgres`: apt install postgresql, "
                        + "or give \(state) to another user with chown"
                )
            }
            return user
        }
        guard let user = try user(id: owner) else {
            throw CatalogueError.cluster(
                "\(state) belongs to the user id \(owner), which has no name: PostgreSQL needs one in /etc/passwd"
            )
        }
        guard me == 0 || me == owner else {
            throw CatalogueError.cluster(
                "\(state) belongs to \(user.name): run this as \(user.name) or as root"
            )
        }
        return user
    }

    /// Puts a program's start under this user and in `/`, where every user may be.
    func arguments(_ program: [String]) -> [String] {
        let enter = ["env", "--chdir=/"]
        if geteuid() == uid { return enter + program }
        return ["setpriv", "--reuid=\(uid)", "--regid=\(gid)", "--init-groups", "--"] + enter + program
    }

    /// Gives a file to this user; needs root, and is nothing to do otherwise.
    func take(_ path: String) throws(SystemCallError) {
        if geteuid() == 0, chown(path, uid, gid) != 0 { throw SystemCallError("chown", errno: errno, path) }
    }

    private static func user(named name: String) throws -> ClusterOwner? {
        try entry { entry, buffer, size, result in getpwnam_r(name, entry, buffer, size, result) }
    }

    private static func user(id: uid_t) throws -> ClusterOwner? {
        try entry { entry, buffer, size, result in getpwuid_r(id, entry, buffer, size, result) }
    }

    /// - Throws: `SystemCallError` when nobody can say whether there is such a user: no descriptors left for one.
    private static func entry(
        _ look: (
            UnsafeMutablePointer<passwd>, UnsafeMutablePointer<CChar>, Int,
            UnsafeMutablePointer<UnsafeMutablePointer<passwd>?>
        ) -> Int32
    ) throws -> ClusterOwner? {
        try withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16384) { buffer in
            var entry = passwd()
            var result: UnsafeMutablePointer<passwd>?
            guard let base = buffer.baseAddress else { return nil }
            let code = look(&entry, base, buffer.count, &result)
            // Some of its sources say so when there is none (getpwnam(3)).
            guard code == 0 || [ENOENT, ESRCH, EBADF, EPERM].contains(code) else {
                throw SystemCallError("getpwnam", errno: code, "/etc/passwd")
            }
            guard result != nil, let name = entry.pw_name else { return nil }
            return ClusterOwner(uid: entry.pw_uid, gid: entry.pw_gid, name: String(cString: name))
        }
    }
}
