import Posix

/// Bytes per second over the last ten seconds.
package struct RateMeter {
    private var samples: [(time: Int64, bytes: Int64)] = []

    package init() {}

    package mutating func note(_ bytes: Int64) {
        let now = Time.monotonic()
        samples.append((now, bytes))
        while let first = samples.first, now - first.time > 10_000_000_000 { samples.removeFirst() }
    }

    package var perSecond: Int64 {
        guard let first = samples.first, let last = samples.last, last.time > first.time else { return 0 }
        return Int64(Double(last.bytes - first.bytes) / (Double(last.time - first.time) / 1e9))
    }
}
