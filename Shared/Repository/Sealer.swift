import CLibCrypto
import Posix

/// The three keys of restic's authenticated encryption: AES-256 `encrypt`, AES-128 `k` and Poly1305 `r`.
package struct MasterKey: Sendable {
    /// 32, 16 and 16 bytes, as stored (releases differ in whether they clamp `r` first).
    package let encrypt: [UInt8]
    package let k: [UInt8]
    package let r: [UInt8]

    /// - Throws: `invalid` for wrong lengths and for keys of zeros, which restic refuses too.
    package init(encrypt: [UInt8], k: [UInt8], r: [UInt8]) throws(RepositoryError) {
        guard encrypt.count == 32, k.count == 16, r.count == 16 else {
            throw .invalid("a master key of the wrong length")
        }
        guard encrypt.contains(where: { $0 != 0 }), k.contains(where: { $0 != 0 }),
            r.contains(where: { $0 != 0 })
        else { throw .invalid("a master key of zeros") }
        self.encrypt = encrypt
        self.k = k
        self.r = r
    }

    /// The 64 bytes that scrypt gives for a password.
    init(derived: [UInt8]) throws(RepositoryError) {
        guard derived.count == 64 else { throw .invalid("a derived key of the wrong length") }
        try self.init(
            encrypt: Array(derived[..<32]),
            k: Array(derived[32..<48]),
            r: Array(derived[48...])
        )
    }

    package static func random() throws(RepositoryError) -> MasterKey {
        try MasterKey(encrypt: randomBytes(32), k: randomBytes(16), r: randomBytes(16))
    }

    /// `count` secret bytes that only holders of this key can compute, for the purpose `label`.
    /// `r` takes no part, because stock releases store it clamped or not.
    package func derive(_ label: String, count: Int) throws(RepositoryError) -> [UInt8] {
        try hkdfSHA256(key: encrypt + k, salt: [], info: Array(label.utf8), count: count)
    }
}

/// Seals and opens with one key: AES-256-CTR, then Poly1305-AES over the ciphertext (restic's format).
/// A sealed text is IV (16 bytes), ciphertext, MAC (16 bytes). Keeps its contexts; for one thread at a time.
package final class Sealer {
    package static let overhead = 32

    private let counter: OpaquePointer
    private let block: OpaquePointer
    private let mac: OpaquePointer
    private let r: [UInt8]

    package init(_ key: MasterKey) throws(RepositoryError) {
        guard let counter = EVP_CIPHER_CTX_new() else { throw .library("EVP_CIPHER_CTX_new") }
        guard let block = EVP_CIPHER_CTX_new() else {
            EVP_CIPHER_CTX_free(counter)
            throw .library("EVP_CIPHER_CTX_new")
        }
        let algorithm = EVP_MAC_fetch(nil, "POLY1305", nil)
        defer { EVP_MAC_free(algorithm) }
        guard let algorithm, let mac = EVP_MAC_CTX_new(algorithm) else {
            EVP_CIPHER_CTX_free(counter)
            EVP_CIPHER_CTX_free(block)
            throw .library("EVP_MAC POLY1305")
        }
        self.counter = counter
        self.block = block
        self.mac = mac
        self.r = key.r
        guard EVP_EncryptInit_ex2(counter, EVP_aes_256_ctr(), key.encrypt, nil, nil) == 1,
            EVP_EncryptInit_ex2(block, EVP_aes_128_ecb(), key.k, nil, nil) == 1,
            EVP_CIPHER_CTX_set_padding(block, 0) == 1
        else { throw .library("EVP_EncryptInit_ex2") }
    }
    deinit {
        EVP_CIPHER_CTX_free(counter)
        EVP_CIPHER_CTX_free(block)
        EVP_MAC_CTX_free(mac)
    }

    /// Seals `plain` into `output`, which has room for `plain.count + 32` bytes and does not overlap it.
    /// - Returns: The bytes written.
    package func seal(_ plain: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer)
        throws(RepositoryError) -> Int
    {
        var iv = randomBytes(16)
        // One chance in 2^128, but readers refuse it.
        while iv.allSatisfy({ $0 == 0 }) { iv = randomBytes(16) }
        return try seal(plain, iv: iv, into: output)
    }

    /// As above with a given IV; only the vectors use it.
    package func seal(
        _ plain: UnsafeRawBufferPointer,
        iv: [UInt8],
        into output: UnsafeMutableRawBufferPointer
    ) throws(RepositoryError) -> Int {
        precondition(iv.count == 16 && output.count >= plain.count + Self.overhead)
        output.copyBytes(from: iv)
        let body = UnsafeMutableRawBufferPointer(rebasing: output[16..<16 + plain.count])
        try crypt(plain, iv: UnsafeRawBufferPointer(rebasing: output[..<16]), into: body)
        try authenticate(
            UnsafeRawBufferPointer(body),
            iv: UnsafeRawBufferPointer(rebasing: output[..<16]),
            into: UnsafeMutableRawBufferPointer(rebasing: output[(16 + plain.count)..<(32 + plain.count)])
        )
        return plain.count + Self.overhead
    }

    package func seal(_ plain: [UInt8]) throws -> [UInt8] {
        try [UInt8](unsafeUninitializedCapacity: plain.count + Self.overhead) { buffer, initialized in
            initialized = try plain.withUnsafeBytes {
                try seal($0, into: UnsafeMutableRawBufferPointer(buffer))
            }
        }
    }

    /// Opens `sealed` into `output`, which has room for `sealed.count - 32` bytes. Nothing is decrypted unless
    /// the MAC is right.
    /// - Returns: The bytes written, or nil when `sealed` was not made with this key or was changed.
    package func open(_ sealed: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer)
        throws(RepositoryError) -> Int?
    {
        guard sealed.count >= Self.overhead else { return nil }
        let size = sealed.count - Self.overhead
        precondition(output.count >= size)
        let iv = UnsafeRawBufferPointer(rebasing: sealed[..<16])
        guard iv.contains(where: { $0 != 0 }) else { return nil }
        let body = UnsafeRawBufferPointer(rebasing: sealed[16..<16 + size])
        var expected: (UInt64, UInt64) = (0, 0)
        var failure: RepositoryError?
        let same = withUnsafeMutableBytes(of: &expected) { tag in
            do throws(RepositoryError) { try authenticate(body, iv: iv, into: tag) } catch { failure = error }
            return CRYPTO_memcmp(tag.baseAddress, sealed.baseAddress.map { $0 + 16 + size }, 16) == 0
        }
        if let failure { throw failure }
        guard same else { return nil }
        try crypt(body, iv: iv, into: output)
        return size
    }

    /// nil when `sealed` was not made with this key or was changed.
    package func open(_ sealed: [UInt8]) throws -> [UInt8]? {
        guard sealed.count >= Self.overhead else { return nil }
        var right = true
        let plain = try [UInt8](unsafeUninitializedCapacity: sealed.count - Self.overhead) {
            buffer,
            initialized in
            let opened = try sealed.withUnsafeBytes {
                try open($0, into: UnsafeMutableRawBufferPointer(buffer))
            }
            right = opened != nil
            initialized = opened ?? 0
        }
        return right ? plain : nil
    }

    /// AES-256-CTR; the counter is the whole block, as libcrypto counts.
    private func crypt(
        _ input: UnsafeRawBufferPointer,
        iv: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer
    ) throws(RepositoryError) {
        func pointer(_ raw: UnsafeRawPointer?) -> UnsafePointer<UInt8>? {
            raw?.assumingMemoryBound(to: UInt8.self)
        }
        guard EVP_EncryptInit_ex2(counter, nil, nil, pointer(iv.baseAddress), nil) == 1 else {
            throw .library("EVP_EncryptInit_ex2")
        }
        // libcrypto counts in Int32.
        let step = 1 << 30
        var done = 0
        while done < input.count {
            let size = min(step, input.count - done)
            var written: Int32 = 0
            let code = EVP_EncryptUpdate(
                counter,
                output.baseAddress.map { ($0 + done).assumingMemoryBound(to: UInt8.self) },
                &written,
                pointer(input.baseAddress.map { $0 + done }),
                Int32(size)
            )
            guard code == 1, Int(written) == size else { throw .library("EVP_EncryptUpdate") }
            done += size
        }
    }

    /// Poly1305 of `cipher` under the one-time key r ‖ AES-128(k, iv), 16 bytes into `tag`.
    private func authenticate(
        _ cipher: UnsafeRawBufferPointer,
        iv: UnsafeRawBufferPointer,
        into tag: UnsafeMutableRawBufferPointer
    ) throws(RepositoryError) {
        var failed = true
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32) { oneTime in
            for index in 0..<16 { oneTime[index] = r[index] }
            var written: Int32 = 0
            var length = 0
            guard let base = oneTime.baseAddress,
                EVP_EncryptUpdate(
                    block,
                    base + 16,
                    &written,
                    iv.baseAddress?.assumingMemoryBound(to: UInt8.self),
                    16
                ) == 1, written == 16,
                EVP_MAC_init(mac, base, 32, nil) == 1,
                EVP_MAC_update(mac, cipher.baseAddress?.assumingMemoryBound(to: UInt8.self), cipher.count)
                    == 1,
                EVP_MAC_final(mac, tag.baseAddress?.assumingMemoryBound(to: UInt8.self), &length, 16) == 1,
                length == 16
            else { return }
            OPENSSL_cleanse(base, 32)
            failed = false
        }
        if failed { throw .library("Poly1305-AES") }
    }
}
