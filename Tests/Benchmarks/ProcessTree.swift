import Glibc
import Posix

/// The processes below some roots, as /proc shows them.
struct ProcessTree {
    /// Processor time of one process and of the children it has reaped, in seconds.
    struct Usage {
        var parent: Int32
        var seconds: Double
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

    /// Processor seconds of everything below `roots`, finished and reaped children included.
    func seconds(below roots: [Int32]) -> Double {
        members(below: roots).reduce(0) { $0 + (all[$1]?.seconds ?? 0) }
    }

    /// Bytes of memory that everything below `roots` holds now; a page that several processes share counts once.
    func memory(below roots: [Int32]) -> Int {
        members(below: roots).reduce(0) { $0 + memory(of: $1) }
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

    /// proc(5), `stat`: after the name in parentheses come state, parent, …, times 12 to 15.
    private static func usage(of pid: Int32) -> Usage? {
        guard let bytes = try? Files.read("/proc/\(pid)/stat"), let end = bytes.lastIndex(of: 0x29) else {
            return nil
        }
        let fields = bytes[(end + 1)...].split(separator: 0x20).map { String(decoding: $0, as: UTF8.self) }
        guard fields.count > 14, let parent = Int32(fields[1]) else {
            return nil
        }
        let ticks = fields[11...14].reduce(0) { $0 + (Double($1) ?? 0) }
        return Usage(parent: parent, seconds: ticks / Double(sysconf(Int32(_SC_CLK_TCK))))
    }
}
