import CLinux
import Glibc

/// Why a TCP connection could not be made.
package enum DialError: Error, Equatable, CustomStringConvertible {
    /// The name has no address; `reason` is the resolver's sentence.
    case nameNotFound(host: String, reason: String)
    /// Nothing listens there.
    case refused(host: String, port: UInt16)
    /// No answer in the time allowed.
    case timedOut(host: String, port: UInt16, seconds: Double)
    /// Any other failure: no route, no permission.
    case failed(host: String, port: UInt16, errno: Int32)

    package var description: String {
        switch self {
        case .nameNotFound(let host, let reason): "\(host): \(reason)"
        case .refused(let host, let port): "\(host) port \(port): connection refused"
        case .timedOut(let host, let port, let seconds):
            "\(host) port \(port): no answer within \(seconds.rounded()) s"
        case .failed(let host, let port, let code): "\(host) port \(port): \(describeErrno(code))"
        }
    }
}

/// Connects to `host`, a name or a numeric address (IPv6 without brackets), trying its addresses one after the other.
/// The socket that comes back blocks and is close-on-exec.
///
/// `seconds` bounds the connecting, each address taking at most its share of what is left; the time the
/// resolver takes is bounded by /etc/resolv.conf alone.
package func dialTCP(host: String, port: UInt16, seconds: Double) throws(DialError) -> FileDescriptor {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &found)
    if code != 0 {
        let reason = code == EAI_SYSTEM ? describeErrno(errno) : String(cString: gai_strerror(code))
        throw .nameNotFound(host: host, reason: reason)
    }
    defer { freeaddrinfo(found) }
    var addresses: [UnsafeMutablePointer<addrinfo>] = []
    var next = found
    while let address = next {
        addresses.append(address)
        next = address.pointee.ai_next
    }
    let deadline = Time.monotonic() + Int64(seconds * 1e9)
    var last = DialError.nameNotFound(host: host, reason: "no address")
    for (index, address) in addresses.enumerated() {
        let share = max(0, deadline - Time.monotonic()) / Int64(addresses.count - index)
        switch connect(address.pointee, until: Time.monotonic() + share) {
        case .success(let socket): return FileDescriptor(owning: socket)
        case .failure(let failure):
            last =
                switch failure.code {
                case ECONNREFUSED: .refused(host: host, port: port)
                case ETIMEDOUT: .timedOut(host: host, port: port, seconds: seconds)
                default: .failed(host: host, port: port, errno: failure.code)
                }
        }
    }
    throw last
}

/// One attempt; ETIMEDOUT when `deadline` (`Time.monotonic`) passed.
private func connect(_ address: addrinfo, until deadline: Int64) -> Result<Int32, SystemCallError> {
    do throws(SystemCallError) {
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let socket = FileDescriptor(
            owning: try retryingOnInterrupt("socket") { Glibc.socket(address.ai_family, kind, 0) }
        )
        clinux_set_nonblocking(socket.raw, 1)
        if Glibc.connect(socket.raw, address.ai_addr, address.ai_addrlen) != 0 {
            let code = errno
            guard code == EINPROGRESS || code == EINTR else { throw SystemCallError("connect", errno: code) }
            try waitConnected(socket.raw, until: deadline)
        }
        clinux_set_nonblocking(socket.raw, 0)
        return .success(socket.release())
    } catch { return .failure(error) }
}

private func waitConnected(_ socket: Int32, until deadline: Int64) throws(SystemCallError) {
    while true {
        let left = deadline - Time.monotonic()
        if left <= 0 { throw SystemCallError("connect", errno: ETIMEDOUT) }
        var polled = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
        let ready = poll(&polled, 1, Int32(min(left / 1_000_000 + 1, 1_000_000)))
        if ready < 0 && errno != EINTR { throw SystemCallError("poll", errno: errno) }
        if ready > 0 { break }
    }
    var failure: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    getsockopt(socket, SOL_SOCKET, SO_ERROR, &failure, &size)
    if failure != 0 { throw SystemCallError("connect", errno: failure) }
}
