import Glibc
import Posix

extension Check {
    /// What the index says of a pack.
    struct ListedPack {
        let id: BlobID
        var blobs = 0
        /// Bytes of the whole file.
        var size = Sealer.overhead + 4
        /// Bytes found on disk; nil when it is missing.
        var actual: Int?
    }

    /// Whether all packs that are listed are there, have the right size, and are listed from end to end.
    ///
    /// - Returns: The packs of the index, and those on disk that are not in it.
    func checkPacks() throws -> (listed: [ListedPack], unlisted: [BlobID]) {
        var listed: [BlobID: ListedPack] = [:]
        for id in index.packs { listed[id] = ListedPack(id: id) }
        var ends: [BlobID: Ends] = [:]
        index.forEach { pack, blob in
            listed[pack]?.blobs += 1
            listed[pack]?.size += Int(blob.stored) + PackHeader.entrySize(blob)
            ends[pack, default: Ends()].add(blob)
        }
        let unlisted = try repository.listPacks().filter { listed[$0] == nil }
        // A damaged journal has its finding.
        let doomed = (try? repository.doomedPacks()) ?? [:]
        let waiting = unlisted.count { doomed[$0] != nil }
        if unlisted.count > waiting {
            report.notes.append(
                "\(unlisted.count - waiting) packs are in no index (left by a run that was cut off; harmless, pruned later)"
            )
        }
        if waiting > 0 {
            report.notes.append("\(waiting) packs that nothing needs wait for the next prune to delete them")
        }
        try readHeaders(of: unlisted)
        report.packs.all = listed.count
        for id in listed.keys.sorted() {
            do throws(SystemCallError) {
                let expected = listed[id]?.size ?? 0
                var seen = 0
                let size = try settled(
                    pack: id,
                    { () throws in
                        seen = Int(try FileStatus(path: repository.packPath(id)).size)
                        if seen != expected {
                            throw Failure(
                                reason: "it has \(seen) bytes, but what is listed in it takes \(expected)"
                            )
                        }
                        return seen
                    }
                )
                report.packs.checked += 1
                switch size {
                case .success: listed[id]?.actual = seen
                case .failure where !Files.exists(repository.packPath(id)):
                    find(.missingPack(id), "it is missing")
                    badPacks.insert(id)
                case .failure(let failure):
                    listed[id]?.actual = seen
                    find(.wrongPackSize(id, expected: expected, actual: seen), failure.reason)
                    if seen < expected { badPacks.insert(id) }
                }
            } catch {
                skip(\.packs, error)
            }
            if ends[id]?.meet != true && listed[id]?.blobs != 0 {
                find(.impossibleListing(id), "what the index lists in it overlaps or leaves gaps")
            }
            tell(.packs, UInt64(report.packs.checked), UInt64(listed.count))
        }
        return (listed.values.sorted { $0.id < $1.id }, unlisted)
    }

    /// Where blobs begin and end in one pack, as one sum: blobs that fill a pack without gaps each begin where another
    /// ends, but for the first, which begins at 0, and the last, which ends where all of them together end. Sums of
    /// random numbers for the places agree by chance once in 2^64.
    private struct Ends {
        private static let seed = UInt64.random(in: .min ... .max)
        private var sum: UInt64 = 0
        private var body = 0

        private static func mark(_ place: Int) -> UInt64 {
            var mixed = (UInt64(bitPattern: Int64(place)) ^ seed) &* 0x9E37_79B9_7F4A_7C15
            mixed = (mixed ^ mixed >> 32) &* 0xD6E8_FEB8_6659_FD93
            return mixed ^ mixed >> 29
        }

        mutating func add(_ blob: PackedBlob) {
            sum &+= Self.mark(Int(blob.offset)) &- Self.mark(Int(blob.offset) + Int(blob.stored))
            body += Int(blob.stored)
        }

        var meet: Bool { sum == Self.mark(0) &- Self.mark(body) }
    }

    // MARK: Packs that no index lists

    private func readHeaders(of unlisted: [BlobID]) throws {
        everything = index
        let reader = try BlobReader(repository, index)
        for pack in unlisted {
            // One that cannot be read is none that anything can be found in.
            if let blobs = try? reader.header(of: pack) { everything.add(pack: pack, blobs) }
        }
    }

    /// Findings about the packs that the trees led to although no index lists them.
    func unlistedButNeeded() -> [ListedPack] {
        var result: [ListedPack] = []
        for id in neededPacks.sorted() {
            find(
                .unlistedPack(id),
                "no index file lists it: one was lost or damaged; nothing that is in the pack is lost, and "
                    + "restic repair index (before 0.16: rebuild-index) lists it again"
            )
            var pack = ListedPack(id: id)
            pack.blobs = listed(in: id).count
            pack.actual = (try? FileStatus(path: repository.packPath(id))).map { Int($0.size) }
            result.append(pack)
        }
        return result
    }

    /// Reads the packs that nothing needs: they are what their names say, or of no use to anybody.
    func checkUnlisted(_ unlisted: [BlobID]) throws {
        let reader = try BlobReader(repository, index)
        for pack in unlisted {
            do throws(SystemCallError) {
                if case .failure(let failure) = try settled(pack: pack, { try reader.verify(pack: pack) }) {
                    // The next run of a stock client, or of ours, may have taken it away.
                    guard Files.exists(repository.packPath(pack)) else { continue }
                    find(
                        .changedPack(pack),
                        failure.reason
                            + "; no index lists it and nothing needs it: the next backup sets it aside"
                    )
                }
            } catch {
                find(.unreadPack(pack), "\(error)")
            }
        }
    }

    /// Reads every pack whole.
    func checkData(_ packs: [ListedPack]) throws {
        let reader = try BlobReader(repository, everything)
        let total = packs.reduce(0) { $0 + UInt64($1.actual ?? 0) }
        report.packsRead.all = packs.count
        report.blobsRead.all = packs.reduce(0) { $0 + $1.blobs }
        for pack in packs {
            guard pack.actual != nil else {
                let reason = badPacks.contains(pack.id) ? "the pack is missing" : "the pack cannot be reached"
                report.packsRead.skip(reason)
                report.blobsRead.skip(reason, pack.blobs)
                continue
            }
            do throws(SystemCallError) {
                try checkData(pack, reader, total)
                report.packsRead.checked += 1
            } catch {
                skip(\.packsRead, error)
                report.blobsRead.skip(error.reason, pack.blobs)
            }
        }
    }

    private func checkData(_ pack: ListedPack, _ reader: BlobReader, _ total: UInt64) throws(SystemCallError)
    {
        let before = report.bytesRead
        var changed: String?
        var unread: String?
        do throws(SystemCallError) {
            let whole = try settled(
                pack: pack.id,
                { () throws in
                    let actual = try reader.hash(of: pack.id)
                    if actual != pack.id { throw Failure(reason: "the file has the SHA-256 \(actual)") }
                }
            )
            if case .failure(let failure) = whole { changed = failure.reason }
        } catch {
            // The blobs are looked at one by one: most of them may be readable.
            guard error.isReadFailure else { throw error }
            unread = "\(error)"
        }
        if let changed { find(.changedPack(pack.id), changed) }
        var blobs = listed(in: pack.id)
        do throws(SystemCallError) {
            switch try settled(pack: pack.id, { try reader.header(of: pack.id) }) {
            case .success(let header):
                // As many as the index has and each of them in the index: the same blobs.
                let known = header.filter { blob in
                    everything.copies(blob.id, blob.kind).contains { $0.pack == pack.id && $0.blob == blob }
                }
                if known.count != header.count || header.count != pack.blobs {
                    let reason =
                        "its header lists \(header.count) blobs, the index \(pack.blobs), both \(known.count)"
                    find(.packDiffersFromIndex(pack.id), reason)
                } else {
                    blobs = header
                }
            case .failure(let failure):
                find(
                    .damagedPackHeader(pack.id),
                    failure.reason + "; its blobs can be read as long as the index lists them"
                )
            }
        } catch {
            guard error.isReadFailure else { throw error }
            unread = "\(error)"
        }
        var found = false
        for blob in blobs {
            do throws(SystemCallError) {
                if case .failure(let failure) = try settled(
                    pack: pack.id,
                    { try reader.verify(blob, in: pack.id) }
                ) {
                    badCopies.append(
                        BadCopy(blob: blob, pack: pack.id, reason: failure.reason, isUnread: false)
                    )
                }
                report.blobsRead.checked += 1
            } catch {
                guard error.isReadFailure else { throw error }
                badCopies.append(BadCopy(blob: blob, pack: pack.id, reason: "\(error)", isUnread: true))
                report.blobsRead.skip(error.reason)
                found = true
            }
            report.bytesRead += UInt64(blob.stored)
            tell(.data, report.bytesRead, total)
        }
        if let unread, !found { find(.unreadPack(pack.id), unread) }
        report.bytesRead = before + UInt64(pack.actual ?? 0)
    }

    private func listed(in pack: BlobID) -> [PackedBlob] {
        var result: [PackedBlob] = []
        everything.forEach { if $0 == pack { result.append($1) } }
        return result.sorted { $0.offset < $1.offset }
    }

    /// Turns copies that are bad into findings, once it is known which other copies are good.
    func judgeCopies() {
        var badPlaces: [BlobKey: Set<BlobID>] = [:]
        for copy in badCopies {
            badPlaces[BlobKey(id: copy.blob.id, kind: copy.blob.kind), default: []].insert(copy.pack)
        }
        for copy in badCopies {
            let key = BlobKey(id: copy.blob.id, kind: copy.blob.kind)
            let good = everything.copies(copy.blob.id, copy.blob.kind).contains { other in
                !badPacks.contains(other.pack) && badPlaces[key]?.contains(other.pack) != true
            }
            let (id, kind, pack) = (copy.blob.id, copy.blob.kind, copy.pack)
            find(
                copy.isUnread
                    ? .unreadBlob(id, kind, pack: pack, onlyCopy: !good)
                    : .damagedBlob(id, kind, pack: pack, onlyCopy: !good),
                copy.reason + (good ? "; another pack holds an intact copy" : "")
            )
        }
    }
}
