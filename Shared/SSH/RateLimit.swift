/// Spreads bytes evenly over time: a token bucket that holds a quarter of a second's worth, so that what a late wake-up
/// loses is made up for. It reads no clock itself.
struct RateLimit: Sendable {
    /// Bytes a second.
    let rate: Int64
    /// When all that was taken so far is paid for; nanoseconds on the caller's clock.
    private var paid: Int64

    private static let burst: Int64 = 250_000_000

    /// - Parameters:
    ///   - rate: Bytes a second, at least 1.
    ///   - now: Nanoseconds on a clock that never jumps.
    init(rate: Int64, now: Int64) {
        self.rate = max(1, rate)
        // What came while nothing was asked for gives no credit.
        paid = now
    }

    /// The most to take at once, so that no wait is long: a tenth of a second's worth.
    var portion: Int { Int(clamping: max(1, rate / 10)) }

    /// Takes `bytes`, which came already, and tells for how many nanoseconds to take no more.
    mutating func take(_ bytes: Int, now: Int64) -> Int64 {
        let cost = Double(bytes) / Double(rate) * 1e9
        paid = max(paid, now - Self.burst) + Int64(cost)
        return max(0, paid - now)
    }
}
