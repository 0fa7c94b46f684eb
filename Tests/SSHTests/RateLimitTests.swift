import Testing

@testable import SSH

@Suite("A rate limit")
struct RateLimitTests {
    /// Takes portions for `seconds` with a clock of its own, each wake-up `late` nanoseconds late.
    private func taken(rate: Int64, seconds: Int64, late: Int64, portion: Int? = nil) -> Int64 {
        let start: Int64 = 5_000_000_000
        var limit = RateLimit(rate: rate, now: start)
        var now = start
        var total: Int64 = 0
        while now - start < seconds * 1_000_000_000 {
            let bytes = min(portion ?? limit.portion, limit.portion)
            total += Int64(bytes)
            // Receiving takes a while too.
            now += 20_000
            now += limit.take(bytes, now: now) + late
        }
        return total
    }

    @Test(arguments: [100_000, 1_000_000, 20_000_000, 1_000_000_000] as [Int64])
    func `is kept within a tenth, however late wake-ups are and however little comes at once`(_ rate: Int64) {
        for late in [0, 100_000, 50_000_000] as [Int64] {
            for portion in [nil, Int(rate / 20)] as [Int?] {
                let total = taken(rate: rate, seconds: 20, late: late, portion: portion)
                let exact = 20 * rate
                #expect(
                    total > exact * 9 / 10 && total < exact * 11 / 10,
                    "\(total) of \(exact) at \(rate)/s, \(late) ns late"
                )
            }
        }
    }

    @Test func `a pause gives no more than a quarter of a second of credit`() {
        var limit = RateLimit(rate: 1_000_000, now: 0)
        let hour: Int64 = 3_600_000_000_000
        #expect(limit.take(250_000, now: hour) == 0)
        #expect(limit.take(100_000, now: hour) == 100_000_000)
    }

    @Test func `no wait is longer than what was taken at once takes`() {
        var limit = RateLimit(rate: 100_000, now: 0)
        #expect(limit.portion == 10_000)
        #expect(limit.take(limit.portion, now: 0) == 100_000_000)
        #expect(limit.take(limit.portion, now: 100_000_000) == 100_000_000)
    }
}
