import CLinux
import Glibc

/// A TCP socket that listens.
package struct TCPListener: ~Copyable {
    package let descriptor: FileDescriptor
    /// The port that was bound, also where 0 was asked for.
    package let port: UInt16

    /// Listens on a numeric address (IPv4, or IPv6 without brackets; `::` takes IPv4 too) and port.
    ///
    /// - Throws: `bind` with EADDRINUSE when the port is taken, EACCES when it needs a privilege.
    package init(address: String, port: UInt16) throws(SystemCallError) {
        let subject = "\(address) port \(port)"
        var hints = addrinfo()
        hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(address, String(port), &hints, &found) == 0, let info = found else {
            throw SystemCallError("listen on", errno: EINVAL, subject)
        }
        defer { freeaddrinfo(found) }
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let socket = FileDescriptor(
            owning: try retryingOnInterrupt("socket", subject) {
                Glibc.socket(info.pointee.ai_family, kind, 0)
            }
        )
        var on: Int32 = 1
        var off: Int32 = 0
        let size = socklen_t(MemoryLayout<Int32>.size)
        setsockopt(socket.raw, SOL_SOCKET, SO_REUSEADDR, &on, size)
        if info.pointee.ai_family == AF_INET6 {
            setsockopt(socket.raw, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &off, size)
        }
        let raw = socket.raw
        _ = try retryingOnInterrupt("listen on", subject) {
            bind(raw, info.pointee.ai_addr, info.pointee.ai_addrlen)
        }
        _ = try retryingOnInterrupt("listen on", subject) { listen(raw, 128) }
        self.port = TCPListener.port(of: raw) ?? port
        self.descriptor = socket
    }

    /// Gives the descriptor away; the caller closes it.
    package consuming func release() -> Int32 { descriptor.release() }

    /// Takes the next connection of a listening socket; nil when it was gone again.
    package static func accept(_ raw: Int32) throws(SystemCallError) -> (socket: Int32, peer: String)? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let socket = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.accept(raw, $0, &length) }
        }
        if socket < 0 {
            let code = errno
            if [EINTR, ECONNABORTED, EAGAIN, EPROTO].contains(code) { return nil }
            throw SystemCallError("accept", errno: code)
        }
        clinux_set_close_on_exec(socket, 1)
        var name = [CChar](repeating: 0, count: 64)
        let known = withUnsafePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getnameinfo($0, length, &name, 64, nil, 0, NI_NUMERICHOST)
            }
        }
        let text = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return (socket, known == 0 ? text : "unknown")
    }

    private static func port(of socket: Int32) -> UInt16? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let code = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket, $0, &length) }
        }
        guard code == 0 else { return nil }
        // The port lies at the same place in sockaddr_in and sockaddr_in6.
        return withUnsafePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
        }
    }
}

/// Two connected local sockets, both close-on-exec.
package func socketPair() throws(SystemCallError) -> (Int32, Int32) {
    var ends: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    _ = try retryingOnInterrupt("socketpair") { socketpair(AF_UNIX, kind, 0, &ends) }
    return (ends[0], ends[1])
}

/// Waits until one of `descriptors` can be read (or has ended), at most `seconds`; nil waits for ever.
/// Returns the indices that are ready; empty after the time.
package func waitReadable(_ descriptors: [Int32], seconds: Double?) throws(SystemCallError) -> [Int] {
    var polled = descriptors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    let timeout = seconds.map { Int32(max(0, min($0 * 1000, 1e9))) } ?? -1
    let ready = poll(&polled, nfds_t(polled.count), timeout)
    if ready < 0 && errno != EINTR { throw SystemCallError("poll", errno: errno) }
    return ready <= 0 ? [] : polled.indices.filter { polled[$0].revents != 0 }
}
