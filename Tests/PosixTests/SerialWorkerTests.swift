import Posix
import Synchronization
import Testing

private final class Log: Sendable {
    let lines = Mutex<[Int]>([])
}

@Suite("A serial worker")
struct SerialWorkerTests {
    @Test func `jobs run in their order and are done after a drain`() throws {
        let log = Log()
        let worker = try SerialWorker("test", depth: 2)
        for number in 0..<500 { try worker.submit { log.lines.withLock { $0.append(number) } } }
        try worker.drain()
        #expect(log.lines.withLock { $0 } == Array(0..<500))
    }

    @Test func `an error comes out of the next call and drops what waits`() throws {
        let log = Log()
        let worker = try SerialWorker("test", depth: 4)
        try worker.submit {
            Time.sleep(seconds: 0.05)
            throw SystemCallError("write", errno: 28)
        }
        try worker.submit { log.lines.withLock { $0.append(1) } }
        #expect(throws: SystemCallError.self) { try worker.drain() }
        #expect(throws: SystemCallError.self) { try worker.submit {} }
        #expect(log.lines.withLock { $0 }.isEmpty)
    }

    @Test func `nothing runs after a cancel`() throws {
        let log = Log()
        let worker = try SerialWorker("test", depth: 4)
        try worker.submit {
            Time.sleep(seconds: 0.05)
            log.lines.withLock { $0.append(1) }
        }
        for _ in 0..<3 { try worker.submit { log.lines.withLock { $0.append(2) } } }
        worker.cancel()
        let done = log.lines.withLock { $0 }
        Time.sleep(seconds: 0.02)
        #expect(log.lines.withLock { $0 } == done)
        #expect(throws: SystemCallError.self) { try worker.submit {} }
    }
}
