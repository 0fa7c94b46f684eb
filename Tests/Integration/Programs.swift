import Glibc
import JSON
import Posix

/// The built programs and running them.
enum Programs {
    /// The folder of the package.
    static let package = Files.parent(Files.parent(Files.parent(#filePath)))

    /// Where the programs were built: beside the running test bundle.
    static let folder: String = {
        if let set = environmentVariables()["HOLDFAST_PROGRAMS"] { return set }
        let executable = (try? linkTarget("/proc/self/exe")) ?? ""
        let bundle = CommandLine.arguments.first { $0.contains(".xctest") } ?? executable
        for start in [bundle, executable] {
            var path = start
            while path != Files.parent(path) {
                path = Files.parent(path)
                if Files.exists(path + "/holdfast-coordinator") { return path }
            }
        }
        return package + "/.build/debug"
    }()

    static let coordinator = folder + "/holdfast-coordinator"
    static let agent = folder + "/holdfast-agent"

    /// Whether a program is in PATH.
    static func exists(_ name: String) -> Bool {
        (environmentVariables()["PATH"] ?? "").split(separator: ":").contains {
            access("\($0)/\(name)", X_OK) == 0
        }
    }

    private static func linkTarget(_ path: String) throws -> String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink(path, &buffer, buffer.count)
        return count < 0
            ? "" : String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// What a program printed, and how it ended.
struct Outcome: CustomStringConvertible {
    let status: Int32
    let output: String
    let error: String

    var json: JSON? { try? JSON(parsing: output) }
    var description: String { "exit status \(status)\n\(output)\n\(error)" }

    static func of(_ arguments: [String], environment: [String: String?] = [:]) throws -> Outcome {
        let (end, output, error) = try ChildProcess.run(arguments, environment: environment)
        let status: Int32 =
            switch end {
            case .exit(let code): code
            case .signal(let number): 128 + number
            }
        return Outcome(
            status: status,
            output: String(decoding: output, as: UTF8.self),
            error: String(decoding: error, as: UTF8.self)
        )
    }
}

/// Tries `body` every 20 ms until it gives something; throws `Late` after `seconds`.
func eventually<T>(_ what: String, seconds: Double = 30, _ body: () throws -> T?) throws -> T {
    let end = Time.monotonic() + Int64(seconds * 1e9)
    while Time.monotonic() < end {
        if let value = try body() { return value }
        Time.sleep(seconds: 0.02)
    }
    throw Late(what: what)
}

struct Late: Error { let what: String }
