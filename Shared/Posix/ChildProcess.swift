import CLinux
package import Glibc

/// A program started with explicit descriptors, in a process group of its own, with no signal blocked or
/// ignored (threads of the Swift runtime block nearly all, and children inherit that).
package struct ChildProcess: ~Copyable, Sendable {
    package let pid: pid_t

    package enum Stream: Sendable {
        /// `/dev/null`.
        case nothing
        /// The parent's own.
        case inherited
        /// A descriptor of the parent, duplicated into the child; the caller still closes its own.
        case descriptor(Int32)
    }

    /// - Parameters:
    ///   - arguments: The program, looked up in PATH when it holds no `/`, and its arguments.
    ///   - environment: Names to set, or nil to remove, on top of the parent's environment.
    ///   - extra: Descriptors of the parent that the child gets as 3, 4, …
    /// - Throws: `posix_spawnp`, with ENOENT when there is no such program.
    package init(
        _ arguments: [String],
        environment: [String: String?] = [:],
        input: Stream = .nothing,
        output: Stream = .inherited,
        error: Stream = .inherited,
        extra: [Int32] = [],
        ownGroup: Bool = true
    ) throws(SystemCallError) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // Sources are first moved above every target, so that no dup2 overwrites one that is still needed.
        var moved: [Int32] = []
        defer { for raw in moved { _ = Glibc.close(raw) } }
        let targets = Int32(3 + extra.count)
        func place(_ raw: Int32, at target: Int32) throws(SystemCallError) {
            let high = try retryingOnInterrupt("dup") { fcntl(raw, F_DUPFD_CLOEXEC, targets) }
            moved.append(high)
            posix_spawn_file_actions_adddup2(&actions, high, target)
        }
        for (target, stream) in [(Int32(0), input), (1, output), (2, error)] {
            switch stream {
            case .nothing: posix_spawn_file_actions_addopen(&actions, target, "/dev/null", O_RDWR, 0)
            case .inherited: break
            case .descriptor(let raw): try place(raw, at: target)
            }
        }
        for (index, raw) in extra.enumerated() { try place(raw, at: Int32(3 + index)) }
        // Whatever a library left without close-on-exec stays here: a child may outlive this process by days.
        clinux_spawn_close_from(&actions, targets)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        var flags = Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF)
        if ownGroup { flags |= Int32(POSIX_SPAWN_SETPGROUP) }
        posix_spawnattr_setflags(&attributes, Int16(flags))

        let argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        defer { argv.forEach { free($0) } }
        let envp: [UnsafeMutablePointer<CChar>?] =
            merged(environment).map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { envp.forEach { free($0) } }
        var pid: pid_t = 0
        let code = posix_spawnp(&pid, arguments.first ?? "", &actions, &attributes, argv, envp)
        if code != 0 { throw SystemCallError("start", errno: code, arguments.first) }
        self.pid = pid
    }

    /// How a child ended.
    package enum End: Equatable, Sendable, CustomStringConvertible {
        case exit(Int32)
        case signal(Int32)

        /// - Parameter status: What waitpid(2) gave of a process that is over.
        package init(status: Int32) {
            let code = clinux_exit_code(status)
            self = code >= 0 ? .exit(code) : .signal(clinux_term_signal(status))
        }

        package var description: String {
            switch self {
            case .exit(let code): "exit status \(code)"
            case .signal(let number): "ended by signal \(number)"
            }
        }
    }

    /// Blocks until the child ends.
    package consuming func wait() throws(SystemCallError) -> End {
        var status: Int32 = 0
        let pid = self.pid
        _ = try retryingOnInterrupt("waitpid") { waitpid(pid, &status, 0) }
        return End(status: status)
    }

    /// The end if the child has ended, nil while it runs. Do not call again after it gave an end.
    package func poll() throws(SystemCallError) -> End? {
        var status: Int32 = 0
        let pid = self.pid
        let got = try retryingOnInterrupt("waitpid") { waitpid(pid, &status, WNOHANG) }
        return got == 0 ? nil : End(status: status)
    }

    /// Signals the child's whole process group.
    package func signalGroup(_ signal: Int32) { kill(-pid, signal) }
    package func signal(_ signal: Int32) { kill(pid, signal) }

    /// Runs a program to its end and collects what it prints; each stream at most `limit` bytes, the rest is
    /// read and dropped.
    package static func run(
        _ arguments: [String],
        environment: [String: String?] = [:],
        input: [UInt8] = [],
        limit: Int = 16 << 20
    ) throws -> (end: End, output: [UInt8], error: [UInt8]) {
        let out = try FileDescriptor.pipe()
        let outRead = FileDescriptor(owning: out.read)
        let outWrite = FileDescriptor(owning: out.write)
        let err = try FileDescriptor.pipe()
        let errRead = FileDescriptor(owning: err.read)
        let errWrite = FileDescriptor(owning: err.write)
        let into = try FileDescriptor.pipe()
        let inRead = FileDescriptor(owning: into.read)
        let inWrite = FileDescriptor(owning: into.write)
        let child = try ChildProcess(
            arguments,
            environment: environment,
            input: .descriptor(inRead.raw),
            output: .descriptor(outWrite.raw),
            error: .descriptor(errWrite.raw)
        )
        try outWrite.close()
        try errWrite.close()
        try inRead.close()
        let writing = inWrite.release()
        let feeder = try Thread("feed") {
            let end = FileDescriptor(owning: writing)
            try end.writeAll(input)
        }
        let errors = Collected()
        let reading = errRead.release()
        let drain = try Thread("stderr") {
            let end = FileDescriptor(owning: reading)
            errors.bytes = try collect(end, limit: limit)
        }
        let output = try collect(outRead, limit: limit)
        try drain.join()
        // A child that does not read its input makes this EPIPE, which its exit status says better.
        try? feeder.join()
        return (try child.wait(), output, errors.bytes)
    }
}

private final class Collected: @unchecked Sendable {
    // Written by one thread, read after it was joined.
    var bytes: [UInt8] = []
}

private func collect(_ source: borrowing FileDescriptor, limit: Int) throws(SystemCallError) -> [UInt8] {
    var result: [UInt8] = []
    let step = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
    defer { step.deallocate() }
    while true {
        let got = try source.read(into: step)
        if got == 0 { return result }
        result.append(contentsOf: UnsafeRawBufferPointer(rebasing: step[..<min(got, limit - result.count)]))
    }
}

private func merged(_ changes: [String: String?]) -> [String: String] {
    var result = environmentVariables()
    for (name, value) in changes { result[name] = value }
    return result
}

/// This process's environment.
package func environmentVariables() -> [String: String] {
    var result: [String: String] = [:]
    var next = clinux_environment()
    while let pointer = next, let entry = pointer.pointee {
        let text = String(cString: entry)
        if let equals = text.firstIndex(of: "=") {
            result[String(text[..<equals])] = String(text[text.index(after: equals)...])
        }
        next = pointer + 1
    }
    return result
}
