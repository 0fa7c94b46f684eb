import Arguments
import Catalogue
import Posix

/// Whether the coordinator's own clock can be believed: it stamps every snapshot, and ages are counted by it. The watch
/// looks at it every round, against the clock that counts from the machine's start and that nobody can set.
package struct CoordinatorClock: Sendable, Equatable {
    /// What two clocks showed at one moment, and of which machine.
    package struct Reading: Sendable, Equatable {
        package var machine: String
        /// A new one with every start of the machine.
        package var boot: String
        package var wall: Int64
        package var sinceBoot: Int64

        package init(machine: String, boot: String, wall: Int64, sinceBoot: Int64) {
            self.machine = machine
            self.boot = boot
            self.wall = wall
            self.sinceBoot = sinceBoot
        }

        package static func now() -> Reading {
            let boot = (try? Files.read("/proc/sys/kernel/random/boot_id", limit: 64)) ?? []
            return Reading(
                machine: Host.name,
                boot: String(decoding: boot.prefix { $0 != 0x0A }, as: UTF8.self),
                wall: Time.now(),
                sinceBoot: Time.sinceBoot()
            )
        }
    }

    /// The last round.
    package var last: Reading
    /// The time of the last round in which the clock was believed.
    package var goodWall: Int64
    /// What the clock on the wall was then ahead of the one since the start.
    package var goodOffset: Int64

    package init(last: Reading, goodWall: Int64, goodOffset: Int64) {
        self.last = last
        self.goodWall = goodWall
        self.goodOffset = goodOffset
    }

    /// A first round.
    package init(_ reading: Reading) {
        self.init(last: reading, goodWall: reading.wall, goodOffset: reading.wall - reading.sinceBoot)
    }

    /// Takes in the next round.
    ///
    /// - Parameters:
    ///   - allowed: By how much the clocks may part, in nanoseconds.
    ///   - confirmed: Most agents that were here since agree with the clock on the wall.
    /// - Returns: What is wrong, until the clock is where it belongs again.
    package mutating func advance(_ reading: Reading, allowed: Int64, confirmed: Bool = false) -> Condition? {
        let same = reading.machine == last.machine && reading.boot == last.boot
        last = reading
        let expected = same ? goodOffset + reading.sinceBoot : goodWall
        let difference = reading.wall - expected
        // What passed while the machine was off, nobody knows; it was not less than nothing.
        let isOff = same ? difference.magnitude > UInt64(allowed) : difference < -allowed
        if !isOff || confirmed {
            goodWall = reading.wall
            goodOffset = reading.wall - reading.sinceBoot
            return nil
        }
        if !same {
            // From here on the same machine counts, from what was known of the time.
            goodOffset = goodWall - reading.sinceBoot
        }
        let span = Human.duration(nanoseconds: Int64(clamping: difference.magnitude))
        return Condition(
            .clock,
            subject: "coordinator",
            .critical,
            "the coordinator's clock jumped \(span) \(difference > 0 ? "forward" : "back") to \(Time.local(reading.wall))",
            advice:
                "set it if it is wrong, best by NTP: `timedatectl`; if it is right now, `holdfast-coordinator findings` "
                + "and `finding close` end this; nothing is forgotten meanwhile",
            freezes: true
        )
    }
}
