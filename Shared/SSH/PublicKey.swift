import CLibSSH

/// SHA-256 of a public key in SSH's encoding.
package struct Fingerprint: Hashable, Sendable, CustomStringConvertible {
    /// 32 bytes.
    package let bytes: [UInt8]

    /// nil unless there are 32 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 32 else { return nil }
        self.bytes = bytes
    }

    /// Reads `SHA256:` and 43 digits of base64 without padding, as OpenSSH prints it.
    package init?(text: String) {
        guard text.hasPrefix("SHA256:"), let bytes = Base64.decode(text.dropFirst(7) + "=") else {
            return nil
        }
        self.init(bytes: bytes)
    }

    /// `SHA256:` and base64 without padding, as `ssh-keygen -l` prints it.
    package var text: String {
        "SHA256:" + String(Base64.encode(bytes).prefix { $0 != "=" })
    }

    package var description: String { text }
}

/// An ed25519 public key.
package struct PublicKey: Hashable, Sendable, CustomStringConvertible {
    /// SSH's encoding (RFC 8709): length, `ssh-ed25519`, length, 32 bytes; 51 bytes in all.
    package let blob: [UInt8]
    package let fingerprint: Fingerprint

    private static let name = Array("ssh-ed25519".utf8)
    private static let head: [UInt8] = [0, 0, 0, 11] + name + [0, 0, 0, 32]

    /// nil unless `blob` is an ed25519 key in SSH's encoding.
    package init?(blob: [UInt8]) {
        guard blob.count == Self.head.count + 32, blob.starts(with: Self.head) else { return nil }
        var key: ssh_key?
        guard ssh_pki_import_pubkey_base64(Base64.encode(blob), SSH_KEYTYPE_ED25519, &key) == SSH_OK,
            let key
        else { return nil }
        defer { ssh_key_free(key) }
        self.init(handle: key)
    }

    /// Reads a line of OpenSSH: `ssh-ed25519`, base64, and perhaps a comment.
    package init?(openSSH text: String) {
        let words = text.split(whereSeparator: { $0 == " " || $0 == "\t" || $0 == "\n" })
        guard words.count >= 2, words[0] == "ssh-ed25519", let blob = Base64.decode(words[1]) else {
            return nil
        }
        self.init(blob: blob)
    }

    /// Copies the public half of `handle`; nil when it is not ed25519 or memory is short.
    init?(handle: ssh_key) {
        guard ssh_key_type(handle) == SSH_KEYTYPE_ED25519 else { return nil }
        var text: UnsafeMutablePointer<CChar>?
        guard ssh_pki_export_pubkey_base64(handle, &text) == SSH_OK, let text else { return nil }
        defer { ssh_string_free_char(text) }
        guard let blob = Base64.decode(String(cString: text)), let print = Fingerprint(handle: handle) else {
            return nil
        }
        self.blob = blob
        self.fingerprint = print
    }

    /// `ssh-ed25519 AAAA…`, without a comment.
    package var openSSH: String { "ssh-ed25519 " + Base64.encode(blob) }

    package var description: String { openSSH }
}

extension Fingerprint {
    init?(handle: ssh_key) {
        var hash: UnsafeMutablePointer<UInt8>?
        var count = 0
        guard ssh_get_publickey_hash(handle, SSH_PUBLICKEY_HASH_SHA256, &hash, &count) == SSH_OK, let hash
        else { return nil }
        var owned: UnsafeMutablePointer<UInt8>? = hash
        defer { ssh_clean_pubkey_hash(&owned) }
        self.init(bytes: [UInt8](UnsafeBufferPointer(start: hash, count: count)))
    }
}

/// Base64 with padding (RFC 4648 §4).
enum Base64 {
    private static let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            let left = bytes.count - index
            let first = bytes[index]
            let second = left > 1 ? bytes[index + 1] : 0
            let third = left > 2 ? bytes[index + 2] : 0
            result.append(digits[Int(first >> 2)])
            result.append(digits[Int((first & 3) << 4 | second >> 4)])
            result.append(left > 1 ? digits[Int((second & 15) << 2 | third >> 6)] : 0x3D)
            result.append(left > 2 ? digits[Int(third & 63)] : 0x3D)
            index += 3
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// nil for anything that `encode` does not write.
    static func decode(_ text: some StringProtocol) -> [UInt8]? {
        var result: [UInt8] = []
        var bits: UInt32 = 0
        var count = 0
        var padding = 0
        for digit in text.utf8 {
            if digit == 0x3D {
                padding += 1
                continue
            }
            guard padding == 0, let value = digits.firstIndex(of: digit) else { return nil }
            bits = bits << 6 | UInt32(value)
            count += 1
            if count % 4 != 1 {
                result.append(UInt8(truncatingIfNeeded: bits >> UInt32(6 - 2 * ((count - 1) % 4))))
            }
        }
        guard (count + padding) % 4 == 0, padding <= 2, encode(result) == text else { return nil }
        return result
    }
}
