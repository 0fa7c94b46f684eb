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
    /// Below this many bytes compressing is as cheap as asking.
    private static let smallest = 2048

    /// Whether the frequencies of bytes look so even that compression gains some percent at most: fewer
    /// coincidences than at 7.5 bits of (second-order) entropy a byte. Text has 4 to 5, base64 6, JPEG, HEIC
    /// and video data 7.7 to 8.
    static func looksCompressed(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count > smallest, let base = bytes.baseAddress else { return false }
        // Four places, together a thirty-second of a small blob and 4 KiB of a large one: about one percent of
        // the time that storing takes.
        let size = max(128, min(1024, bytes.count / 128))
        return withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 256) { counts in
            counts.initialize(repeating: 0)
            guard let count = counts.baseAddress else { return false }
            // The head is left out: metadata and embedded thumbnails say little about the rest.
            for place in 1...4 {
                let start = base + (bytes.count - size) * place / 4
                for index in 0..<size { count[Int(start.load(fromByteOffset: index, as: UInt8.self))] &+= 1 }
            }
            var coincidences: UInt64 = 0
            for index in 0..<256 {
                let times = UInt64(count[index])
                coincidences &+= times &* (times &- (times == 0 ? 0 : 1))
            }
            // The probability that two of the bytes are equal, against 2^-7.5 = 1/181.
            let total = UInt64(size * 4)
            return coincidences * 181 < total * (total - 1)
        }
    }
}
