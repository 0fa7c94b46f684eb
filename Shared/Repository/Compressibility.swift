/// How a blob is to be stored.
package enum Compression: Sendable {
    /// Compressed if a sample says that it pays; for what may be anything.
    case probe
    /// Compressed unless that gains nothing; for dumps and JSON.
    case always
    /// As it is; for what is known to be compressed.
    case never
}

/// Tells from a small sample whether zstd is worth its time, at next to no cost for photos and videos.
enum Compressibility {
    /// Bytes of each of the four places that are looked at.
    private static let part = 1024
    /// Below this many bytes compressing is as cheap as asking.
    private static let smallest = 2048

    /// Whether the frequencies of bytes look so even that compression gains some percent at most: fewer
    /// coincidences than at 7.5 bits of (second-order) entropy a byte. Text has 4 to 5, base64 6, JPEG, HEIC
    /// and video data 7.7 to 8.
    static func looksCompressed(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count > smallest else { return false }
        let size = min(part, bytes.count / 4)
        return withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 256) { counts in
            counts.initialize(repeating: 0)
            // The head is left out where possible: metadata and thumbnails say little about the rest.
            for place in 1...4 {
                let start = (bytes.count - size) * place / 4
                for index in start..<start + size { counts[Int(bytes[index])] += 1 }
            }
            let total = UInt64(size * 4)
            var coincidences: UInt64 = 0
            for count in counts {
                coincidences += UInt64(count) * (UInt64(count) &- 1 &+ (count == 0 ? 1 : 0))
            }
            // Probability that two bytes are equal, against 2^-7.5 = 1/181.
            return coincidences * 181 < total * (total - 1)
        }
    }
}
