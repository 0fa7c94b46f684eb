import Glibc
import JSON
import Posix

/// What a file of `locks/` says (restic's format).
package struct LockFile: Equatable, Sendable {
    package let id: BlobID
    /// Nanoseconds since 1970-01-01T00:00:00Z, by the clock of whoever wrote it.
    package let time: Int64
    package let exclusive: Bool
    package let hostname: String
    package let username: String
    package let pid: Int

    /// A lock that is not refreshed for 30 minutes is stale to every client.
    package static let staleAfter: Int64 = 30 * 60 * 1_000_000_000

    static let userPrefix = "holdfast:"

    /// The process's UUID when the lock is one of ours, nil for a foreign client's.
    package var owner: String? {
        username.hasPrefix(Self.userPrefix) ? String(username.dropFirst(Self.userPrefix.count)) : nil
    }

    package func age(at now: Int64 = Time.now()) -> Int64 { now - time }
    /// Not refreshed for 30 minutes, or of a process of this machine that is gone: `restic unlock` removes it.
    package func isStale(at now: Int64 = Time.now()) -> Bool {
        age(at: now) > Self.staleAfter || hostname == Host.name && isGone
    }

    private var isGone: Bool {
        guard let pid = pid_t(exactly: pid), pid > 0 else { return false }
        return kill(pid, 0) != 0 && errno == ESRCH
    }

    init(id: BlobID, parsing text: [UInt8]) throws(Unreadable) {
        let json: JSON
        do { json = try JSON(parsing: text) } catch { throw Unreadable(reason: "\(error)") }
        guard let time = json["time"]?.string.flatMap(Time.parseRFC3339) else {
            throw Unreadable(reason: "it names no time")
        }
        self.id = id
        self.time = time
        exclusive = json["exclusive"]?.bool ?? false
        hostname = json["hostname"]?.string ?? ""
        username = json["username"]?.string ?? ""
        pid = json["pid"]?.int ?? 0
    }

    struct Unreadable: Error { let reason: String }
}

extension LockFile: CustomStringConvertible {
    package var description: String {
        "\(exclusive ? "exclusively " : "")by process \(pid) of \(escaped(username.utf8)) on "
            + "\(escaped(hostname.utf8)) since \(Time.rfc3339(time)) (lock file \(id.short))"
    }
}
