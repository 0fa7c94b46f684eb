import Glibc
import Posix
import SSH
import Testing

@Suite("What is refused")
struct RefusalTests {
    @Test func `another host key is named beside the expected one`() throws {
        let expected = try KeyPair.generate().publicKey.fingerprint
        let served = try serving(
            { _, _ in Issue.record("a channel was opened") },
            dial: { port, hostKey in
                let error = SSHError.wrongHostKey(
                    expected: expected,
                    found: hostKey,
                    address: "127.0.0.1 port \(port)"
                )
                #expect(throws: error) { try connect(port, expected) }
                #expect("\(error)".contains(expected.text) && "\(error)".contains(hostKey.text))
            }
        )
        #expect(served is SSHError)
    }

    @Test func `a key that is not authorized is named`() throws {
        let key = try KeyPair.generate()
        let served = try serving(
            authorize: { _ in false },
            { _, _ in Issue.record("a channel was opened") },
            dial: { port, hostKey in
                #expect(
                    throws: SSHError.keyNotAccepted(
                        key.publicKey.fingerprint,
                        address: "127.0.0.1 port \(port)"
                    )
                ) { try connect(port, hostKey, key: key) }
            }
        )
        #expect(served is SSHError)
    }

    @Test func `a port where nothing listens, and a name without address`() throws {
        let pin = try KeyPair.generate().publicKey.fingerprint
        let free = try TCPListener(address: "127.0.0.1", port: 0).port
        #expect(throws: SSHError.dial(.refused(host: "127.0.0.1", port: free))) { try connect(free, pin) }
        let error = try #require(throws: SSHError.self) {
            try SSHClient.connect(
                host: "no-such-machine.invalid",
                port: 2222,
                expectedHostKey: pin,
                key: KeyPair.generate(),
                seconds: 2
            )
        }
        guard case .dial(.nameNotFound(let host, _)) = error else {
            Issue.record("\(error)")
            return
        }
        #expect(host == "no-such-machine.invalid")
    }

    @Test func `a server that says nothing is given up at the deadline`() throws {
        let listener = try TCPListener(address: "127.0.0.1", port: 0)
        let start = Time.monotonic()
        let error = try #require(throws: SSHError.self) {
            try connect(listener.port, KeyPair.generate().publicKey.fingerprint, seconds: 0.7)
        }
        let took = Double(Time.monotonic() - start) / 1e9
        guard case .timedOut(_, 0.7) = error else {
            Issue.record("\(error)")
            return
        }
        #expect(took >= 0.69 && took < 5)
    }

    /// What a peer does with its end of the socket, and what comes of the server's patience of 0.8 s.
    private func attack(seconds: Double = 0.8, _ peer: (borrowing FileDescriptor) throws -> Void) throws
        -> (error: SSHError?, seconds: Double)
    {
        let start = Found<Int64>()
        let end = Found<Int64>()
        let served = try serving(
            seconds: seconds,
            { _, _ in Issue.record("a channel was opened") },
            dial: { port, _ in
                let socket = try dialTCP(host: "127.0.0.1", port: port, seconds: 5)
                start.value = Time.monotonic()
                try? peer(socket)
                // Until the server hangs up.
                let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
                defer { buffer.deallocate() }
                while let got = try? socket.read(into: buffer), got > 0 {}
                end.value = Time.monotonic()
            }
        )
        let took = Double((end.value ?? 0) - (start.value ?? 0)) / 1e9
        return (served as? SSHError, took)
    }

    @Test func `a peer that says nothing is cut off at the deadline`() throws {
        let (error, took) = try attack { _ in }
        #expect(error == .timedOut(stage: "key exchange", seconds: 0.8))
        #expect(took >= 0.7 && took < 5)
    }

    @Test func `a peer that trickles bytes is cut off at the deadline`() throws {
        let (error, took) = try attack { socket in
            for byte in Array("SSH-2.0-slow_but_steady_and_without_an_end".utf8) {
                try socket.writeAll([byte])
                Time.sleep(seconds: 0.05)
            }
        }
        #expect(error == .timedOut(stage: "key exchange", seconds: 0.8))
        #expect(took >= 0.7 && took < 5)
    }

    @Test func `a peer that starts a packet and does not end it is cut off`() throws {
        let (error, _) = try attack { socket in
            try socket.writeAll(Array("SSH-2.0-x\r\n".utf8) + [0, 0, 4, 0, 10, 20])
        }
        #expect(error == .timedOut(stage: "key exchange", seconds: 0.8))
    }

    @Test(arguments: 0..<20) func `garbage ends the connection`(round: Int) throws {
        let (error, took) = try attack(seconds: 5) { socket in
            if round % 2 == 0 { try socket.writeAll(Array("SSH-2.0-x\r\n".utf8)) }
            for _ in 0..<(round % 5 == 0 ? 1000 : 2) { try socket.writeAll(randomBytes(1000 + round)) }
            shutdown(socket.raw, Int32(SHUT_WR))
        }
        guard case .failure(stage: "key exchange", _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(took < 4)
    }

    @Test func `a peer that lives but takes nothing is waited for`() throws {
        let served = try serving(
            { channel, _ in
                let first = try channel.read(20_000_000)
                #expect(first.count == 20_000_000)
                Time.sleep(seconds: 4)
                #expect(try channel.readPattern(from: 20_000_000) == (80_000_000, true))
            },
            dial: { port, hostKey in
                let liveness = Liveness(idle: 1, interval: 1, probes: 2, silence: 1)
                let channel = try connect(port, hostKey, liveness: liveness)
                try channel.writePattern(bytes: 100_000_000)
                channel.close()
            }
        )
        #expect(served == nil)
    }
}
