import Glibc
import Posix
import SSH
import Testing

@Suite("A connection")
struct ConnectionTests {
    @Test func `carries bytes both ways and names the key that was proven`() throws {
        let key = try KeyPair.generate()
        let proven = Found<PublicKey>()
        let served = try serving(
            { channel, key in
                proven.value = key
                #expect(try channel.readText(5) == "hello")
                try channel.write("welcome")
                #expect(try channel.read(1).isEmpty)
            },
            dial: { port, hostKey in
                let channel = try connect(port, hostKey, key: key)
                #expect(channel.algorithms.incoming == "aes128-gcm@openssh.com")
                #expect(channel.algorithms.outgoing == "aes128-gcm@openssh.com")
                #expect(channel.algorithms.keyExchange.hasPrefix("curve25519-sha256"))
                try channel.write("hello")
                #expect(try channel.readText(7) == "welcome")
                channel.close()
            }
        )
        #expect(served == nil)
        #expect(proven.value == key.publicKey)
    }

    @Test func `each side's end is seen while the other direction goes on`() throws {
        let served = try serving(
            { channel, _ in
                #expect(try channel.readPattern() == (5_000_000, true))
                try channel.writePattern(bytes: 5_000_000)
                try channel.sendEnd()
            },
            dial: { port, hostKey in
                let channel = try connect(port, hostKey)
                try channel.writePattern(bytes: 5_000_000)
                try channel.sendEnd()
                #expect(try channel.readPattern() == (5_000_000, true))
                channel.close()
            }
        )
        #expect(served == nil)
    }

    @Test func `last words arrive although much that was sent stays unread`() throws {
        let served = try serving(
            { channel, _ in
                _ = try channel.read(1)
                try channel.write("refused: go away")
            },
            dial: { port, hostKey in
                let channel = try connect(port, hostKey)
                // This may fail, because the other side has closed; what it said can be read all the same.
                _ = try? channel.writePattern(bytes: 1_000_000)
                #expect(try channel.readText(100) == "refused: go away")
                channel.close()
            }
        )
        #expect(served == nil)
    }

    @Test func `both ends may write much at once`() throws {
        let served = try serving(
            { channel, _ in
                try channel.writePattern(bytes: 1_000_000, step: 1 << 20)
                try channel.sendEnd()
                #expect(try channel.readPattern() == (1_000_000, true))
            },
            dial: { port, hostKey in
                let channel = try connect(port, hostKey)
                try channel.writePattern(bytes: 1_000_000, step: 1 << 20)
                try channel.sendEnd()
                #expect(try channel.readPattern() == (1_000_000, true))
                channel.close()
            }
        )
        #expect(served == nil)
    }

    @Test(arguments: [(UInt64(1 << 20), UInt64(1 << 20)), (1 << 20, 0), (0, 1 << 20)])
    func `survives new keys in the middle of a stream`(server: UInt64, client: UInt64) throws {
        let bytes = 64 << 20
        let served = try serving(
            rekeyBytes: server,
            { channel, _ in
                #expect(try channel.readPattern() == (bytes, true))
                try channel.writePattern(bytes: bytes)
                try channel.sendEnd()
            },
            dial: { port, hostKey in
                let channel = try connect(port, hostKey, rekeyBytes: client)
                try channel.writePattern(bytes: bytes)
                try channel.sendEnd()
                #expect(try channel.readPattern() == (bytes, true))
                channel.close()
            }
        )
        #expect(served == nil)
    }

    @Test func `a peer that goes away without a goodbye is an error, not an end`() throws {
        let served = try serving(
            { channel, _ in _ = try channel.read(100) },
            dial: { port, hostKey in
                let channel = try connect(port, hostKey)
                try channel.write("half")
                channel.breaker.breakOff()
            }
        )
        guard case .lost = served as? SSHError else {
            Issue.record("\(String(describing: served))")
            return
        }
    }

    @Test func `a blocked read is ended from another thread`() throws {
        try serving(
            { channel, _ in _ = try channel.read(1) },
            dial: { port, hostKey in
                let channel = try connect(port, hostKey)
                let breaker = channel.breaker
                let thread = try Thread("breaker") {
                    Time.sleep(seconds: 0.2)
                    breaker.breakOff()
                }
                #expect(throws: SSHError.brokenOff) { try channel.read(1) }
                try thread.join()
                #expect(throws: SSHError.brokenOff) { try channel.write("x") }
                #expect(throws: SSHError.brokenOff) { try channel.waitReadable(seconds: 1) }
            }
        )
    }

    @Test func `a blocked write is ended from another thread`() throws {
        try serving(
            { channel, _ in Time.sleep(seconds: 1.5) },
            dial: { port, hostKey in
                let channel = try connect(port, hostKey)
                let breaker = channel.breaker
                let thread = try Thread("breaker") {
                    Time.sleep(seconds: 0.5)
                    breaker.breakOff()
                }
                #expect(throws: SSHError.brokenOff) { try channel.writePattern(bytes: 200_000_000) }
                try thread.join()
            }
        )
    }

    @Test func `waiting ends with the peer's bytes, the other descriptor, or the time`() throws {
        let served = try serving(
            { channel, _ in
                #expect(try channel.readText(1) == "a")
                try channel.write("0123456789")
                #expect(try channel.readText(1) == "b")
            },
            dial: { port, hostKey in
                let channel = try connect(port, hostKey)
                let ends = try FileDescriptor.pipe()
                let reading = FileDescriptor(owning: ends.read)
                let writing = FileDescriptor(owning: ends.write)
                let start = Time.monotonic()
                #expect(try channel.waitReadable(alsoOn: reading.raw, seconds: 0.2) == .timedOut)
                #expect(Time.monotonic() - start >= 200_000_000)
                #expect(try channel.waitReadable(seconds: 0) == .timedOut)
                #expect(try !channel.inputWaits())
                try writing.writeAll([1])
                #expect(try channel.waitReadable(alsoOn: reading.raw) == .other)
                try channel.write("a")
                #expect(try channel.waitReadable(seconds: 10) == .peer)
                #expect(try channel.readText(4) == "0123")
                // The rest is in libssh's buffer, not in the socket.
                #expect(try channel.waitReadable(seconds: 10) == .peer)
                #expect(try channel.waitReadable(alsoOn: reading.raw) == .peer)
                #expect(try channel.inputWaits())
                #expect(try channel.readText(6) == "456789")
                #expect(try !channel.inputWaits())
                try channel.write("b")
                // The end counts as something to read.
                #expect(try channel.waitReadable(seconds: 10) == .peer)
                #expect(try channel.read(1).isEmpty)
                channel.close()
            }
        )
        #expect(served == nil)
    }

    @Test func `100 connections leave no socket behind`() throws {
        let hostKey = try KeyPair.generate()
        let key = try KeyPair.generate()
        let listener = try TCPListener(address: "127.0.0.1", port: 0)
        let raw = listener.descriptor.raw
        let count = 100
        let server = try Thread("server") {
            for round in 0..<count {
                let socket = accept(raw, nil, nil)
                guard
                    let (channel, _) = try? SSHServerConnection.accept(
                        FileDescriptor(owning: socket),
                        hostKey: hostKey
                    )
                else { continue }
                if round % 3 != 0 { _ = try? channel.read(1) }
                if round % 2 == 0 { channel.close() }
            }
        }
        let pin = hostKey.publicKey.fingerprint
        let wrong = key.publicKey.fingerprint
        for round in 0..<count {
            guard let channel = try? connect(listener.port, round % 5 == 0 ? wrong : pin, key: key) else {
                continue
            }
            if round % 4 != 0 { try? channel.write("x") }
            if round % 2 == 1 { channel.close() }
        }
        try server.join()
        // The listener itself.
        #expect(try openSockets(port: listener.port) == 1)
    }
}

/// How many descriptors of this process are TCP sockets with `port` at either end.
private func openSockets(port: UInt16) throws -> Int {
    let suffix = ":" + hex([UInt8(port >> 8), UInt8(port & 255)]).uppercased()
    var inodes: Set<String> = []
    for line in String(decoding: try Files.read("/proc/net/tcp"), as: UTF8.self).split(separator: "\n") {
        let fields = line.split(separator: " ")
        guard fields.count > 9, fields[1].hasSuffix(suffix) || fields[2].hasSuffix(suffix) else { continue }
        inodes.insert("socket:[\(fields[9])]")
    }
    var count = 0
    for name in try Directory.names("/proc/self/fd") {
        var target = [UInt8](repeating: 0, count: 256)
        let path = "/proc/self/fd/" + String(decoding: name, as: UTF8.self)
        let length = target.withUnsafeMutableBytes { buffer in
            buffer.assumingMemoryBound(to: CChar.self).baseAddress.map { readlink(path, $0, buffer.count) }
                ?? 0
        }
        if length > 0, inodes.contains(String(decoding: target[..<length], as: UTF8.self)) { count += 1 }
    }
    return count
}
