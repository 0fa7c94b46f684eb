/// Why the catalogue cannot do what it was asked.
package enum CatalogueError: Error, CustomStringConvertible {
    // The server.

    /// The private cluster cannot be made, started or reached; the text says what, where and what to do.
    case cluster(String)
    /// The server that `catalogue:` names cannot serve; the text says why.
    case unsuitable(String)
    /// The schema is newer than this program.
    case newer(found: Int, known: Int)
    /// A migration of this program is not the one that was applied.
    case alteredMigration(Int)

    // Hosts, keys and tokens.

    case badHostName(String)
    case noHost(String)
    case hostExists(String)
    /// The token was never given out, or its host was removed.
    case unknownToken
    case usedToken(host: String)
    case expiredToken(host: String)
    /// No restore was granted with this token.
    case unknownGrant
    case expiredGrant(host: String)
    /// Another key used the token first.
    case grantTaken(host: String)
    /// The key belongs to another host.
    case keyTaken(host: String)

    // Runs and locks.

    /// The run is no longer this holder's: it was ended, or marked as interrupted.
    case runNotOurs(String)
    case locked(host: String, wanted: String, holders: [LockHolder])
    /// Somebody else took the host over, or the connection that held the lock is gone.
    case lockLost(host: String, reason: String)
    /// Whether a snapshot was published, or another change recorded, is not known; the next holder of the lock finds out.
    case publishUnknown(host: String, reason: String)

    package var description: String {
        switch self {
        case .cluster(let text), .unsuitable(let text): text
        case .newer(let found, let known):
            "the catalogue was made by a newer Holdfast (schema \(found), this program knows \(known)): "
                + "update this program"
        case .alteredMigration(let number):
            "migration \(number) of the catalogue is not the one this program has: "
                + "use the program that made the catalogue"
        case .badHostName(let reason): reason
        case .noHost(let name):
            "there is no host \(name): `host list` shows the hosts, `host add \(name)` adds it"
        case .hostExists(let name):
            "the host \(name) is there already: `host token \(name)` makes a token for a machine that was replaced"
        case .unknownToken:
            "the token is unknown: check that the whole line was pasted and that no newer one was made since"
        case .usedToken(let host):
            "the token was used already: `host token \(host)` on the coordinator makes a new one"
        case .expiredToken(let host):
            "the token has expired: `host token \(host)` on the coordinator makes a new one"
        case .unknownGrant:
            "the token is unknown: check that the whole line was pasted, and that the host is still in the fleet"
        case .expiredGrant(let host):
            "the token has expired: `restore \(host) --remote` on the coordinator makes a new one, and the restore goes on "
                + "where it was"
        case .grantTaken(let host):
            "the token is another machine's, or this one's under another key: `restore \(host) --remote` on the coordinator "
                + "makes a new one"
        case .keyTaken(let host):
            "this key belongs to the host \(host) already: a machine that was copied needs a key of its own"
        case .runNotOurs(let run):
            "run \(run) is over or somebody else's: it was probably marked as interrupted"
        case .locked(let host, let wanted, let holders):
            "\(host) is busy, so it cannot be locked for \(wanted)"
                + (holders.isEmpty ? "" : ": " + holders.map(\.description).joined(separator: "; "))
        case .lockLost(let host, let reason): "lost the lock of \(host): \(reason)"
        case .publishUnknown(let host, let reason):
            "whether the last change of \(host)'s snapshots was recorded is not known, the next run finds out: \(reason)"
        }
    }
}
