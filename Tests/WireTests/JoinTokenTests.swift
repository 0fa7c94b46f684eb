import Testing
import Wire

@Suite("Tokens to join with")
struct JoinTokenTests {
    private let secret = [UInt8](0..<16)
    private let fingerprint = [UInt8](100..<132)

    @Test func `a token carries the secret and the fingerprint`() throws {
        let token = try #require(JoinToken(secret: secret, fingerprint: fingerprint))
        #expect(token.text.hasPrefix("hf1."))
        #expect(token.text.utf8.count == 4 + 70)
        let back = try #require(JoinToken(token.text))
        #expect(back == token)
    }

    @Test func `a token for a restore is told from one to join with`() throws {
        let token = try #require(JoinToken(.restore, secret: secret, fingerprint: fingerprint))
        #expect(token.text.hasPrefix("hfr1."))
        #expect(try #require(JoinToken(token.text)) == token)
        let join = try #require(JoinToken(secret: secret, fingerprint: fingerprint))
        #expect(join != token && join.purpose == .join)
    }

    @Test func `a cut, changed or foreign token is told from a whole one`() throws {
        let text = try #require(JoinToken(secret: secret, fingerprint: fingerprint)).text
        #expect(JoinToken(String(text.dropLast())) == nil)
        #expect(JoinToken(text + "A") == nil)
        #expect(JoinToken("") == nil)
        #expect(JoinToken("hf1.") == nil)
        #expect(JoinToken("hf2." + text.dropFirst(4)) == nil)
        for index in 4..<text.utf8.count {
            var bytes = Array(text.utf8)
            bytes[index] = bytes[index] == 0x41 ? 0x42 : 0x41
            #expect(JoinToken(String(decoding: bytes, as: UTF8.self)) == nil, "at \(index)")
        }
    }

    @Test func `parts of the wrong length make no token`() {
        #expect(JoinToken(secret: [1], fingerprint: fingerprint) == nil)
        #expect(JoinToken(secret: secret, fingerprint: []) == nil)
    }
}
