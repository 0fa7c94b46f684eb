import Glibc
import Posix
import Wire

/// An SSH channel whose bytes a thread of its own receives and decrypts ahead of who reads them, between `start` and
/// `stop`; outside of that it is the channel itself. For one thread at a time.
package final class ReadAhead: ByteChannel {
    private let state: State
    private var thread: Thread?
    private var whileWaiting: () throws -> Void = {}

    package init(_ channel: SSHChannel) { state = State(channel) }
    deinit { stop() }

    /// - Parameters:
    ///   - limit: Bytes a second, at least 1, that are received; nil for no limit. The other side is held back by
    ///     SSH's window, and at first may be that far ahead (`SSHChannel.window`).
    ///   - whileWaiting: Called by `read` once a second as long as nothing comes; what it throws ends that `read`.
    package func start(limit: Int64? = nil, whileWaiting: @escaping () throws -> Void = {}) throws {
        guard thread == nil else { return }
        self.whileWaiting = whileWaiting
        let state = self.state
        try state.begin(limit.map { RateLimit(rate: $0, now: Time.monotonic()) })
        thread = try Thread("receive") { state.run() }
    }

    /// What was received and not read stays for `read`.
    package func stop() {
        whileWaiting = {}
        guard let running = thread.take() else { return }
        state.end()
        try? running.join()
        state.ended()
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while true {
            switch try state.read(into: buffer) {
            case .bytes(let count): return count
            case .nothingYet: try whileWaiting()
            case .notRunning: return try state.channel.read(into: buffer)
            }
        }
    }

    package func write(_ bytes: UnsafeRawBufferPointer) throws { try state.write(bytes) }

    package func inputWaits() throws -> Bool { try state.inputWaits() ?? state.channel.inputWaits() }

    private final class State: @unchecked Sendable {
        /// Its calls are made by one thread at a time: who is inside `turn`, or anybody while nothing runs.
        let channel: SSHChannel
        private let turn = Monitor()

        private let monitor = Monitor()
        // Everything below is touched inside `monitor` only, but for the free part of the ring, which is the thread's.
        private var ring = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        private var first = 0
        private var count = 0
        private var outcome: Outcome?
        /// The thread's alone while it runs.
        private var limit: RateLimit?
        private var runs = false
        private var stopping = false
        /// Counts what may have made libssh take in bytes that no poll(2) will tell of any more.
        private var writes = 0
        private var polls = false
        /// Two ends of a pair that wakes the thread from its poll(2).
        private var wake: (ours: Int32, theirs: Int32)?

        private enum Outcome {
            case closed
            case failed(any Error)
        }

        /// Bytes received ahead: some milliseconds of work on a chunk.
        private static let capacity = 4 << 20

        init(_ channel: SSHChannel) { self.channel = channel }
        deinit { ring.deallocate() }

        func begin(_ limit: RateLimit?) throws {
            let wake = try socketPair()
            channel.limitWindow(toRate: limit?.rate)
            monitor.locked {
                self.wake = wake
                self.limit = limit
                if ring.count == 0 { ring = .allocate(byteCount: Self.capacity, alignment: 4096) }
                runs = true
                stopping = false
            }
        }

        func end() {
            monitor.locked {
                stopping = true
                wakeThread()
                monitor.wakeAll()
            }
        }

        func ended() {
            channel.limitWindow(toRate: nil)
            monitor.locked {
                runs = false
                if let wake {
                    close(wake.ours)
                    close(wake.theirs)
                }
                wake = nil
                release()
            }
        }

        /// An idle session shall hold no buffer.
        private func release() {
            guard !runs && count == 0 else { return }
            ring.deallocate()
            ring = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        }

        private func wakeThread() { if polls, let wake { put(".", to: wake.ours) } }

        // MARK: The thread

        func run() {
            do {
                while let (free, seen) = awaitSpace() {
                    guard let got = try turn.locked({ try channel.readNow(into: free) }) else {
                        return finish(.closed)
                    }
                    if got > 0 {
                        received(got)
                        holdBack(got)
                    } else {
                        try awaitInput(seen)
                    }
                }
            } catch { finish(.failed(error)) }
        }

        /// The free part of the ring behind what is there, and the count of writes; nil when it is time to stop.
        private func awaitSpace() -> (UnsafeMutableRawBufferPointer, Int)? {
            monitor.locked {
                while count == ring.count && !stopping { monitor.wait() }
                if stopping { return nil }
                let start = (first + count) % ring.count
                let room = min(ring.count - count, ring.count - start)
                let length = limit.map { min(room, $0.portion) } ?? room
                return (UnsafeMutableRawBufferPointer(rebasing: ring[start..<start + length]), writes)
            }
        }

        private func received(_ bytes: Int) {
            monitor.locked {
                count += bytes
                monitor.wakeAll()
            }
        }

        /// Sleeps until more may be received: a tenth of a second, or little more. Nothing is locked meanwhile.
        private func holdBack(_ bytes: Int) {
            let wait = limit?.take(bytes, now: Time.monotonic()) ?? 0
            if wait > 0 { Time.sleep(seconds: Double(wait) / 1e9) }
        }

        private func finish(_ outcome: Outcome) {
            monitor.locked {
                self.outcome = outcome
                monitor.wakeAll()
            }
        }

        private func awaitInput(_ seen: Int) throws {
            let waker: Int32? = monitor.locked {
                guard let wake, writes == seen, !stopping else { return nil }
                polls = true
                return wake.theirs
            }
            guard let waker else { return }
            let ready = try channel.waitForSocket(alsoOn: waker)
            monitor.locked { polls = false }
            if ready == .other {
                var byte: UInt8 = 0
                _ = Glibc.read(waker, &byte, 1)
            }
            if ready == .timedOut { try turn.locked { try channel.checkPeer() } }
        }

        // MARK: The reader

        enum Read {
            case bytes(Int)
            /// For a second.
            case nothingYet
            /// Nothing was received ahead, and the thread does not run.
            case notRunning
        }

        func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Read {
            try monitor.locked {
                while count == 0 && outcome == nil && runs {
                    if !monitor.wait(seconds: 1) && count == 0 && outcome == nil { return .nothingYet }
                }
                if count > 0 {
                    let length = min(buffer.count, count, ring.count - first)
                    let part = UnsafeRawBufferPointer(rebasing: ring[first..<first + length])
                    buffer.copyMemory(from: part)
                    let wasFull = count == ring.count
                    first = (first + length) % ring.count
                    count -= length
                    if wasFull { monitor.wakeAll() }
                    release()
                    return .bytes(length)
                }
                switch outcome {
                case .closed?: return .bytes(0)
                case .failed(let error)?: throw error
                case nil: return .notRunning
                }
            }
        }

        func write(_ bytes: UnsafeRawBufferPointer) throws {
            try turn.locked { try channel.write(bytes) }
            monitor.locked {
                writes += 1
                wakeThread()
            }
        }

        func inputWaits() throws -> Bool? {
            monitor.locked { count > 0 || outcome != nil ? true : runs ? false : nil }
        }
    }
}
