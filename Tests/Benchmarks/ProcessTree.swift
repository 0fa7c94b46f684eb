import Glibc
import Posix

/// The processes below some roots, as /proc shows them.
struct ProcessTree {
    /// Processor time of one process and of the children it has reaped, in seconds; resident memory in bytes.
    struct Usage {
        var parent: Int32
        var seconds: Double
        var resident: Int
    }

    /// All processes of the machine by their ids.
    private let all: [Int32: Usage]

    /// Looks at every process now, about 20 µs each. Ones that end meanwhile are left out.
    init() {
        var found: [Int32: Usage] = [:]
        for name in (try? Directory.names("/proc")) ?? [] {
            guard let pid = Int32(String(decoding: name, as: UTF8.self)) else { continue }
            if let usage = Self.usage(of: pid) { found[pid] = usage }
        }
        all = found
    }

    /// Processor seconds, finished and reaped children included, and resident bytes of everything below `roots`.
    func total(below roots: [Int32]) -> (seconds: Double, resident: Int) {
        members(below: roots).reduce(into: (0, 0)) { sum, pid in
            sum.0 += all[pid]?.seconds ?? 0
            sum.1 += all[pid]?.resident ?? 0
        }
    }

    /// `roots` and everything that they or theirs have started and not lost.
    func members(below roots: [Int32]) -> Set<Int32> {
        var members = Set(roots)
        var grew = true
        while grew {
            grew = false
            for (pid, usage) in all where !members.contains(pid) && members.contains(usage.parent) {
                members.insert(pid)
                grew = true
            }
        }
        return members
    }

    /// proc(5), `stat`: after the name in parentheses come state, parent, …, times 12 to 15, resident pages 22.
    private static func usage(of pid: Int32) -> Usage? {
        guard let bytes = try? Files.read("/proc/\(pid)/stat"), let end = bytes.lastIndex(of: 0x29) else {
            return nil
        }
        let fields = bytes[(end + 1)...].split(separator: 0x20).map { String(decoding: $0, as: UTF8.self) }
        guard fields.count > 21, let parent = Int32(fields[1]), let pages = Int(fields[21]) else {
            return nil
        }
        let ticks = fields[11...14].reduce(0) { $0 + (Double($1) ?? 0) }
        return Usage(
            parent: parent,
            seconds: ticks / Double(sysconf(Int32(_SC_CLK_TCK))),
            resident: pages * sysconf(Int32(_SC_PAGESIZE))
        )
    }
}
