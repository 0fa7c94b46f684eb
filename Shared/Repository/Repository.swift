import Glibc
import JSON
import Posix

/// An open repository in restic's format, version 2: where it is, its master key and its configuration.
///
/// It holds no context and nothing that changes, so any number of threads may use one at the same time, each
/// with a `BlobReader` of its own over one `BlobIndex`. One `BlobWriter` at a time, for the holder of the
/// host's run lock.
///
/// Guarantees that hold at every moment, also when a writer is killed: a snapshot names only trees that are
/// stored durably, an index only packs that are, and a file under its final name is whole. The order of writes
/// is packs, index, snapshot; each is synced before the next begins.
package final class Repository: Sendable {
    /// Without a `/` at its end.
    package let path: String
    package let config: RepositoryConfig
    package let master: MasterKey

    private init(path: String, config: RepositoryConfig, master: MasterKey) {
        self.path = path
        self.config = config
        self.master = master
    }

    /// Folders of files that are sealed whole or, for keys, are plain JSON.
    package enum Folder: String, Sendable, CaseIterable {
        case keys, snapshots, index, locks
        /// Snapshots that wait for the end of their grace.
        case forgotten = "holdfast/forgotten"

        /// The most that a file of this kind may hold once decompressed, in bytes.
        var limit: Int {
            switch self {
            case .keys, .locks: 1 << 20
            case .snapshots, .forgotten: 64 << 20
            case .index: 1 << 30
            }
        }
    }

    // MARK: Making

    /// Makes a repository in a folder that is missing or empty (or holds only what an unfinished `create` left),
    /// with one key file for each of `keys`: keys first, `config` last.
    /// - Throws: `alreadyThere`, `folderInUse`.
    package static func create(at path: String, keys: [NewKey]) throws -> Repository {
        let path = trimmed(path)
        guard !keys.isEmpty else { throw RepositoryError.invalid("a repository needs a key") }
        try prepareFolder(path)
        for folder in Folder.allCases { try Files.makeDirectories("\(path)/\(folder.rawValue)") }
        try Files.makeDirectories("\(path)/holdfast")
        let data = "\(path)/data"
        try Files.makeDirectories(data)
        for value in 0..<256 { try Files.makeDirectories("\(data)/\(hex([UInt8(value)]))") }
        try Files.syncDirectory(data)

        let master = try MasterKey.random()
        let config = RepositoryConfig(id: randomHex(32), polynomial: Polynomial.random())
        let repository = Repository(path: path, config: config, master: master)
        for key in keys { _ = try repository.addKey(key) }
        // `config` is never compressed.
        try Files.writeAtomically(Sealer(master).seal(config.encoded()), to: "\(path)/config")
        try Files.syncDirectory(Files.parent(path))
        return repository
    }

    private static func prepareFolder(_ path: String) throws {
        try Files.makeDirectories(path)
        if Files.exists("\(path)/config") { throw RepositoryError.alreadyThere(path: path) }
        let known = Set((Folder.allCases.map(\.rawValue) + ["data", "holdfast"]).map { Array($0.utf8) })
        for name in try Directory.names(path) {
            if known.contains(name) {
                // Only key files and temporary files may be in the folders of an unfinished repository.
                let folder = "\(path)/\(String(decoding: name, as: UTF8.self))"
                guard name == Array("keys".utf8) else {
                    if let found = try firstFile(folder) {
                        throw RepositoryError.folderInUse(path: path, found: found)
                    }
                    continue
                }
            } else if !name.starts(with: Array("config-tmp-".utf8)) {
                throw RepositoryError.folderInUse(path: path, found: escaped(name))
            }
        }
        // Keys of another master key than the one to come would open it and fail.
        try Files.removeTree("\(path)/keys")
        for name in try Directory.names(path) where name.starts(with: Array("config-tmp-".utf8)) {
            try Files.remove("\(path)/\(String(decoding: name, as: UTF8.self))")
        }
    }

    private static func firstFile(_ folder: String) throws -> String? {
        for name in try Directory.names(folder) {
            let text = String(decoding: name, as: UTF8.self)
            let path = "\(folder)/\(text)"
            if try FileStatus(path: path, follow: false).kind == .directory {
                if let found = try firstFile(path) { return found }
            } else {
                return path
            }
        }
        return nil
    }

    private static func trimmed(_ path: String) -> String {
        var path = path
        while path.count > 1 && path.hasSuffix("/") { path.removeLast() }
        return path
    }

    // MARK: Opening

    /// Opens with a password, used as it is.
    /// - Throws: `noRepository`, `wrongPassword`, `unsupportedVersion`; `damaged` for the configuration, and for a key
    ///   file when none opens.
    package static func open(at path: String, password: String) throws -> Repository {
        try open(at: path) { try $0.open(Array(password.utf8)) }
    }

    /// Opens with the fleet's recovery key, without the passphrase and at no cost.
    package static func open(at path: String, recovery: RecoveryKey) throws -> Repository {
        try open(at: path) { file in
            guard file.salt == recovery.salt && file.cost == recovery.cost else { return nil }
            return try file.open(derived: recovery.derived)
        }
    }

    /// As many key files as stock restic looks at.
    private static let mostKeys = 20

    /// Opens with the first master key that `attempt` makes of a key file; those that cost least to try come first.
    /// - Throws: As `open(at:password:)`.
    package static func open(at path: String, _ attempt: (KeyFile) throws -> MasterKey?) throws -> Repository
    {
        let path = trimmed(path)
        let sealed: [UInt8]
        do throws(SystemCallError) { sealed = try Files.read("\(path)/config", limit: 1 << 20) } catch {
            if error.code == ENOENT || error.code == ENOTDIR {
                throw RepositoryError.noRepository(path: path)
            }
            throw error
        }
        var unreadable: [String] = []
        var damaged: RepositoryError?
        var keys: [(id: BlobID, key: KeyFile)] = []
        let names = try listed("\(path)/keys")
        for id in names.prefix(mostKeys) {
            let file = "\(path)/keys/\(id)"
            let text = try Files.read(file, limit: Folder.keys.limit)
            // It is tried all the same: what was changed may not matter to it.
            if try BlobID.hash(of: text) != id {
                damaged =
                    damaged
                    ?? .damaged(
                        file: file,
                        reason: "its content is not what its name says, and no other key opens"
                    )
            }
            do throws(KeyFile.Unreadable) { keys.append((id, try KeyFile(parsing: text))) } catch {
                unreadable.append("\(file) (\(error.reason))")
            }
        }
        // A try of the recovery key costs a thousand times as much as one of the host's own.
        for (id, key) in keys.sorted(by: { $0.key.cost.work < $1.key.cost.work }) {
            guard let master = try attempt(key) else { continue }
            guard let plain = try Sealer(master).open(sealed) else {
                throw RepositoryError.damaged(
                    file: "\(path)/config",
                    reason: "the key \(id.short) opens but does not open it"
                )
            }
            let config = try RepositoryConfig(decoding: plain, path: path)
            return Repository(path: path, config: config, master: master)
        }
        throw damaged ?? RepositoryError.wrongPassword(path: path, keys: names.count, unreadable: unreadable)
    }

    // MARK: Keys

    /// Adds a key file for the same master key.
    /// - Returns: The name of the file.
    /// - Throws: `invalid` when there are 20 already.
    package func addKey(_ key: NewKey) throws -> BlobID {
        guard try list(.keys).count < Self.mostKeys else {
            throw RepositoryError.invalid(
                "the repository \(path) has \(Self.mostKeys) keys, and no client looks at more; "
                    + "remove one with: restic -r \(path) key remove ID"
            )
        }
        let text = try KeyFile.make(key, master: master)
        let id = try BlobID.hash(of: text)
        try write(text, named: id, in: .keys)
        return id
    }

    /// Whether one of the keys was made from `recovery`.
    package func hasKey(_ recovery: RecoveryKey) throws -> Bool {
        for id in try list(.keys) {
            let text = try Files.read("\(path)/keys/\(id)", limit: Folder.keys.limit)
            guard let key = try? KeyFile(parsing: text), key.salt == recovery.salt, key.cost == recovery.cost
            else { continue }
            if try key.open(derived: recovery.derived) != nil { return true }
        }
        return false
    }
}

/// The plaintext of `config`.
package struct RepositoryConfig: Equatable, Sendable {
    /// 64 hexadecimal digits; names the folder of a stock client's cache.
    package let id: String
    let polynomial: UInt64

    init(id: String, polynomial: UInt64) {
        self.id = id
        self.polynomial = polynomial
    }

    init(decoding plain: [UInt8], path: String) throws {
        func damaged(_ reason: String) -> RepositoryError {
            .damaged(file: "\(path)/config", reason: reason)
        }
        let json: JSON
        do { json = try JSON(parsing: plain) } catch { throw damaged("\(error)") }
        guard let version = json["version"]?.int else { throw damaged("it names no version") }
        guard version == 2 else { throw RepositoryError.unsupportedVersion(path: path, version: version) }
        guard let id = json["id"]?.string, BlobID(hex: id) != nil else { throw damaged("it names no id") }
        self.id = id
        polynomial = json["chunker_polynomial"]?.string.flatMap { UInt64($0, radix: 16) } ?? 0
    }

    package func encoded() -> [UInt8] {
        JSON([
            ("version", 2), ("id", JSON(id)), ("chunker_polynomial", JSON(String(polynomial, radix: 16))),
        ]).encoded()
    }
}
