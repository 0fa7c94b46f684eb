import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

/// Prune is killed, or its disk becomes full, at every step that the recording layer knows. After each every snapshot is
/// whole, a stock restic is content, and the next prune goes on and ends.
@Suite("Prune killed at a durable step", .serialized)
struct PruneKillTests {
    private func share<T>(_ all: [T], _ bench: PruneBench, short: Int) -> [T] {
        if isLong { return all }
        var chosen = Set<Int>()
        while chosen.count < min(short, all.count) { chosen.insert(bench.random.below(all.count)) }
        return chosen.sorted().map { all[$0] }
    }

    @Test func `killed before and after every durable step, it loses nothing and the next goes on`() throws {
        let bench = try PruneBench()
        try bench.expectWhole("at first")
        var order = FaultLayer.Order(.command, FaultLayer.Kind.durable)
        try bench.layer.set(order)
        let whole = try bench.prune(faulty: true)
        #expect(whole.status == 0, "\(whole)")
        let report = try #require(whole.json)
        #expect(
            report["dropped"]?.array?.count == 1 && report["freed_packs"]?.int == 1
                && (report["unused_packs"]?.int ?? 0) >= 1 && (report["rewritten_packs"]?.int ?? 0) >= 1
                && (report["adopted_packs"]?.int ?? 0) == 1,
            "\(report.text())"
        )
        let steps = try bench.layer.steps()
        try bench.layer.clear()
        try bench.conclude("undisturbed")
        let moments = steps.flatMap { [(step: $0, after: false), (step: $0, after: true)] }
        let chosen = share(moments, bench, short: 16)
        var hits = 0
        let start = Time.monotonic()
        for (number, moment) in chosen.enumerated() {
            try bench.putBack()
            order.action = .kill
            order.at = moment.step.number
            order.after = moment.after
            try bench.layer.set(order)
            let outcome = try bench.prune(faulty: true)
            if bench.layer.fired != nil { hits += 1 }
            try bench.layer.clear()
            let what = "killed \(moment.after ? "after" : "before") \(moment.step), seed \(bench.seed)"
            #expect(outcome.status == 0 || outcome.status == 128 + SIGKILL, "\(what): \(outcome)")
            try bench.expectWhole(what)
            try bench.expectSound(what, strictly: false)
            if isLong || number % 4 == 0 { try bench.expectRestored(what) }
            try bench.conclude(what)
        }
        print(
            "prune: \(steps.count) durable steps, \(chosen.count) of \(moments.count) kills tried, \(hits) hit, "
                + "\((Time.monotonic() - start) / 1_000_000_000) s, seed \(bench.seed)"
        )
        #expect(hits >= chosen.count * 3 / 4)
        for number in 1..<bench.listings.count { try bench.expectRestored("at last", number) }
        for version in Restic.versions {
            let restic = version.on(bench.path, password: bench.password)
            try bench.expectSound("at last, \(version.name)", strictly: true, restic)
        }
    }

    @Test func `a disk that is full at any step costs nothing, and it does what needs no space`() throws {
        let bench = try PruneBench()
        let kinds: [FaultLayer.Kind] = [.create, .write, .mkdir, .rename]
        var order = FaultLayer.Order(.command, kinds)
        try bench.layer.set(order)
        let whole = try bench.prune(faulty: true)
        #expect(whole.status == 0, "\(whole)")
        let steps = try bench.layer.steps().filter { $0.path.hasPrefix(bench.path) }
        try bench.layer.clear()
        // Once, and from then on; a write by half.
        let moments = steps.flatMap { step in [false, true].map { (step: step, lasting: $0) } }
        let chosen = share(moments, bench, short: 8)
        var ends: [String: Int] = [:]
        for moment in chosen {
            try bench.putBack()
            order.action = .fail(ENOSPC)
            order.at = moment.step.number
            order.allLater = moment.lasting
            order.short = moment.lasting
            try bench.layer.set(order)
            let outcome = try bench.prune(faulty: true)
            let isHit = bench.layer.fired != nil
            try bench.layer.clear()
            let what = "full \(moment.lasting ? "from" : "at") \(moment.step), seed \(bench.seed)"
            guard isHit else { continue }
            ends[
                "\(outcome.status)\(outcome.json?["ran_out_of_space"]?.bool == true ? " without rewriting" : "")",
                default: 0
            ] += 1
            #expect(outcome.status == 0 || outcome.status == 23, "\(what): \(outcome)")
            if outcome.status == 23 {
                #expect(outcome.error.contains("free some space"), "\(what): \(outcome)")
            }
            try bench.expectWhole(what)
            try bench.expectSound(what, strictly: false)
            try bench.conclude(what)
        }
        print(
            "prune on a full disk: \(chosen.count) of \(moments.count) steps, exits \(ends), seed \(bench.seed)"
        )
        #expect(!ends.isEmpty)
    }
}
