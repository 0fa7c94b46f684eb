import CLinux
import Glibc

/// The machine and this process.
package enum Host {
    package static var name: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            guard let base = buffer.baseAddress, gethostname(base, 255) == 0 else { return "localhost" }
            buffer[255] = 0
            return String(cString: base)
        }
    }

    /// A write to a peer that went away shall be an error (EPIPE), not the end of the process.
    package static func ignoreBrokenPipes() { signal(SIGPIPE, SIG_IGN) }

    /// Gives way to everything else on the machine: idle CPU and I/O. Best effort.
    package static func setIdlePriority() { _ = clinux_set_idle_priority() }

    /// Runs `body` with the rights to files of user `uid`, on this thread alone; needs root.
    package static func reachingFiles<R>(asUser uid: UInt32, _ body: () throws -> R) rethrows -> R {
        clinux_reach_files_as(uid)
        defer { clinux_reach_files_as(geteuid()) }
        return try body()
    }

    /// Lifts the soft limit of open files to the hard one; best effort.
    package static func raiseDescriptorLimit() { _ = clinux_raise_descriptor_limit() }

    /// Columns of the terminal on `descriptor`; nil when it is none.
    package static func terminalColumns(_ descriptor: Int32) -> Int? {
        let columns = Int(clinux_terminal_columns(descriptor))
        return columns > 0 ? columns : nil
    }
}

/// Writes all of `text` to a descriptor with write(2), so that nothing stays in a buffer; errors are dropped.
package func put(_ text: String, to descriptor: Int32 = STDOUT_FILENO) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
        let done = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if done < 0 && errno == EINTR { continue }
        if done <= 0 { return }
        rest = rest.dropFirst(done)
    }
}
