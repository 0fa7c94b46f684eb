import Glibc
import Posix

/// What a killed run left behind. Only the holder of the host's run lock calls these, before it writes.
extension Repository {
    /// Removes temporary files of ours. Those of packs, index files and snapshots belong to whoever held the run lock
    /// before, and one that was only stopped then finds nothing to put into place. Those of keys, of locks and of
    /// `holdfast/` go when they were last written before `time`: younger ones may belong to another process that is
    /// adding one.
    /// - Parameter time: When the run lock was taken, nanoseconds since 1970-01-01T00:00:00Z.
    /// - Returns: The paths that were removed.
    package func removeLeftovers(before time: Int64) throws -> [String] {
        var removed: [String] = []
        let side = ["holdfast", "holdfast/pins", "holdfast/proofs"]
        for kind in Folder.allCases.map(\.rawValue) + ["data"] + side {
            let folder = "\(path)/\(kind)"
            let isSide = side.contains(kind) || kind == Folder.forgotten.rawValue
            let isHoldersOnly = kind != Folder.keys.rawValue && kind != Folder.locks.rawValue && !isSide
            let mark = Array((isSide ? Files.temporaryMark : Self.temporaryMark).utf8)
            guard Files.exists(folder) else { continue }
            for name in try Directory.names(folder) where name.firstRange(of: mark) != nil {
                let file = "\(folder)/\(String(decoding: name, as: UTF8.self))"
                do throws(SystemCallError) {
                    let written = try FileStatus(path: file, follow: false).mtime
                    guard isHoldersOnly || written < time else { continue }
                } catch {
                    if error.code == ENOENT { continue }
                    throw error
                }
                try Files.remove(file)
                removed.append(file)
            }
        }
        return removed
    }

    /// Makes the names durable that a killed run gave to index files and snapshots or moved: it may have ended before it
    /// synced their folders, and what comes now relies on them.
    package func syncNames() throws {
        for folder in [Folder.index, .snapshots, .forgotten] where Files.exists("\(path)/\(folder.rawValue)")
        {
            try Files.syncDirectory("\(path)/\(folder.rawValue)")
        }
    }

    /// What became of packs that no index listed.
    package struct Adoption: Sendable {
        /// Packs that are listed now.
        package var adopted: [BlobID] = []
        /// Packs that failed and lie in `holdfast/aside` now, with the reason.
        package var aside: [DamagedCopy] = []
    }

    /// Verifies packs under final names that no index lists (their hash, header and every blob) and lists them,
    /// so that what a killed run stored is used by the next. One that fails is set aside.
    ///
    /// It reads each such pack in full; the writer lists packs every five minutes, which bounds them. Packs that `prune`
    /// has taken out of the index are none of them: what they hold is stored anew where it is needed again.
    /// - Parameter index: All index files, loaded by the caller; what is adopted is added.
    package func adoptOrphanPacks(into index: inout BlobIndex) throws -> Adoption {
        let orphans = try listPacks().filter { !index.contains(pack: $0) }
        if orphans.isEmpty { return Adoption() }
        // Without a journal that can be read they are listed again, which costs time, not safety.
        let doomed = (try? doomedPacks()) ?? [:]
        return try adopt(orphans.filter { doomed[$0] == nil }, into: &index)
    }

    /// Verifies packs that no index lists and lists them, or sets them aside.
    func adopt(_ orphans: [BlobID], into index: inout BlobIndex) throws -> Adoption {
        var result = Adoption()
        if orphans.isEmpty { return result }
        let reader = try BlobReader(self, index)
        var found: [(id: BlobID, blobs: [PackedBlob])] = []
        for pack in orphans {
            do {
                found.append((pack, try reader.verify(pack: pack)))
            } catch let damage as DamagedCopy {
                try setAside("data/\(pack.hex.prefix(2))/\(pack)")
                result.aside.append(damage)
            }
        }
        for folder in Set(found.map { Files.parent(packPath($0.id)) }) { try Files.syncDirectory(folder) }
        try writeIndex(found)
        for pack in found {
            index.add(pack: pack.id, pack.blobs)
            result.adopted.append(pack.id)
        }
        return result
    }

    /// Moves a file, named from the repository's folder, to `holdfast/aside`, where nothing reads it.
    /// - Returns: Where it is now.
    @discardableResult
    package func setAside(_ file: String) throws -> String {
        let aside = "\(path)/holdfast/aside"
        try Files.makeDirectories(aside)
        let name = file.split(separator: "/").joined(separator: "-")
        let target = "\(aside)/\(Time.compact(Time.now()))-\(randomHex(4))-\(name)"
        try Files.rename("\(path)/\(file)", to: target)
        try Files.syncDirectory(aside)
        try Files.syncDirectory(Files.parent("\(path)/\(file)"))
        return target
    }

    /// Sets a snapshot aside that is not to be used.
    @discardableResult
    package func setAside(snapshot id: BlobID) throws -> String { try setAside("snapshots/\(id)") }

    /// The trees of snapshots that were set aside, as far as their files can be read.
    package func treesAside() throws -> [BlobID] {
        try sideFiles(in: "aside").compactMap { name in
            guard name.dropLast(64).hasSuffix("-snapshots-"), let id = BlobID(hex: name.suffix(64)) else {
                return nil
            }
            guard let text = try? read(.snapshots, id, at: sidePath(name)) else { return nil }
            return try? Snapshot(parsing: text).tree
        }
    }
}
