package import JSON
package import Posix

/// Stock restic on one repository. It never uses a cache.
package struct Restic: Sendable {
    package let repository: String
    package let password: String

    package init(_ repository: String, password: String) {
        self.repository = repository
        self.password = password
    }

    package struct Failed: Error, CustomStringConvertible {
        package let description: String
    }

    package struct Outcome {
        package let exit: ChildProcess.End
        package let output: [UInt8]
        package let error: [UInt8]
        package var text: String {
            String(decoding: output, as: UTF8.self) + String(decoding: error, as: UTF8.self)
        }
    }

    /// Runs restic to its end, whatever that is.
    package func attempt(_ arguments: [String]) throws -> Outcome {
        let result = try ChildProcess.run(
            ["restic", "--no-cache", "-r", repository] + arguments,
            environment: ["RESTIC_PASSWORD": password, "RESTIC_PROGRESS_FPS": nil],
            limit: 256 << 20
        )
        return Outcome(exit: result.end, output: result.output, error: result.error)
    }

    /// Runs restic, which must succeed, and returns what it printed.
    @discardableResult
    package func callAsFunction(_ arguments: String...) throws -> [UInt8] {
        let outcome = try attempt(arguments)
        guard outcome.exit == .exit(0) else {
            throw Failed(
                description: "restic \(arguments.joined(separator: " ")): \(outcome.exit)\n\(outcome.text)"
            )
        }
        return outcome.output
    }

    /// With `--json`: one value.
    package func json(_ arguments: String...) throws -> JSON {
        let outcome = try attempt(arguments + ["--json"])
        guard outcome.exit == .exit(0) else {
            throw Failed(
                description: "restic \(arguments.joined(separator: " ")): \(outcome.exit)\n\(outcome.text)"
            )
        }
        return try JSON(parsing: outcome.output)
    }

    /// With `--json`: one value for each line.
    package func jsonLines(_ arguments: String...) throws -> [JSON] {
        let outcome = try attempt(arguments + ["--json"])
        guard outcome.exit == .exit(0) else {
            throw Failed(
                description: "restic \(arguments.joined(separator: " ")): \(outcome.exit)\n\(outcome.text)"
            )
        }
        return try outcome.output.split(separator: 0x0A).map { try JSON(parsing: Array($0)) }
    }

    /// Makes a repository of format version 2.
    package static func create(_ path: String, password: String) throws -> Restic {
        let restic = Restic(path, password: password)
        try restic("init")
        return restic
    }
}
