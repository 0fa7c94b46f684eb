package import JSON
package import Posix

/// Stock restic on one repository. It never uses a cache.
package struct Restic: Sendable {
    package let repository: String
    package let password: String
    /// The program, looked up in PATH when it holds no `/`.
    package let program: String

    package init(_ repository: String, password: String, program: String = "restic") {
        self.repository = repository
        self.password = password
        self.program = program
    }

    /// A release of restic that is installed here, or that `deploy/restics` fetched.
    package struct Version: Sendable {
        package let program: String
        /// `restic 0.14.0`.
        package let name: String

        package func on(_ repository: String, password: String) -> Restic {
            Restic(repository, password: password, program: program)
        }
    }

    /// The installed one first, then newer ones below `.build/restics`.
    package static let versions: [Version] = {
        let folder = Files.parent(Files.parent(Files.parent(#filePath))) + "/.build/restics"
        let names = ((try? Directory.names(folder)) ?? []).map { String(decoding: $0, as: UTF8.self) }
            .sorted()
        return (["restic"] + names.map { "\(folder)/\($0)/usr/bin/restic" }).compactMap { program in
            guard let said = try? output(of: [program, "version"]) else { return nil }
            return Version(
                program: program,
                name: said.split(separator: " ").prefix(2).joined(separator: " ")
            )
        }
    }()

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
            [program, "--no-cache", "-r", repository] + arguments,
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
