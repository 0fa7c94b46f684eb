import Glibc
import Posix

/// What one run cost. The VM is the end that holds the photos, the NAS the end that keeps the backup.
struct Measurement {
    var seconds: Double
    var vmSeconds: Double
    var vmPeak: Int
    var nasSeconds: Double
    var nasPeak: Int
}

/// The processes whose cost counts for each end beside the commands that are started for a run.
struct Ends {
    var vm: [Int32] = []
    var nas: [Int32] = []
}

/// Which end a command runs on.
enum End { case vm, nas }

struct CommandFailed: Error, CustomStringConvertible {
    let description: String
}

/// Runs a command to its end and measures both ends: wall time; processor time of the command by getrusage(2)
/// and of the lasting processes by /proc; peak memory as the highest sum over all processes of an end, looked
/// at every 250 ms, with pages that processes share counted once.
func measure(
    _ arguments: [String],
    on end: End,
    ends: Ends,
    environment: [String: String?] = [:],
    log: String
) throws -> Measurement {
    // Earlier dirty pages are not this run's business.
    Glibc.sync()
    let before = ProcessTree()
    let vmBefore = before.seconds(below: ends.vm)
    let nasBefore = before.seconds(below: ends.nas)
    let reapedBefore = reapedSeconds()
    let output = try FileDescriptor(open: log, O_WRONLY | O_CREAT | O_APPEND)
    try output.writeAll(Array("$ \(arguments.joined(separator: " "))\n".utf8))

    let start = Time.monotonic()
    let child = try ChildProcess(
        arguments,
        environment: environment,
        output: .descriptor(output.raw),
        error: .descriptor(output.raw)
    )
    let peaks = Peaks(
        vm: ends.vm + (end == .vm ? [child.pid] : []),
        nas: ends.nas + (end == .nas ? [child.pid] : [])
    )
    let sampler = try Thread("sampler") { peaks.watch() }
    let result = try child.wait()
    let seconds = Double(Time.monotonic() - start) / 1e9
    peaks.stop()
    try sampler.join()
    guard result == .exit(0) else {
        throw CommandFailed(description: "\(arguments.joined(separator: " ")): \(result); see \(log)")
    }

    let command = reapedSeconds() - reapedBefore
    let after = settled(ends)
    let vm = after.seconds(below: ends.vm) - vmBefore + (end == .vm ? command : 0)
    let nas = after.seconds(below: ends.nas) - nasBefore + (end == .nas ? command : 0)
    return Measurement(
        seconds: seconds,
        vmSeconds: max(0, vm),
        vmPeak: peaks.highest.vm,
        nasSeconds: max(0, nas),
        nasPeak: peaks.highest.nas
    )
}

/// The far end's processes need a moment to end after the near one has; waits until no more do, 2 s at most.
private func settled(_ ends: Ends) -> ProcessTree {
    var tree = ProcessTree()
    var last = -1.0
    for _ in 0..<20 {
        let now = tree.seconds(below: ends.vm + ends.nas)
        if now == last { break }
        last = now
        Time.sleep(seconds: 0.1)
        tree = ProcessTree()
    }
    return tree
}

/// Processor seconds of all children that this process has waited for.
private func reapedSeconds() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_CHILDREN.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The highest sums that a thread of its own has seen.
private final class Peaks: @unchecked Sendable {
    private let vm: [Int32]
    private let nas: [Int32]
    private let pipe: (read: Int32, write: Int32)
    // Written by the sampler, read after it was joined.
    private(set) var highest = (vm: 0, nas: 0)

    init(vm: [Int32], nas: [Int32]) {
        self.vm = vm
        self.nas = nas
        pipe = (try? FileDescriptor.pipe()) ?? (-1, -1)
    }

    func watch() {
        repeat {
            let tree = ProcessTree()
            highest.vm = max(highest.vm, tree.memory(below: vm))
            highest.nas = max(highest.nas, tree.memory(below: nas))
        } while (try? waitReadable([pipe.read], seconds: 0.25))?.isEmpty ?? false
        _ = close(pipe.read)
    }

    /// Ends `watch`; the end of the pipe is what it waits for.
    func stop() { _ = close(pipe.write) }
}
