/// When something that did not go out is tried again. Nanoseconds.
package enum Retry {
    private static let minute: Int64 = 60_000_000_000

    /// What is not delivered for so long is given up.
    package static let patience: Int64 = 3 * 86_400_000_000_000

    /// The pause after the attempt `number` (from 1): a minute, then twice as long each time, at most an hour.
    ///
    /// - Parameter seconds: That the other side asked for; it may be longer, at most a day.
    package static func pause(after number: Int, asked seconds: Int64 = 0) -> Int64 {
        let own = min(60 * minute, minute << Int64(min(6, max(0, number - 1))))
        return max(own, min(86_400, max(0, seconds)) * 1_000_000_000)
    }
}
