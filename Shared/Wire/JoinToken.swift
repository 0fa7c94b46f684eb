/// What `holdfast-agent join ADDRESS TOKEN` and `restore ADDRESS TOKEN` are given: `hf1.` or `hfr1.` and base64url
/// (RFC 4648 §5, no padding) of 16 random bytes, the SHA-256 of the coordinator's public host key blob, and the CRC-32 of
/// the two, little-endian.
///
/// The checksum tells a token that was cut or mistyped from one that is refused.
package struct JoinToken: Equatable, Sendable {
    /// What it is good for.
    package enum Purpose: String, Sendable, CaseIterable {
        case join = "hf1."
        case restore = "hfr1."
    }

    package let purpose: Purpose
    package static let secretBytes = 16
    package static let fingerprintBytes = 32

    /// Secret; it never appears in a log.
    package let secret: [UInt8]
    /// SHA-256 of the host's public key blob.
    package let fingerprint: [UInt8]

    /// Nil unless there are 16 and 32 bytes.
    package init?(_ purpose: Purpose = .join, secret: [UInt8], fingerprint: [UInt8]) {
        guard secret.count == Self.secretBytes, fingerprint.count == Self.fingerprintBytes else { return nil }
        self.purpose = purpose
        self.secret = secret
        self.fingerprint = fingerprint
    }

    package var text: String {
        var bytes = secret + fingerprint
        let sum = crc32(bytes)
        withUnsafeBytes(of: sum.littleEndian) { bytes.append(contentsOf: $0) }
        return purpose.rawValue + base64URL(bytes)
    }

    /// Reads a token; nil for anything that is none, or was cut or mistyped.
    package init?(_ text: String) {
        guard text.utf8.count < 200,
            let purpose = Purpose.allCases.first(where: { text.hasPrefix($0.rawValue) }),
            let bytes = bytes(base64URL: text.dropFirst(purpose.rawValue.count)),
            bytes.count == Self.secretBytes + Self.fingerprintBytes + 4
        else { return nil }
        let sum = crc32(Array(bytes.dropLast(4)))
        guard withUnsafeBytes(of: sum.littleEndian, { bytes.suffix(4).elementsEqual($0) }) else { return nil }
        self.init(
            purpose,
            secret: Array(bytes.prefix(Self.secretBytes)),
            fingerprint: Array(bytes[Self.secretBytes..<Self.secretBytes + Self.fingerprintBytes])
        )
    }
}

/// The CRC-32 of IEEE 802.3 and zip, bit by bit: it is needed for a few bytes at a time.
func crc32(_ bytes: [UInt8]) -> UInt32 {
    var sum: UInt32 = 0xFFFF_FFFF
    for byte in bytes {
        sum ^= UInt32(byte)
        for _ in 0..<8 { sum = sum & 1 == 1 ? sum >> 1 ^ 0xEDB8_8320 : sum >> 1 }
    }
    return ~sum
}

private let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

private func base64URL(_ bytes: [UInt8]) -> String {
    var result: [UInt8] = []
    var held: UInt32 = 0
    var bits = 0
    for byte in bytes {
        held = held << 8 | UInt32(byte)
        bits += 8
        while bits >= 6 {
            bits -= 6
            result.append(alphabet[Int(held >> UInt32(bits) & 63)])
        }
    }
    if bits > 0 { result.append(alphabet[Int(held << UInt32(6 - bits) & 63)]) }
    return String(decoding: result, as: UTF8.self)
}

private func bytes(base64URL text: some StringProtocol) -> [UInt8]? {
    var result: [UInt8] = []
    var held: UInt32 = 0
    var bits = 0
    for character in text.utf8 {
        guard let value = alphabet.firstIndex(of: character) else { return nil }
        held = held << 6 | UInt32(value)
        bits += 6
        if bits >= 8 {
            bits -= 8
            result.append(UInt8(truncatingIfNeeded: held >> UInt32(bits)))
        }
    }
    // What is left over is padding and must be zero, so that every token has one spelling.
    guard bits < 6, held & (1 << UInt32(bits) - 1) == 0 else { return nil }
    return result
}
