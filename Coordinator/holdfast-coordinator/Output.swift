import Arguments
import Catalogue
import Configuration
import Fleet
import Glibc
import JSON
import Posix
import Postgres
import Repository
import Restore
import Sessions

/// Prints `json`, pretty and ending in a newline, for `--json`.
func printJSON(_ json: JSON) { put(json.text(pretty: true) + "\n") }

/// An instant in JSON, RFC 3339 in UTC, or null.
func instant(_ nanoseconds: Int64?) -> JSON { nanoseconds.map { JSON(Time.rfc3339($0)) } ?? .null }

/// How long ago an instant was: `3 h 20 min ago`.
func ago(_ nanoseconds: Int64) -> String { "\(Human.duration(nanoseconds: Time.now() - nanoseconds)) ago" }

extension JSON {
    /// The value, or null.
    init(_ value: String?) { self = value.map { .string($0) } ?? .null }
    init(_ value: Int64?) { self = value.map { .integer($0) } ?? .null }
}

/// Says what went wrong, on stderr, and gives the exit status that scripts can tell it by.
func complain(_ error: any Error) -> ExitCode {
    let (code, advice) = judge(error)
    put("holdfast-coordinator: \(error)\(advice.map { "; \($0)" } ?? "")\n", to: STDERR_FILENO)
    return code
}

/// The exit status of an error, and what to do next where the error does not say it.
private func judge(_ error: any Error) -> (ExitCode, String?) {
    switch error {
    case let failure as CommandFailure: return (failure.code, nil)
    case is PruneRefused:
        return (.damaged, "holdfast-coordinator check HOST --read-data finds all of it")
    case is PasswordUnreadable: return (.wrongPassword, nil)
    case is ConfigurationError: return (.configuration, nil)
    case let error as RepositoryError:
        switch error {
        case .noRepository: return (.noRepository, "is the disk with the repositories mounted?")
        case .wrongPassword:
            return (.wrongPassword, "the recovery passphrase opens it too, with a stock restic")
        case .locked, .unreadableLock: return (.locked, nil)
        case .damaged, .damagedBlob:
            return (.damaged, "holdfast-coordinator check HOST --read-data finds all of it")
        default: return (.failed, nil)
        }
    case let error as RestoreError:
        return (RestoreOutput.code(error), nil)
    case let error as CatalogueError:
        switch error {
        case .locked: return (.locked, nil)
        case .cluster, .unsuitable, .newer, .alteredMigration: return (.noCatalogue, nil)
        default: return (.failed, nil)
        }
    case let error as PostgresError:
        switch error {
        case .cannotConnect, .connectionLost: return (.noCatalogue, "is the server of `catalogue:` up?")
        default: return (.failed, nil)
        }
    case let error as SystemCallError:
        switch error.code {
        case ENOSPC, EDQUOT:
            return (.noSpace, "free some space on that disk; nothing that was stored before is lost")
        case EACCES, EPERM:
            return (.failed, "run it as root, or as the user that `serve` runs as")
        default: return (.failed, nil)
        }
    default: return (.failed, nil)
    }
}

extension FleetConfiguration {
    /// Runs `body` with the catalogue open; the private one is started when it does not run, and stopped again by
    /// the last who uses it.
    func withCatalogue<R>(_ body: (Catalogue) throws -> R) throws -> R {
        try withServer { _, catalogue in try body(catalogue) }
    }

    func withServer<R>(_ body: (CatalogueServer, Catalogue) throws -> R) throws -> R {
        try requireSetUp()
        let server = try CatalogueServer(self)
        defer { try? server.end() }
        let catalogue = try server.open()
        defer { catalogue.close() }
        return try body(server, catalogue)
    }
}
