/// Exit statuses of both programs; restic's numbers where they mean the same. A number that is not listed here
/// means failure.
package enum ExitCode: Int32, Error, Sendable {
    case done = 0
    case failed = 1
    /// Of `status --nagios` alone, which counts 0 ok, 1 warning, 2 critical, 3 unknown.
    case critical = 2
    /// Finished, but some items could not be read or kept changing.
    case incomplete = 3
    case noRepository = 10
    case locked = 11
    case wrongPassword = 12
    case unreachable = 20
    case dumpFailed = 21
    case noCatalogue = 22
    case noSpace = 23
    /// A check found damage.
    case damaged = 25
    /// The host's repository may not grow any more (`size_limit:`).
    case overLimit = 26
    case usage = 64
    case configuration = 78
    case interrupted = 130
}

/// A failure with its exit status: what happened, where, and what to do next.
package struct CommandFailure: Error, CustomStringConvertible {
    package let code: ExitCode
    package let description: String

    package init(_ code: ExitCode, _ description: String) {
        self.code = code
        self.description = description
    }
}
