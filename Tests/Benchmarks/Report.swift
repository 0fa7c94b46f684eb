import Arguments
import JSON

/// The rows of the table, in the order in which they were measured.
struct Report {
    struct Row {
        var work: String
        var tool: String
        /// Bytes of the library that the work is about; 0 where a rate would mean nothing.
        var bytes: Int
        var rounds: [Measurement]
        var stored: Int?
    }
    private(set) var rows: [Row] = []
    var notes: [String] = []
    /// Tools that did not get through, and why.
    var failures: [(tool: String, reason: String)] = []
    var facts: [(String, JSON)] = []

    mutating func add(_ work: String, _ tool: String, _ cost: Measurement, bytes: Int = 0, stored: Int? = nil)
    {
        if let index = rows.firstIndex(where: { $0.work == work && $0.tool == tool }) {
            rows[index].rounds.append(cost)
            rows[index].stored = stored ?? rows[index].stored
        } else {
            rows.append(Row(work: work, tool: tool, bytes: bytes, rounds: [cost], stored: stored))
        }
    }

    /// One line per work and tool, works together; of several rounds the median by wall time.
    var table: String {
        var table = Table([
            ("work", .left), ("tool", .left), ("wall s", .right), ("MB/s", .right), ("VM cpu s", .right),
            ("VM peak MiB", .right), ("NAS cpu s", .right), ("NAS peak MiB", .right), ("kept MB", .right),
        ])
        for row in ordered {
            let cost = median(row.rounds)
            table.row([
                row.work, row.tool, Human.fixed(cost.seconds, 2),
                row.bytes == 0 ? "" : Human.fixed(Double(row.bytes) / 1e6 / cost.seconds, 0),
                Human.fixed(cost.vmSeconds, 2), Human.fixed(Double(cost.vmPeak) / 1_048_576, 0),
                Human.fixed(cost.nasSeconds, 2), Human.fixed(Double(cost.nasPeak) / 1_048_576, 0),
                row.stored.map { Human.fixed(Double($0) / 1e6, 1) } ?? "",
            ])
        }
        return table.text + notes.map { "- \($0)\n" }.joined()
            + failures.map { "- FAILED: \($0.tool): \($0.reason)\n" }.joined()
    }

    var json: JSON {
        let rows = ordered.map { row in
            JSON([
                ("work", JSON(row.work)), ("tool", JSON(row.tool)), ("bytes", JSON(row.bytes)),
                ("stored_bytes", row.stored.map { JSON($0) } ?? .null),
                (
                    "rounds",
                    .array(
                        row.rounds.map { cost in
                            JSON([
                                ("wall_seconds", JSON(cost.seconds)),
                                ("vm_cpu_seconds", JSON(cost.vmSeconds)),
                                ("vm_peak_bytes", JSON(cost.vmPeak)),
                                ("nas_cpu_seconds", JSON(cost.nasSeconds)),
                                ("nas_peak_bytes", JSON(cost.nasPeak)),
                            ])
                        }
                    )
                ),
            ])
        }
        return JSON([
            ("facts", JSON(facts)), ("rows", .array(rows)), ("notes", JSON(notes)),
            ("failures", JSON(failures.map { "\($0.tool): \($0.reason)" })),
        ])
    }

    private var ordered: [Row] {
        var works: [String] = []
        for row in rows where !works.contains(row.work) { works.append(row.work) }
        return works.flatMap { work in rows.filter { $0.work == work } }
    }

    private func median(_ rounds: [Measurement]) -> Measurement {
        rounds.sorted { $0.seconds < $1.seconds }[rounds.count / 2]
    }
}
