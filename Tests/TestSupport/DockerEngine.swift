import Glibc
import Posix

/// A private Docker Engine for tests: nothing is shared with an engine that the machine already runs. It needs
/// root or sudo and the Debian package docker.io; without them `init` throws. It goes down with `stop`, with
/// this value, or with this process, however that ends.
package final class DockerEngine: Sendable {
    /// The engine's folder.
    package let folder: String
    /// The value for `DOCKER_HOST`.
    package let address: String

    /// Starts an engine, about 0.4 s.
    ///
    /// - Parameter folder: Where its data goes; by default a new folder, which `stop` removes.
    package init(folder: String? = nil) throws {
        self.folder = folder ?? "/tmp/holdfast-engine-\(randomHex(4))"
        address = try Self.script(["up", self.folder, "--while", "\(getpid())"])
        ownsFolder = folder == nil
    }
    deinit { stop() }

    private let ownsFolder: Bool

    /// Makes an image from this machine's newest PostgreSQL (server, clients, a shell and small tools), with its
    /// first name and further tags, about 2 s.
    package func makeImage(_ names: String...) throws { _ = try Self.script(["image", folder] + names) }

    /// Runs the docker command on this engine and returns what it prints; throws when it fails.
    @discardableResult
    package func docker(_ arguments: String..., input: [UInt8] = []) throws -> String {
        try output(of: ["docker"] + arguments, environment: ["DOCKER_HOST": address], input: input)
    }

    /// Removes the engine's containers, stops it and removes its mounts; nothing happens a second time.
    package func stop() {
        _ = try? Self.script(["down", folder])
        if ownsFolder { try? Files.removeTree(folder) }
    }

    private static func script(_ arguments: [String]) throws -> String {
        try output(of: ["\(sampleHostScripts)/engine"] + arguments)
    }
}

/// The folder of the scripts that start engines and sample hosts.
let sampleHostScripts = Files.parent(Files.parent(#filePath)) + "/Fixtures/sample-host"

/// A program of a test that did not do what it was started for.
package struct ProgramFailed: Error, CustomStringConvertible {
    package let description: String
}

/// What a program prints, without the last line's end; throws with its last words when it fails.
func output(of arguments: [String], environment: [String: String?] = [:], input: [UInt8] = []) throws
    -> String
{
    let result = try ChildProcess.run(arguments, environment: environment, input: input)
    guard result.end == .exit(0) else {
        let said = String(decoding: result.error.suffix(2000), as: UTF8.self)
        throw ProgramFailed(description: "\(arguments.joined(separator: " ")): \(result.end): \(said)")
    }
    var text = String(decoding: result.output, as: UTF8.self)
    if text.hasSuffix("\n") { text.removeLast() }
    return text
}
