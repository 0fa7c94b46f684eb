import Glibc
import Posix
import SSH
import Testing

/// A folder that goes with the value.
struct Scratch: ~Copyable {
    let path: String

    init() throws {
        path = "/tmp/holdfast-ssh-\(randomHex(6))"
        try Files.makeDirectories(path)
    }
    deinit { try? Files.removeTree(path) }
}

/// What a thread found, for the thread that joins it.
final class Found<Value>: @unchecked Sendable {
    // Written by one thread, read after it was joined.
    var value: Value?
}

/// One connection served on a thread of its own while the test is the client.
///
/// - Parameters:
///   - serve: Runs on the server's thread with the accepted channel, which is closed afterwards.
///   - dial: Runs on the calling thread with the port and the host key's fingerprint.
/// - Returns: What the server's side threw, if it did.
@discardableResult
func serving(
    seconds: Double = 20,
    liveness: Liveness = .standard,
    rekeyBytes: UInt64 = 0,
    authorize: @escaping @Sendable (PublicKey) -> Bool = { _ in true },
    _ serve: @escaping @Sendable (SSHChannel, PublicKey) throws -> Void = { _, _ in },
    dial: (UInt16, Fingerprint) throws -> Void
) throws -> (any Error)? {
    // Tests write to sockets that the server has closed.
    Host.ignoreBrokenPipes()
    let hostKey = try KeyPair.generate()
    let listener = try TCPListener(address: "127.0.0.1", port: 0)
    let raw = listener.descriptor.raw
    let thread = try Thread("server") {
        guard try !waitReadable([raw], seconds: 30).isEmpty else { return }
        let socket = accept(raw, nil, nil)
        let (channel, key) = try SSHServerConnection.accept(
            FileDescriptor(owning: socket),
            hostKey: hostKey,
            seconds: seconds,
            liveness: liveness,
            rekeyBytes: rekeyBytes,
            authorize: authorize
        )
        defer { channel.close() }
        try serve(channel, key)
    }
    var dialError: (any Error)?
    do { try dial(listener.port, hostKey.publicKey.fingerprint) } catch { dialError = error }
    var served: (any Error)?
    do { try thread.join() } catch { served = error }
    if let dialError { throw dialError }
    return served
}

func connect(
    _ port: UInt16,
    _ hostKey: Fingerprint,
    key: KeyPair? = nil,
    seconds: Double = 20,
    liveness: Liveness = .standard,
    rekeyBytes: UInt64 = 0
) throws -> SSHChannel {
    try SSHClient.connect(
        host: "127.0.0.1",
        port: port,
        expectedHostKey: hostKey,
        key: key ?? KeyPair.generate(),
        seconds: seconds,
        liveness: liveness,
        rekeyBytes: rekeyBytes
    )
}

extension SSHChannel {
    func write(_ bytes: [UInt8]) throws { try bytes.withUnsafeBytes { try write($0) } }
    func write(_ text: String) throws { try write(Array(text.utf8)) }

    /// Reads `count` bytes, or fewer when the other side ends before.
    func read(_ count: Int) throws -> [UInt8] {
        var result: [UInt8] = []
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(1, min(count, 1 << 20)),
            alignment: 16
        )
        defer { buffer.deallocate() }
        while result.count < count {
            let part = UnsafeMutableRawBufferPointer(
                rebasing: buffer[..<min(buffer.count, count - result.count)]
            )
            let got = try read(into: part)
            if got == 0 { break }
            result.append(contentsOf: part[..<got])
        }
        return result
    }

    func readText(_ count: Int) throws -> String { String(decoding: try read(count), as: UTF8.self) }

    /// Reads to the end; returns the number of bytes and whether they were those of `Pattern`.
    func readPattern(from start: Int = 0) throws -> (bytes: Int, right: Bool) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { buffer.deallocate() }
        var total = 0
        var right = true
        while true {
            let got = try read(into: buffer)
            if got == 0 { return (total, right) }
            right =
                right && Pattern.matches(UnsafeRawBufferPointer(rebasing: buffer[..<got]), at: start + total)
            total += got
        }
    }

    func writePattern(bytes: Int, step: Int = 256 << 10, from start: Int = 0) throws {
        var done = start
        while done < start + bytes {
            let offset = done % Pattern.period
            let count = min(step, start + bytes - done)
            try Pattern.bytes.withUnsafeBytes {
                try write(UnsafeRawBufferPointer(rebasing: $0[offset..<offset + count]))
            }
            done += count
        }
    }
}

/// Endless bytes whose every part can be told from the parts beside it, cheap to compare.
enum Pattern {
    static let period = 1_000_003
    /// One period and 1 MiB of the next.
    static let bytes: [UInt8] = {
        var state: UInt64 = 0x9E37_79B9_7F4A_7C15
        var once = [UInt8](repeating: 0, count: period)
        for index in once.indices {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            once[index] = UInt8(truncatingIfNeeded: state >> 56)
        }
        return once + once + once.prefix(1 << 20)
    }()

    static func matches(_ part: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        bytes.withUnsafeBytes { whole in
            guard let base = whole.baseAddress, let start = part.baseAddress else { return part.isEmpty }
            return memcmp(base + offset % period, start, part.count) == 0
        }
    }
}
