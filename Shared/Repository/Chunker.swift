import Glibc

/// Cuts a stream of bytes into chunks where its content says so, so that most chunks of today's dump are chunks
/// of yesterday's too.
///
/// A gear hash runs over the bytes: per byte, twice the hash plus a table's value for it, in 64 bits, so that
/// the last 64 bytes decide. A chunk ends where the hash falls below a threshold that is strict before the
/// normal length and lenient after it, which keeps lengths close together. The table derives from the
/// repository's master key: a rebuilt coordinator cuts alike, and who does not have the key cannot predict
/// cuts from known content. Nothing before a chunk's beginning has any influence, so a stream that goes on
/// where a complete chunk ended is cut as if it had never stopped.
///
/// Keeps what does not end a chunk yet, at most one chunk; one thread at a time.
package final class Chunker {
    package struct Profile: Sendable {
        let label: String
        /// Bytes: no chunk but the last is shorter, none is longer.
        package let minimum: Int
        package let maximum: Int
        /// Bytes from which cuts are likely; below, one position in 2^`strict` is one, above one in 2^`lenient`.
        let normal: Int
        let strict: Int
        let lenient: Int

        /// 64 KiB on average: database dumps.
        package static let dump = Profile(
            label: "holdfast chunker 1 dump",
            minimum: 16 << 10,
            maximum: 256 << 10,
            normal: 52 << 10,
            strict: 18,
            lenient: 14
        )
        /// 8 MiB on average: photos, videos and everything else. Stock clients cache no blob above 64 MiB, and
        /// at most 16 MiB keeps their memory low.
        package static let media = Profile(
            label: "holdfast chunker 1 media",
            minimum: 4 << 20,
            maximum: 16 << 20,
            normal: 6400 << 10,
            strict: 25,
            lenient: 21
        )
    }

    private let profile: Profile
    private let table: UnsafeMutablePointer<UInt64>
    private var hash: UInt64 = 0
    /// What was fed since the last cut and before the current call.
    private let gathered: UnsafeMutableRawBufferPointer
    private var gatheredCount = 0

    /// Bytes that a hash depends on.
    private static let window = 64

    package init(_ master: MasterKey, _ profile: Profile) throws {
        self.profile = profile
        let values = try master.derive(profile.label, count: 256 * 8)
        let table = UnsafeMutablePointer<UInt64>.allocate(capacity: 256)
        values.withUnsafeBytes { raw in
            for index in 0..<256 {
                let word = raw.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
                table[index] = UInt64(littleEndian: word)
            }
        }
        self.table = table
        // Pages that are never written cost nothing.
        gathered = .allocate(byteCount: profile.maximum, alignment: 4096)
    }
    deinit {
        table.deallocate()
        gathered.deallocate()
    }

    /// Bytes that were fed and are in no chunk yet.
    package var pending: Int { gatheredCount }

    /// Takes the next bytes of the stream and calls `chunk` for each chunk that ends in them. The bytes a chunk
    /// is given by are valid during that call; they are the caller's own where a chunk lies within `bytes`.
    /// After an error of `chunk` the chunker must be `reset`.
    package func feed(_ bytes: UnsafeRawBufferPointer, _ chunk: (UnsafeRawBufferPointer) throws -> Void)
        throws
    {
        guard let base = bytes.baseAddress else { return }
        var start = 0
        var index = 0
        while index < bytes.count {
            let length = gatheredCount + index - start
            let left = bytes.count - index
            var cut = false
            if length < profile.minimum - Self.window {
                // No cut can be here, and the hash needs only the last bytes before the minimum.
                index += min(left, profile.minimum - Self.window - length)
                hash = 0
            } else if length < profile.minimum {
                let end = index + min(left, profile.minimum - length)
                warm(base, from: index, to: end)
                index = end
            } else {
                let strict = length < profile.normal
                let end = strict ? profile.normal : profile.maximum
                let limit = index + min(left, end - length)
                (index, cut) = scan(base, index, limit, strict ? profile.strict : profile.lenient)
                if gatheredCount + index - start == profile.maximum { cut = true }
            }
            if cut {
                let part = UnsafeRawBufferPointer(rebasing: bytes[start..<index])
                start = index
                hash = 0
                if gatheredCount == 0 {
                    try chunk(part)
                } else {
                    try chunk(gather(part))
                    gatheredCount = 0
                }
            }
        }
        if start < bytes.count {
            gatheredCount = gather(UnsafeRawBufferPointer(rebasing: bytes[start...])).count
        }
    }

    /// Gives the rest, if there is any, and is ready for another stream.
    package func finish(_ chunk: (UnsafeRawBufferPointer) throws -> Void) throws {
        let rest = UnsafeRawBufferPointer(rebasing: gathered[..<gatheredCount])
        reset()
        if !rest.isEmpty { try chunk(rest) }
    }

    /// Forgets what is pending.
    package func reset() {
        gatheredCount = 0
        hash = 0
    }

    /// What was gathered with `part` behind it; does not count it as gathered.
    private func gather(_ part: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: gathered[gatheredCount...]).copyMemory(from: part)
        return UnsafeRawBufferPointer(rebasing: gathered[..<(gatheredCount + part.count)])
    }

    private func warm(_ base: UnsafeRawPointer, from: Int, to: Int) {
        for index in from..<to {
            hash = hash << 1 &+ table[Int(base.load(fromByteOffset: index, as: UInt8.self))]
        }
    }

    /// Hashes from `index` on; stops behind the first byte where the top `bits` of the hash are zero.
    private func scan(_ base: UnsafeRawPointer, _ index: Int, _ limit: Int, _ bits: Int) -> (Int, Bool) {
        let threshold = UInt64(1) << UInt64(64 - bits)
        let table = self.table
        let bytes = base.assumingMemoryBound(to: UInt8.self)
        var hash = self.hash
        var index = index
        // Eight steps to a turn and wrapping arithmetic: 3 GB/s where the plain loop runs at 0.7.
        while limit &- index >= 8 {
            let next = bytes + index
            hash = hash &<< 1 &+ table[Int(next[0])]
            if hash < threshold { return (index &+ 1, true) }
            hash = hash &<< 1 &+ table[Int(next[1])]
            if hash < threshold { return (index &+ 2, true) }
            hash = hash &<< 1 &+ table[Int(next[2])]
            if hash < threshold { return (index &+ 3, true) }
            hash = hash &<< 1 &+ table[Int(next[3])]
            if hash < threshold { return (index &+ 4, true) }
            hash = hash &<< 1 &+ table[Int(next[4])]
            if hash < threshold { return (index &+ 5, true) }
            hash = hash &<< 1 &+ table[Int(next[5])]
            if hash < threshold { return (index &+ 6, true) }
            hash = hash &<< 1 &+ table[Int(next[6])]
            if hash < threshold { return (index &+ 7, true) }
            hash = hash &<< 1 &+ table[Int(next[7])]
            if hash < threshold { return (index &+ 8, true) }
            index = index &+ 8
        }
        while index < limit {
            hash = hash &<< 1 &+ table[Int(bytes[index])]
            index = index &+ 1
            if hash < threshold { return (index, true) }
        }
        self.hash = hash
        return (index, false)
    }
}
