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
package enum Compressibility {
    /// Below this many bytes four places would be most of it, and few pairs say little.
    private static let smallest = 512

    /// Whether the frequencies of bytes look so even that compression gains some percent at most: fewer
    /// coincidences than at 7.5 bits of (second-order) entropy a byte. Text has 4 to 5, base64 6, JPEG, HEIC
    /// and video data 7.7 to 8.
    package static func looksCompressed(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count > smallest, let base = bytes.baseAddress else { return false }
        // Four places, together a sixty-fourth of a small blob and 4 KiB of a large one: less than one percent
        // of the time that storing takes.
        let size = max(64, min(1024, bytes.count / 256))
        return withUnsafeTemporaryAllocation(of: UInt16.self, capacity: 256) { counts in
            counts.initialize(repeating: 0)
            guard let count = counts.baseAddress else { return false }
            // Pairs of equal bytes.
            var pairs: UInt64 = 0
            // The head is left out: metadata and embedded thumbnails say little about the rest.
            for place in 1...4 {
                let start = base + (bytes.count - size) * place / 4
                for index in 0..<size {
                    let value = Int(start.load(fromByteOffset: index, as: UInt8.self))
                    pairs &+= UInt64(count[value])
                    count[value] &+= 1
                }
            }
            // The probability that two of the bytes are equal, against 2^-7.5 = 1/181.
            let total = UInt64(size * 4)
            return pairs * 2 * 181 < total * (total - 1)
        }
    }
}
