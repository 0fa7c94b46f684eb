import Glibc

/// Memory in pages of its own (mmap(2)); given back to the system when this value goes. Pages that were never
/// touched take none.
package final class Pages: @unchecked Sendable {
    package let memory: UnsafeMutableRawBufferPointer

    /// - Parameter count: Bytes, at least one.
    /// - Throws: ENOMEM.
    package init(_ count: Int) throws(SystemCallError) {
        guard let start = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            start != MAP_FAILED
        else { throw SystemCallError("mmap", errno: errno) }
        memory = UnsafeMutableRawBufferPointer(start: start, count: count)
    }
    deinit { munmap(memory.baseAddress, memory.count) }
}
