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

    /// Keeps what this process knows (keys, passwords) out of core dumps and away from debuggers of its user.
    package static func hideMemory() { clinux_hide_memory() }

    /// Bytes of private memory that this process may write to, touched or not (what `limitMemory` counts); 0 where
    /// proc(5) does not say.
    package static var memory: UInt64 {
        let fields = ((try? Files.read("/proc/self/statm", limit: 4096)) ?? []).split(separator: 0x20)
        guard fields.count > 5, let pages = UInt64(String(decoding: fields[5], as: UTF8.self)) else {
            return 0
        }
        return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// The machine's memory in bytes.
    package static var physicalMemory: UInt64 {
        UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))) * UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
    }

    /// The most private memory, in bytes, that this process and those it starts may have; more ends the process.
    /// Best effort.
    package static func limitMemory(_ bytes: UInt64) { _ = clinux_limit_memory(bytes) }

    /// Gives memory that was freed back to the machine; for a process that will wait for long.
    package static func returnFreedMemory() { clinux_return_freed_memory() }

    /// Lifts the soft limit of open files to the hard one; best effort.
    package static func raiseDescriptorLimit() { _ = clinux_raise_descriptor_limit() }

    /// Columns of the terminal on `descriptor`; nil when it is none.
    package static func terminalColumns(_ descriptor: Int32) -> Int? {
        let columns = Int(clinux_terminal_columns(descriptor))
        return columns > 0 ? columns : nil
    }

    /// Lines of the terminal on `descriptor`; nil when it is none.
    package static func terminalLines(_ descriptor: Int32) -> Int? {
        let lines = Int(clinux_terminal_lines(descriptor))
        return lines > 0 ? lines : nil
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
