import Glibc
import Posix

/// Counts what a run makes the NAS's processes force to the disk, with strace on those that last and on all that
/// they start. Such a run is slow and its times mean nothing.
func countSyncs(below roots: [Int32], log: String, _ work: () throws -> Void) throws -> [(
    call: String, count: Int
)] {
    let calls = ["fsync", "fdatasync", "syncfs", "sync", "sync_file_range", "msync"]
    try? Files.remove(log)
    var arguments = ["strace", "-f", "-qq", "-o", log, "-e", "trace=" + calls.joined(separator: ",")]
    // An agent that was just started is still connecting, and its session must be there to be traced.
    Time.sleep(seconds: 2)
    for pid in ProcessTree().members(below: roots) { arguments += ["-p", "\(pid)"] }
    let tracer = try ChildProcess(arguments, output: .nothing, error: .nothing)
    // strace has no way to say that it has attached to all of them.
    Time.sleep(seconds: 1)
    defer { end(tracer.pid) }
    try work()
    Time.sleep(seconds: 1)
    let lines = String(decoding: try Files.read(log), as: UTF8.self).split(separator: "\n")
    return calls.compactMap { call in
        // `PID call(…) = 0`; a call that was interrupted by another's line comes back as `<... call resumed>`.
        let count = lines.filter { $0.contains(" \(call)(") }.count
        return count == 0 ? nil : (call, count)
    }
}
