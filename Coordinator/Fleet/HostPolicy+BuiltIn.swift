import Retention
import Schedule
import Wire

extension HostPolicy {
    /// What counts where the inventory says nothing: enough that a fleet of names alone is backed up and kept well.
    package static var builtIn: HostPolicy {
        var policy = HostPolicy()
        // When people sleep, and behind Immich's own work of the night: its jobs at midnight, its dump at 02:00 and its
        // integrity checks at 03:00 read and write the same disks.
        policy.schedule.full = try? CronExpression("0 4 * * *")
        // A dump takes seconds to minutes, and albums, faces and descriptions are in it alone.
        policy.schedule.database = try? CronExpression("0 */6 * * *")
        // It keeps captures of the host out, so it waits until those of the night have had their window.
        policy.schedule.prune = try? CronExpression("30 10 * * 0")
        policy.schedule.zone = .system
        // Photos hardly change, so a further snapshot costs next to nothing; what was deleted by mistake is often missed
        // after months.
        policy.retention[.full] = RetentionPolicy(
            [.last: 3, .daily: 14, .weekly: 8, .monthly: 12, .yearly: 3],
            within: .init(days: 7)
        )
        // Four a day: all of the last week, then one a day for longer than a full one, as they are small.
        policy.retention[.database] = RetentionPolicy(
            [.last: 8, .daily: 30, .weekly: 8, .monthly: 12, .yearly: 3],
            within: .init(days: 7)
        )
        return policy
    }
}
