import Glibc
import JSON
import Posix

/// The folder `holdfast/` of a repository, which stock clients ignore: what must survive the catalogue and has
/// no place in restic's format. Every write is atomic and durable.
///
/// | file | content |
/// | --- | --- |
/// | `host` | `HostRecord`: the host's name, when it came and went, its agents' public keys |
/// | `epoch` | the highest epoch that a holder ever had, as a decimal number |
/// | `interrupted` | the checkpoint of an interrupted capture |
/// | `interrupted.log` | in sealed batches, what it stored after that checkpoint |
/// | `pins/ID` | `PinRecord`: why the snapshot ID must not be forgotten |
/// | `proofs/ID-LEVEL` | `ProofRecord`: the newest proof of that level of the snapshot ID |
/// | `forgotten/ID` | the file of a forgotten snapshot as it was in `snapshots/`, until its grace is over |
/// | `forgotten/ID.when` | when it was forgotten, RFC 3339 in UTC |
/// | `doomed` | packs that `prune` has taken out of the index, and when; a later run deletes them |
/// | `aside/` | files that failed verification or fencing, kept for a person to look at |
///
/// All but those in `aside/` are sealed, so that a changed byte is noticed and none can be swapped with another: a
/// snapshot with restic's seal, under a name that is its content's hash. `host.json` and an `epoch` of plain digits,
/// which earlier versions wrote, are read too.
///
/// A fact that stands in the catalogue too is written here first and into its row second, so that what exists in
/// one place only is always here, and `catalogue rebuild` finds it.
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
        let folder = Files.parent(file)
        if !Files.exists(folder) {
            try Files.makeDirectories(folder)
            try Files.syncDirectory(Files.parent(folder))
        }
        try Files.writeAtomically(bytes, to: file)
    }

    /// Names of the files in `holdfast/` or in `folder` below it, in byte order, without those that are being written.
    package func sideFiles(in folder: String? = nil) throws -> [String] {
        let place = try folder.map { try sidePath($0) } ?? "\(path)/holdfast"
        do throws(SystemCallError) {
            var result: [String] = []
            let mark = Array(Files.temporaryMark.utf8)
            for name in try Directory.names(place) where name.firstRange(of: mark) == nil {
                let text = String(decoding: name, as: UTF8.self)
                if try FileStatus(path: "\(place)/\(text)", follow: false).kind != .directory {
                    result.append((folder.map { $0 + "/" } ?? "") + text)
                }
            }
            return result
        } catch {
            if error.code == ENOENT { return [] }
            throw error
        }
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
        return try openSealed(name, sealed)
    }

    private func openSealed(_ name: String, _ sealed: [UInt8]) throws -> [UInt8] {
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
        // Anything sealed is longer than the digits of an earlier version.
        let plain = bytes.count < Sealer.overhead ? bytes : try openSealed("epoch", bytes)
        // Without the newline it was cut off.
        guard plain.last == 0x0A, let value = Int64(String(decoding: plain.dropLast(), as: UTF8.self)),
            value >= 0
        else {
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
        try writeSealed("epoch", Array("\(value)\n".utf8))
        return value
    }

    // MARK: The host

    package func hostRecord() throws -> HostRecord? {
        let name = try readSide("host") == nil ? "host.json" : "host"
        guard let bytes = name == "host" ? try readSealed(name) : try readSide(name) else { return nil }
        do { return try HostRecord(parsing: bytes) } catch {
            throw RepositoryError.damaged(file: try sidePath(name), reason: "\(error)")
        }
    }

    package func writeHostRecord(_ record: HostRecord) throws {
        try writeSealed("host", record.encoded())
        try removeSide("host.json")
    }
}
