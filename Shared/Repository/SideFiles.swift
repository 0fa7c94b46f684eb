import Glibc
import JSON
import Posix

/// The folder `holdfast/` of a repository, which stock clients ignore: what must survive the catalogue and has
/// no place in restic's format. Every write is atomic and durable.
///
/// | file | content |
/// | --- | --- |
/// | `host.json` | `HostRecord`: the host's name and its agents' public keys |
/// | `epoch` | the highest epoch that a holder ever had, as a decimal number |
/// | `interrupted` | sealed: the checkpoint of an interrupted capture |
/// | `aside/` | files that failed verification or fencing, kept for a person to look at |
extension Repository {
    /// Path of a file of the folder. Names are components of letters, digits, `.`, `-` and `_`, with `/` between.
    /// - Throws: `invalid` for any other name.
    package func sidePath(_ name: String) throws(RepositoryError) -> String {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        let allowed = parts.allSatisfy { part in
            !part.isEmpty && part != "." && part != ".."
                && part.utf8.allSatisfy { byte in
                    (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
                        || (0x61...0x7A).contains(byte) || byte == 0x2D || byte == 0x2E || byte == 0x5F
                }
        }
        guard allowed else { throw .invalid("\(escaped(name.utf8)) is no name for a file of holdfast/") }
        return "\(path)/holdfast/\(name)"
    }

    /// A file of the folder, nil when it is not there.
    package func readSide(_ name: String, limit: Int = 256 << 20) throws -> [UInt8]? {
        let file = try sidePath(name)
        do throws(SystemCallError) { return try Files.read(file, limit: limit) } catch {
            if error.code == ENOENT { return nil }
            throw error
        }
    }

    package func writeSide(_ name: String, _ bytes: [UInt8]) throws {
        let file = try sidePath(name)
        try Files.makeDirectories(Files.parent(file))
        try Files.writeAtomically(bytes, to: file)
    }

    /// Removes a file of the folder; one that is not there is no error.
    package func removeSide(_ name: String) throws {
        let file = try sidePath(name)
        guard Files.exists(file) else { return }
        try Files.remove(file)
        try Files.syncDirectory(Files.parent(file))
    }

    // MARK: Sealed

    /// The plaintext begins with its purpose, because restic's seal does not tell one kind of file from another.
    private func purpose(_ name: String) -> [UInt8] { Array("holdfast sealed 1 \(name)\n".utf8) }

    /// Seals `bytes` with the repository's key and writes them.
    package func writeSealed(_ name: String, _ bytes: [UInt8]) throws {
        try writeSide(name, Sealer(master).seal(purpose(name) + bytes))
    }

    /// What `writeSealed` was given, nil when the file is not there.
    /// - Throws: `damaged` when it was changed or belongs elsewhere.
    package func readSealed(_ name: String) throws -> [UInt8]? {
        guard let sealed = try readSide(name) else { return nil }
        let purpose = purpose(name)
        guard let plain = try Sealer(master).open(sealed), plain.starts(with: purpose) else {
            throw RepositoryError.damaged(
                file: try sidePath(name),
                reason: "its seal does not open with the repository's key"
            )
        }
        return Array(plain.dropFirst(purpose.count))
    }

    // MARK: The epoch

    /// The highest epoch that was ever recorded; 0 before the first.
    package func epoch() throws -> Int64 {
        guard let bytes = try readSide("epoch", limit: 4096) else { return 0 }
        let text = String(decoding: bytes, as: UTF8.self).filter { !$0.isNewline }
        guard let value = Int64(text), value >= 0 else {
            throw RepositoryError.damaged(file: try sidePath("epoch"), reason: "it holds no number")
        }
        return value
    }

    /// Records an epoch. The number never goes back: a lower one changes nothing.
    /// - Returns: The highest now.
    @discardableResult
    package func recordEpoch(_ value: Int64) throws -> Int64 {
        let folder = "\(path)/holdfast"
        try Files.makeDirectories(folder)
        // Between reading and writing no other process may come.
        let guardian = try FileDescriptor(open: folder, O_RDONLY | O_DIRECTORY)
        _ = try retryingOnInterrupt("flock", folder) { flock(guardian.raw, LOCK_EX) }
        let current = try epoch()
        guard value > current else { return current }
        try writeSide("epoch", Array("\(value)\n".utf8))
        return value
    }

    // MARK: The host

    package func hostRecord() throws -> HostRecord? {
        guard let bytes = try readSide("host.json") else { return nil }
        do { return try HostRecord(parsing: bytes) } catch {
            throw RepositoryError.damaged(file: try sidePath("host.json"), reason: "\(error)")
        }
    }

    package func writeHostRecord(_ record: HostRecord) throws {
        try writeSide("host.json", record.encoded())
    }
}

/// Whose repository this is.
package struct HostRecord: Equatable, Sendable {
    package var name: String
    /// Public keys of the host's agents, in OpenSSH's one-line form.
    package var agentKeys: [String]

    package init(name: String, agentKeys: [String]) {
        self.name = name
        self.agentKeys = agentKeys
    }

    init(parsing bytes: [UInt8]) throws {
        let json = try JSON(parsing: bytes)
        guard let name = json["name"]?.string, let keys = json["agent_keys"]?.strings else {
            throw RepositoryError.invalid("it names no host")
        }
        self.init(name: name, agentKeys: keys)
    }

    func encoded() -> [UInt8] {
        JSON([("name", JSON(name)), ("agent_keys", JSON(agentKeys))]).encoded(pretty: true)
    }
}
