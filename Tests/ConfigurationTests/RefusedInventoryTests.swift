import Configuration
import Fleet
import Testing

/// Files that are not taken, each with the whole sentence: the place, what is wrong, and what would be right.
private let refused: [(text: String, sentence: String)] = [
    (
        "defaults: { schedule: { full: daily } }\n",
        "1: `defaults.schedule.full` must be a cron expression or never: `daily` has 1 fields, not five: minute, hour, "
            + "day of the month, month, day of the week; `30 2 * * *` is daily at 02:30"
    ),
    (
        "defaults:\n  schedule:\n    database: 0 25 * * *\n",
        "3: `defaults.schedule.database` must be a cron expression or never: `25` is no hour: `*`, or 0 to 23, as in "
            + "`5`, `1,15`, `8-18`, `*/2`, `8-18/2`"
    ),
    (
        "hosts:\n  a:\n    schedule: { prune: 0 0 31 2 * }\n",
        "3: `hosts.a.schedule.prune` must be a cron expression or never: `0 0 31 2 *` never comes: no month that it "
            + "names has such a day"
    ),
    (
        "defaults: { schedule: { full: [never] } }\n",
        "1: `defaults.schedule.full` must be a cron expression or never, not a list"
    ),
    (
        "defaults: { schedule: { full: */5 * * * * } }\n",
        "1: cannot be read as YAML: while scanning an alias: did not find expected alphabetic or numeric character; put "
            + "a text that starts with `*` in quotes"
    ),
    (
        "defaults: { schedule: { time_zone: Europe/Atlantis } }\n",
        "1: `defaults.schedule.time_zone` must be a time zone: there is no time zone `Europe/Atlantis`: write one of the "
            + "tz database, like Europe/Lisbon or UTC (package tzdata; `timedatectl list-timezones` shows them)"
    ),
    (
        "defaults: { schedule: { time_zone: ../../../etc/passwd } }\n",
        "1: `defaults.schedule.time_zone` must be a time zone: there is no time zone `../../../etc/passwd`: write one of "
            + "the tz database, like Europe/Lisbon or UTC (package tzdata; `timedatectl list-timezones` shows them)"
    ),
    (
        "defaults: { schedule: { window: 0s } }\n",
        "1: `defaults.schedule.window` must be a duration above 0 with its unit, like 90s, 15m, 24h or 7d, not `0s`"
    ),
    (
        "defaults: { schedule: { window: 20m } }\n",
        "1: `defaults.schedule.window` leaves no time: jobs begin up to `spread` (30m) late and are given up after "
            + "`window` (20m), so the window must be longer"
    ),
    (
        "defaults: { schedule: { window: 1h } }\nhosts:\n  a:\n    schedule:\n      spread: 2h\n",
        "5: `hosts.a.schedule.spread` leaves no time: jobs begin up to `spread` (2h) late and are given up after "
            + "`window` (1h), so the window must be longer"
    ),
    (
        "defaults:\n  retention:\n    full: { daily: 0 }\n",
        "3: `defaults.retention.full` keeps nothing: write how much is kept, like { daily: 14, monthly: 12 }, or all"
    ),
    (
        "hosts:\n  a:\n    retention: { database: { } }\n",
        "3: `hosts.a.retention.database` keeps nothing: write how much is kept, like { daily: 14, monthly: 12 }, or all"
    ),
    (
        "defaults: { retention: { full: { within: 0d } } }\n",
        "1: `defaults.retention.full` keeps nothing: write how much is kept, like { daily: 14, monthly: 12 }, or all"
    ),
    (
        "defaults: { retention: { full: 14 } }\n",
        "1: `defaults.retention.full` must be rules like { daily: 14, monthly: 12 }, or all, not `14`"
    ),
    (
        "defaults: { retention: { full: { daily: -2 } } }\n",
        "1: `defaults.retention.full.daily` must be how many are kept, like 14, or all, not `-2`"
    ),
    (
        "defaults: { retention: { full: { within: 30 } } }\n",
        "1: `defaults.retention.full.within` must be a span like 7d, 36h or 1y6m (y years, m months, w weeks, d days, "
            + "h hours), not `30`"
    ),
    (
        "defaults: { retention: { daily: 14 } }\n",
        "1: unknown key `defaults.retention.daily`: known are `full`, `database`"
    ),
    (
        "defaults: { retention: { full: { minutely: 3 } } }\n",
        "1: unknown key `defaults.retention.full.minutely`: known are `last`, `hourly`, `daily`, `weekly`, `monthly`, "
            + "`yearly`, `within`"
    ),
    (
        "defaults: { thresholds: { full: { warning: 60h } } }\n",
        "1: `defaults.thresholds.full.warning` makes a warning (60h) come after critical (50h): the warning must come "
            + "first"
    ),
    (
        "defaults: { thresholds: { contact: { warning: 5h } } }\nhosts:\n  a: { thresholds: { contact: { critical: 4h } } }\n",
        "3: `hosts.a.thresholds.contact.critical` makes a warning (5h) come after critical (4h): the warning must come "
            + "first"
    ),
    (
        "defaults: { thresholds: { proof: { warning: 8d } } }\n",
        "1: unknown key `defaults.thresholds.proof`: known are `contact`, `database`, `full`, `enrolment`"
    ),
    (
        "defaults: { thresholds: { full: 26h } }\n",
        "1: `defaults.thresholds.full` must hold `key: value` lines, not `26h`"
    ),
    (
        "defaults: { grace: 7 }\n",
        "1: `defaults.grace` must be a duration with its unit, like 90s, 15m, 24h or 7d, not `7`"
    ),
    (
        "defaults: { priority: high }\n",
        "1: `defaults.priority` must be a whole number from -1000 to 1000, not `high`"
    ),
    (
        "defaults: { rate_limit: 20 MB }\n",
        "1: `defaults.rate_limit` must be a rate like 20 MB/s, at least 100 kB/s, or none, not `20 MB`"
    ),
    (
        "defaults: { rate_limit: 99 kB/s }\n",
        "1: `defaults.rate_limit` must be a rate like 20 MB/s, at least 100 kB/s, or none, not `99 kB/s`"
    ),
    (
        "defaults: { size_limit: [1] }\n",
        "1: `defaults.size_limit` must be a size like 500 GB or 20 GiB, or none, not a list"
    ),
    (
        "defaults: { ping: hc-ping.com }\n",
        "1: `defaults.ping` must be the URL of a check like https://hc-ping.com/…, or none"
    ),
    (
        "defaults: { watch: { dump_shrink: 0.2 } }\n",
        "1: `defaults.watch.dump_shrink` must be a part from above 0 % to 100 %, like 20 %, not `0.2`"
    ),
    (
        "defaults: { watch: { library_shrink: 101 % } }\n",
        "1: `defaults.watch.library_shrink` must be a part from above 0 % to 100 %, like 20 %, not `101 %`"
    ),
    (
        "defaults: { watch: { slow: 1 } }\n",
        "1: `defaults.watch.slow` must be how many times as long as usual, like 4 or 2.5, not `1`"
    ),
    (
        "defaults: { watch: { slow: inf } }\n",
        "1: `defaults.watch.slow` must be how many times as long as usual, like 4 or 2.5, not `inf`"
    ),
    (
        "defaults: { watch: { clock: 0s } }\n",
        "1: `defaults.watch.clock` must be a duration above 0 with its unit, like 90s, 15m, 24h or 7d, not `0s`"
    ),
    (
        "hosts: { a: { outside: { vm: /x } } }\n",
        "1: `hosts.a.outside.vm` must be a path and its thresholds, like \"/mnt/pve/dump/vzdump-qemu-203-*.vma.zst, "
            + "26h\" or \"…, 26h, 50h\", not `/x`"
    ),
    (
        "hosts: { a: { outside: { vm: \"/x, 3h, 2h\" } } }\n",
        "1: `hosts.a.outside.vm` is critical before it is a warning: write the shorter time first"
    ),
    (
        "hosts:\n  a:\n    outside:\n      vm:\n",
        "4: `hosts.a.outside.vm` has no value"
    ),
    (
        "hosts: { a: { outside: { \"two words\": \"/x, 3h\" } } }\n",
        "1: `hosts.a.outside.two words` is no name of a backup: write one word of at most 63 characters"
    ),
    (
        "captures_at_once: 0\n",
        "1: `captures_at_once` must be a whole number from 1 to 1000, not `0`"
    ),
    (
        "hosts:\n  a:\n    schedul: { full: never }\n",
        "3: unknown key `hosts.a.schedul`: did you mean `schedule`?"
    ),
]

@Suite struct RefusedInventoryTests {
    @Test(arguments: refused.indices)
    func `what is wrong is refused with its place and what would be right`(_ index: Int) {
        let (text, sentence) = refused[index]
        #expect(throws: ConfigurationError.self, "\(text)") {
            do throws(ConfigurationError) {
                _ = try FleetConfiguration(Array(text.utf8), file: "fleet.yaml")
            } catch {
                #expect(error.description == "fleet.yaml:" + sentence)
                throw error
            }
        }
    }
}
