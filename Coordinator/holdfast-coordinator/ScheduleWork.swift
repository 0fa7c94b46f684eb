import Catalogue
import Posix
import Scheduling

/// What `serve` does for the schedule while it has that duty.
final class ScheduleWork: @unchecked Sendable {
    // Used by the duty's thread alone.
    private let inventory: Inventory
    private let errands: Errands
    private var scheduler: (catalogue: Catalogue, Scheduler)?
    /// When errands were seen first, on the monotonic clock.
    private var seen: [String: Int64] = [:]

    init(_ inventory: Inventory, _ errands: Errands) {
        self.inventory = inventory
        self.errands = errands
    }

    func pass(_ catalogue: Catalogue) throws {
        let isNew = scheduler?.catalogue !== catalogue
        if isNew {
            scheduler = (catalogue, Scheduler(catalogue))
            Log.write(.info, "this coordinator keeps the schedule")
        }
        for ended in errands.takeEnded() {
            try catalogue.failRun(ended.run, reason: ended.reason, failure: ended.isLocked ? .locked : .other)
        }
        // Whoever asked may have done so while nobody listened.
        for run in errands.runs where try catalogue.run(run)?.cancelRequested != nil { errands.cancel(run) }
        let waiting = try scheduler?.1.pass(inventory.current, now: Time.now()) ?? []
        seen = seen.filter { run, _ in waiting.contains { $0.run == run } }
        for errand in waiting where !errands.has(errand.run) {
            // The coordinator that had the duty before may just have started it.
            let first = seen[errand.run] ?? (isNew ? Time.monotonic() : 0)
            seen[errand.run] = first
            guard Time.monotonic() - first > 10_000_000_000 else { continue }
            try errands.start(errand, configuration: inventory.acceptedPath)
        }
    }
}
