import Glibc
import Posix

/// Short-lived programs with a deadline: a daemon that hangs must not hang the agent.
enum Command {
    struct Result {
        let end: ChildProcess.End
        let output: [UInt8]
        /// The last 8 KiB at most.
        let error: [UInt8]
        var succeeded: Bool { end == .exit(0) }
    }

    struct TimedOut: Error {}

    /// Runs a program to its end.
    ///
    /// - Parameters:
    ///   - input: Fed to its stdin; at most 60 KiB, so that it fits a pipe.
    ///   - limit: Bytes of its output that are kept; the rest is dropped.
    /// - Throws: `SystemCallError` when it can't be started, `TimedOut` when it was killed after `seconds`.
    static func run(
        _ arguments: [String],
        environment: [String: String?] = [:],
        input: [UInt8] = [],
        seconds: Int = 30,
        limit: Int = 64 << 20
    ) throws -> Result {
        let out = try Pipe()
        let err = try Pipe()
        let into = try Pipe()
        let child = try ChildProcess(
            arguments,
            environment: environment,
            input: .descriptor(into.read.raw),
            output: .descriptor(out.write.raw),
            error: .descriptor(err.write.raw)
        )
        let outRead = Pipe.readEnd(out)
        let errRead = Pipe.readEnd(err)
        // A program that does not read what it is fed says more with its exit status than this error does.
        try? Pipe.writeEnd(into).writeAll(Array(input.prefix(60 << 10)))
        let deadline = Time.monotonic() + Int64(seconds) * 1_000_000_000
        var output: [UInt8] = []
        var error: [UInt8] = []
        let step = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
        defer { step.deallocate() }
        var open = [true, true]
        while open[0] || open[1] {
            let left = (deadline - Time.monotonic()) / 1_000_000
            var waits = [
                pollfd(fd: open[0] ? outRead.raw : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: open[1] ? errRead.raw : -1, events: Int16(POLLIN), revents: 0),
            ]
            guard left > 0, poll(&waits, 2, Int32(clamping: left)) != 0 else {
                child.signalGroup(SIGKILL)
                _ = try child.wait()
                throw TimedOut()
            }
            if waits[0].revents != 0 {
                let got = try outRead.read(into: step)
                open[0] = got > 0
                output.append(
                    contentsOf: UnsafeRawBufferPointer(rebasing: step[..<min(got, limit - output.count)])
                )
            }
            if waits[1].revents != 0 {
                let got = try errRead.read(into: step)
                open[1] = got > 0
                error.append(contentsOf: UnsafeRawBufferPointer(rebasing: step[..<got]))
                if error.count > 16 << 10 { error.removeFirst(error.count - (8 << 10)) }
            }
        }
        return Result(end: try child.wait(), output: output, error: error)
    }
}

/// Both ends of a pipe, until one of them is chosen and the other closed.
struct Pipe: ~Copyable {
    let read: FileDescriptor
    let write: FileDescriptor

    init() throws(SystemCallError) {
        let ends = try FileDescriptor.pipe()
        read = FileDescriptor(owning: ends.read)
        write = FileDescriptor(owning: ends.write)
    }

    /// Closes the other end.
    static func readEnd(_ pipe: consuming Pipe) -> FileDescriptor { pipe.read }
    static func writeEnd(_ pipe: consuming Pipe) -> FileDescriptor { pipe.write }
}
