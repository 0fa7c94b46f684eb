import Glibc
import Posix
import Synchronization

/// A TCP road to a server on this machine, on which things go wrong: it cuts at a byte, stalls, is slow or far away.
/// Every connection has a thread for each direction, and one more where there is latency.
package final class Road: Sendable {
    package enum Direction: Sendable { case there, back }

    package enum Fault: Sendable {
        /// As a peer that ends: what was under way arrives.
        case end
        /// As a firewall that resets: what was under way is lost.
        case reset
        /// Nothing arrives any more, and nobody hears of it.
        case stall
    }

    /// What happens after how many bytes of a direction, counted from when it is planned.
    package struct Plan: Sendable {
        package var fault: Fault
        package var direction: Direction
        package var bytes: Int
        package init(_ fault: Fault, _ direction: Direction, after bytes: Int) {
            self.fault = fault
            self.direction = direction
            self.bytes = bytes
        }
    }

    private struct State: Sendable {
        var plan: Plan?
        var there = 0
        var back = 0
        var sockets: Set<Int32> = []
        var connections = 0
    }

    package let port: UInt16
    private let target: UInt16
    private let latency: Double
    private let rate: Int?
    private let stop: Int32
    private let state = Mutex(State())

    /// - Parameters:
    ///   - target: The server's port on 127.0.0.1.
    ///   - latency: Seconds that a byte takes in each direction.
    ///   - rate: Bytes per second in each direction.
    package init(to target: UInt16, latency: Double = 0, rate: Int? = nil) throws {
        self.target = target
        self.latency = latency
        self.rate = rate
        let listener = try TCPListener(address: "127.0.0.1", port: 0)
        port = listener.port
        let pipe = try FileDescriptor.pipe()
        stop = pipe.write
        let socket = try listener.descriptor.duplicate().release()
        let thread = try Thread("road") { [self] in
            let listener = FileDescriptor(owning: socket)
            let stopped = FileDescriptor(owning: pipe.read)
            while try waitReadable([listener.raw, stopped.raw], seconds: nil) == [0] {
                let client = accept(listener.raw, nil, nil)
                if client >= 0 { try? carry(client) }
            }
        }
        thread.detach()
    }

    /// Closes the road: nobody connects any more, and what is connected ends.
    package func close() {
        _ = Glibc.close(stop)
        state.withLock { state in for socket in state.sockets { shutdown(socket, Int32(SHUT_RDWR)) } }
    }

    /// Cuts the road at a byte, once; nil takes a plan back.
    package func plan(_ plan: Plan?) {
        state.withLock { state in
            state.plan = plan
            state.plan?.bytes += plan?.direction == .there ? state.there : state.back
        }
    }

    /// Whether the planned fault has not come yet.
    package var isPlanned: Bool { state.withLock { $0.plan != nil } }

    /// Bytes that were carried so far.
    package var carried: (there: Int, back: Int) { state.withLock { ($0.there, $0.back) } }

    private func carry(_ client: Int32) throws {
        let server = try dialTCP(host: "127.0.0.1", port: target, seconds: 5).release()
        for socket in [client, server] {
            var on: Int32 = 1
            setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
        }
        let pair = Pair(client, server)
        state.withLock {
            $0.sockets.formUnion([client, server])
            $0.connections += 1
        }
        for direction in [Direction.there, .back] {
            let thread = try Thread("road-\(direction)") { [self] in
                defer {
                    if pair.isLast() {
                        state.withLock { $0.sockets.subtract([client, server]) }
                        pair.close()
                    }
                }
                let (from, to) = direction == .there ? (client, server) : (server, client)
                // As without a road between: a side whose peer was killed hears of it.
                do { try pump(from, to, direction, pair) } catch { pair.reset() }
            }
            thread.detach()
        }
    }

    private func pump(_ from: Int32, _ to: Int32, _ direction: Direction, _ pair: Pair) throws {
        let late = latency > 0 ? try Late(to, latency) : nil
        defer { late?.end() }
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let got = try retryingOnInterrupt("read") { read(from, &buffer, buffer.count) }
            if pair.isStalled { return pair.awaitEnd() }
            if got == 0 { break }
            let (count, fault) = take(got, direction)
            if let late { late.put(Array(buffer[..<count])) } else { try send(to, buffer[..<count]) }
            if let rate { Time.sleep(seconds: Double(count) / Double(rate)) }
            switch fault {
            case nil: break
            case .end: return pair.shut()
            case .reset: return pair.reset()
            case .stall:
                pair.stall()
                return pair.awaitEnd()
            }
        }
        if late == nil { shutdown(to, Int32(SHUT_WR)) }
    }

    /// How many of `got` bytes go on, and what happens behind them.
    private func take(_ got: Int, _ direction: Direction) -> (count: Int, fault: Fault?) {
        state.withLock { state in
            let done = direction == .there ? state.there : state.back
            var count = got
            var fault: Fault?
            if let plan = state.plan, plan.direction == direction, done + got >= plan.bytes {
                count = max(0, plan.bytes - done)
                fault = plan.fault
                state.plan = nil
            }
            if direction == .there { state.there += count } else { state.back += count }
            return (count, fault)
        }
    }

    fileprivate static func write(_ socket: Int32, _ bytes: ArraySlice<UInt8>) throws {
        var rest = bytes
        while !rest.isEmpty {
            let put = try rest.withUnsafeBytes { part in
                try retryingOnInterrupt("send") {
                    Glibc.send(socket, part.baseAddress, part.count, Int32(MSG_NOSIGNAL))
                }
            }
            rest = rest.dropFirst(put)
        }
    }

    private func send(_ socket: Int32, _ bytes: ArraySlice<UInt8>) throws { try Self.write(socket, bytes) }
}

/// The two sockets of a connection.
private final class Pair: Sendable {
    private let sockets: [Int32]
    private let left = Atomic(2)
    private let stalled = Atomic(false)

    init(_ client: Int32, _ server: Int32) { sockets = [client, server] }

    func isLast() -> Bool { left.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 }
    func close() { for socket in sockets { _ = Glibc.close(socket) } }
    func shut() { for socket in sockets { shutdown(socket, Int32(SHUT_RDWR)) } }

    /// Makes the kernel answer with RST.
    func reset() {
        for socket in sockets {
            var address = sockaddr(
                sa_family: sa_family_t(AF_UNSPEC),
                sa_data: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
            )
            // Connecting to no family cuts a TCP connection (connect(2)).
            connect(socket, &address, socklen_t(MemoryLayout<sockaddr>.size))
        }
    }

    var isStalled: Bool { stalled.load(ordering: .sequentiallyConsistent) }
    func stall() { stalled.store(true, ordering: .sequentiallyConsistent) }

    /// Until one side has given up.
    func awaitEnd() {
        while true {
            for socket in sockets {
                // POLLRDHUP, which is not in Swift's Glibc.
                var polled = pollfd(fd: socket, events: 0x2000, revents: 0)
                if poll(&polled, 1, 100) > 0 { return shut() }
            }
        }
    }
}

/// Bytes that arrive some time after they were sent.
private final class Late: Sendable {
    private struct State: Sendable {
        var queue: [(due: Int64, bytes: [UInt8])] = []
        var ended = false
    }
    private let state = Mutex(State())
    private let latency: Int64

    init(_ socket: Int32, _ latency: Double) throws {
        self.latency = Int64(latency * 1e9)
        // The connection may be gone before the last bytes are due.
        let own = dup(socket)
        let thread = try Thread("road-late") { [self] in
            let output = FileDescriptor(owning: own)
            while true {
                let (first, ended) = state.withLock { ($0.queue.first, $0.ended) }
                guard let first else {
                    if ended { break }
                    Time.sleep(seconds: 0.001)
                    continue
                }
                let wait = first.due - Time.monotonic()
                if wait > 0 { Time.sleep(seconds: Double(wait) / 1e9) }
                try Road.write(output.raw, first.bytes[...])
                state.withLock { _ = $0.queue.removeFirst() }
            }
            shutdown(output.raw, Int32(SHUT_WR))
        }
        thread.detach()
    }

    func put(_ bytes: [UInt8]) {
        let due = Time.monotonic() + latency
        state.withLock { $0.queue.append((due, bytes)) }
    }

    func end() { state.withLock { $0.ended = true } }
}
