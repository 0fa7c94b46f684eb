import CLibCrypto

/// HMAC (RFC 2104) with SHA-256.
package enum HMACSHA256 {
    /// The 32 bytes that only one who knows `key` can make of `message`.
    package static func authenticate(_ message: [UInt8], key: [UInt8]) throws(DigestError) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: SHA256Digest.byteCount)
        var length = 0
        guard
            EVP_Q_mac(
                nil,
                "HMAC",
                nil,
                "SHA256",
                nil,
                key,
                key.count,
                message,
                message.count,
                &digest,
                digest.count,
                &length
            ) != nil, length == digest.count
        else { throw DigestError(call: "EVP_Q_mac") }
        return digest
    }
}
