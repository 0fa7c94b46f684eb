import Glibc
import JSON
import Posix
import Testing

import Repository

/// The vectors beside this file.
enum Vectors {
    static let folder = Files.parent(#filePath) + "/Vectors"

    static func load() throws -> JSON {
        try JSON(parsing: try Files.read("\(folder)/vectors.json"))
    }

    static let repositories = ["repo-v2-restic0.14", "repo-v2-restic0.19"]
    static let passwords = ["correct horse battery staple", "zweites Paßwort"]
}

/// A folder that goes with this value.
struct ScratchFolder: ~Copyable {
    let path: String

    init() throws {
        path = "/tmp/holdfast-test-\(randomHex(8))"
        try Files.makeDirectories(path)
    }
    deinit { try? Files.removeTree(path) }

    /// Unpacks one of the vector repositories; returns its path.
    func unpack(_ name: String) throws -> String {
        let target = "\(path)/\(name)"
        try Files.makeDirectories(target)
        let result = try ChildProcess.run([
            "tar", "-xzf", "\(Vectors.folder)/\(name).tar.gz", "-C", target,
        ])
        try #require(result.end == .exit(0), "\(String(decoding: result.error, as: UTF8.self))")
        // The archive holds one folder.
        for found in try Directory.names(target) {
            let inner = "\(target)/\(String(decoding: found, as: UTF8.self))"
            if Files.exists("\(inner)/config") { return inner }
        }
        return target
    }
}

/// Runs stock restic and returns what it printed.
@discardableResult
func restic(_ repository: String, password: String, _ arguments: [String], succeeds: Bool = true) throws
    -> String
{
    let result = try ChildProcess.run(
        ["restic", "--no-cache", "-r", repository] + arguments,
        environment: ["RESTIC_PASSWORD": password]
    )
    let text =
        String(decoding: result.output, as: UTF8.self) + String(decoding: result.error, as: UTF8.self)
    #expect((result.end == .exit(0)) == succeeds, "restic \(arguments): \(result.end)\n\(text)")
    return text
}

/// Bytes that look random and are the same for the same seed.
func noise(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        for index in 0..<count {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            buffer[index] = UInt8(truncatingIfNeeded: state >> 24)
        }
        initialized = count
    }
}

/// Whether this user may mount a file system that lives in memory.
func canMount(_ type: String) -> Bool {
    guard let scratch = try? ScratchFolder() else { return false }
    let mount = try? ChildProcess.run(["mount", "-t", type, "-o", "size=1m", type, scratch.path])
    guard mount?.end == .exit(0) else { return false }
    _ = try? ChildProcess.run(["umount", scratch.path])
    return true
}
