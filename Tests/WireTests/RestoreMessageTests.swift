import TestSupport
import Testing
import Wire

@Suite("Messages of a restore")
struct RestoreMessageTests {
    private func request(_ type: UInt8, _ body: some Sequence<UInt8>) throws -> RestoreRequest {
        try Array(body).withUnsafeBytes { try RestoreRequest(type: type, body: $0) }
    }

    private func reply(_ type: UInt8, _ body: some Sequence<UInt8>) throws -> RestoreReply {
        try Array(body).withUnsafeBytes { try RestoreReply(type: type, body: $0) }
    }

    @Test(arguments: 0..<50) func `every message comes back as it was, and none that is cut or too long`(
        seed: Int
    )
        throws
    {
        var random = SplitMix(UInt64(seed))
        for message in random.restoreRequests() {
            let body = encoded(message)
            #expect(try request(message.type, body) == message)
            #expect(throws: WireError.self) { try request(message.type, body + [0]) }
            for end in body.indices {
                #expect(throws: WireError.self) { try request(message.type, body[..<end]) }
            }
        }
        for message in random.restoreReplies() {
            let body = encoded(message)
            #expect(try reply(message.type, body) == message)
            #expect(throws: WireError.self) { try reply(message.type, body + [0]) }
            for end in body.indices.prefix(300) {
                #expect(throws: WireError.self) { try reply(message.type, body[..<end]) }
            }
        }
    }

    @Test func `bytes changed anywhere never crash the reader`() {
        var random = SplitMix(11)
        for _ in 0..<2000 {
            for message in random.restoreReplies() {
                var body = encoded(message)
                guard !body.isEmpty else { continue }
                for _ in 0..<3 { body[Int.random(in: body.indices, using: &random)] = random.number() }
                if let back = try? reply(message.type, body) { #expect(encoded(back) == body) }
            }
        }
    }
}
