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

    /// Whether all packs that are listed are there and have the right size.
    func checkPacks() throws -> [ListedPack] {
        var listed: [BlobID: ListedPack] = [:]
        for id in index.packs { listed[id] = ListedPack(id: id) }
        index.forEach { pack, blob in
            listed[pack]?.blobs += 1
            listed[pack]?.size += Int(blob.stored) + PackHeader.entrySize(blob)
        }
        var orphans = 0
        for id in try repository.listPacks() where listed[id] == nil { orphans += 1 }
        if orphans > 0 {
            report.notes.append(
                "\(orphans) packs are in no index (left by a run that was cut off; harmless, pruned later)"
            )
        }
        report.packs.all = listed.count
        for id in listed.keys.sorted() {
            do throws(SystemCallError) {
                let size = Int(try FileStatus(path: repository.packPath(id)).size)
                listed[id]?.actual = size
                let expected = listed[id]?.size ?? 0
                report.packs.checked += 1
                if size != expected {
                    let reason = "it has \(size) bytes, but what is listed in it takes \(expected)"
                    find(.wrongPackSize(id, expected: expected, actual: size), reason)
                    if size < expected { badPacks.insert(id) }
                }
            } catch {
                if error.code == ENOENT {
                    report.packs.checked += 1
                    find(.missingPack(id), "it is missing")
                    badPacks.insert(id)
                } else {
                    skip(\.packs, error)
                }
            }
            tell(.packs, UInt64(report.packs.checked), UInt64(listed.count))
        }
        return listed.values.sorted { $0.id < $1.id }
    }

    /// Reads every pack whole.
    func checkData(_ packs: [ListedPack]) throws {
        let reader = try BlobReader(repository, index)
        let total = packs.reduce(0) { $0 + UInt64($1.actual ?? 0) }
        report.packsRead.all = packs.count
        report.blobsRead.all = index.count
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
        switch try settled(
            pack: pack.id,
            { () throws in
                let actual = try reader.hash(of: pack.id)
                if actual != pack.id { throw Failure(reason: "the file has the SHA-256 \(actual)") }
            }
        ) {
        case .success: break
        case .failure(let failure):
            find(.changedPack(pack.id), failure.reason)
        }
        let blobs: [PackedBlob]
        switch try settled(pack: pack.id, { try reader.header(of: pack.id) }) {
        case .success(let header):
            // As many as the index has and each of them in the index: the same blobs.
            let known = header.filter { blob in
                index.copies(blob.id, blob.kind).contains { $0.pack == pack.id && $0.blob == blob }
            }
            if known.count == header.count && header.count == pack.blobs {
                blobs = header
            } else {
                let reason =
                    "its header lists \(header.count) blobs, the index \(pack.blobs), both \(known.count)"
                find(.packDiffersFromIndex(pack.id), reason)
                blobs = listed(in: pack.id)
            }
        case .failure(let failure):
            find(.damagedPackHeader(pack.id), failure.reason)
            blobs = listed(in: pack.id)
        }
        var checked = 0
        for blob in blobs {
            switch try settled(pack: pack.id, { try reader.verify(blob, in: pack.id) }) {
            case .success: break
            case .failure(let failure):
                badCopies.append(BadCopy(blob: blob, pack: pack.id, reason: failure.reason))
            }
            checked += 1
            report.bytesRead += UInt64(blob.stored)
            tell(.data, report.bytesRead, total)
        }
        report.blobsRead.checked += checked
        report.bytesRead = before + UInt64(pack.actual ?? 0)
    }

    private func listed(in pack: BlobID) -> [PackedBlob] {
        var result: [PackedBlob] = []
        index.forEach { if $0 == pack { result.append($1) } }
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
            let good = index.copies(copy.blob.id, copy.blob.kind).contains { other in
                !badPacks.contains(other.pack) && badPlaces[key]?.contains(other.pack) != true
            }
            find(
                .damagedBlob(copy.blob.id, copy.blob.kind, pack: copy.pack, onlyCopy: !good),
                copy.reason + (good ? "; another pack holds an intact copy" : "")
            )
        }
    }
}
