/// A set of numbers below a bound, in one bit each.
struct BitSet: Sendable {
    private var words: [UInt64]

    /// - Parameter bound: All numbers are below it.
    init(below bound: Int) { words = [UInt64](repeating: 0, count: (bound + 63) / 64) }

    func contains(_ number: Int) -> Bool { words[number >> 6] & 1 << UInt64(number & 63) != 0 }

    /// - Returns: False when it was there already.
    @discardableResult
    mutating func insert(_ number: Int) -> Bool {
        let bit: UInt64 = 1 << UInt64(number & 63)
        if words[number >> 6] & bit != 0 { return false }
        words[number >> 6] |= bit
        return true
    }
}
