import CLibCrypto
package import Digest

/// SHA-256 over parts as ids of blobs. For one thread at a time.
package final class SHA256Hasher {
    private let context: SHA256Context

    package init() throws(RepositoryError) {
        do { context = try SHA256Context() } catch { throw .library(error.call) }
    }

    package func reset() throws(RepositoryError) {
        do { try context.reset() } catch { throw .library(error.call) }
    }

    package func update(_ bytes: UnsafeRawBufferPointer) throws(RepositoryError) {
        do { try context.update(bytes) } catch { throw .library(error.call) }
    }

    /// The hash of all since the last `reset`; starts over.
    package func finish() throws(RepositoryError) -> BlobID {
        do { return BlobID(try context.finish()) } catch { throw .library(error.call) }
    }

    package func hash(_ bytes: UnsafeRawBufferPointer) throws(RepositoryError) -> BlobID {
        try reset()
        try update(bytes)
        return try finish()
    }
}

extension BlobID {
    init(_ digest: SHA256Digest) { self = withUnsafeBytes(of: digest) { BlobID(raw: $0) } }

    /// The same 32 bytes.
    package var digest: SHA256Digest {
        withUnsafeTemporaryAllocation(byteCount: Self.byteCount, alignment: 8) { room in
            copy(to: room)
            return SHA256Digest(raw: UnsafeRawBufferPointer(room))
        }
    }
}

extension BlobID {
    /// SHA-256 of `bytes`, for single uses; whoever hashes many keeps a `SHA256Hasher`.
    package static func hash(of bytes: [UInt8]) throws(RepositoryError) -> BlobID {
        let hasher = try SHA256Hasher()
        var result: Result<BlobID, RepositoryError> = .failure(.library("SHA-256"))
        bytes.withUnsafeBytes { raw in
            result = Result { () throws(RepositoryError) in try hasher.hash(raw) }
        }
        return try result.get()
    }
}

/// HMAC-SHA-256 (RFC 2104).
func hmacSHA256(key: [UInt8], _ message: [UInt8]) throws(RepositoryError) -> [UInt8] {
    var output = [UInt8](repeating: 0, count: 32)
    var length = 0
    let done = EVP_Q_mac(
        nil,
        "HMAC",
        nil,
        "SHA256",
        nil,
        key,
        key.count,
        message,
        message.count,
        &output,
        output.count,
        &length
    )
    if done == nil || length != 32 { throw .library("EVP_Q_mac HMAC") }
    return output
}

/// HKDF with SHA-256 (RFC 5869): `count` bytes (at most 8160) for the purpose that `info` names.
package func hkdfSHA256(key: [UInt8], salt: [UInt8], info: [UInt8], count: Int) throws(RepositoryError)
    -> [UInt8]
{
    precondition(count <= 255 * 32)
    let pseudorandom = try hmacSHA256(key: salt.isEmpty ? [UInt8](repeating: 0, count: 32) : salt, key)
    var result: [UInt8] = []
    var block: [UInt8] = []
    var counter: UInt8 = 1
    while result.count < count {
        block = try hmacSHA256(key: pseudorandom, block + info + [counter])
        result += block
        counter &+= 1
    }
    return Array(result[..<count])
}

/// Cost of scrypt (RFC 7914): memory is 128 · n · r bytes.
package struct ScryptCost: Equatable, Sendable {
    package let n: Int
    package let r: Int
    package let p: Int

    package init(n: Int, r: Int, p: Int) {
        self.n = n
        self.r = r
        self.p = p
    }

    /// For random passwords, which no search finds however cheap a try is.
    package static let cheap = ScryptCost(n: 1024, r: 8, p: 1)
    /// For the recovery passphrase, which people write down and type: 128 MiB a try.
    package static let costly = ScryptCost(n: 1 << 17, r: 8, p: 1)

    /// What a try costs, to compare.
    var work: Int { n * r * p }

    /// The bounds that restic sets, and one on `p` so that a hostile key file cannot keep us busy for hours.
    var isAllowed: Bool {
        n > 1 && n & (n - 1) == 0 && r >= 1 && p >= 1 && p <= 1024 && r <= 1 << 20 && n <= 1 << 30
            && n * r <= (1 << 31) / 128
    }
}

/// 64 bytes from a password.
package func scrypt(_ password: [UInt8], salt: [UInt8], _ cost: ScryptCost) throws(RepositoryError) -> [UInt8]
{
    guard cost.isAllowed else {
        throw .invalid("scrypt with N=\(cost.n), r=\(cost.r), p=\(cost.p) is outside what is allowed")
    }
    // libcrypto's own limit of 32 MiB is below what restic uses.
    let memory = UInt64(128 * cost.n * cost.r + 128 * cost.r * cost.p + (1 << 20))
    var output = [UInt8](repeating: 0, count: 64)
    // An empty password still needs an address that is not NULL.
    let text = password + [0]
    let code = text.withUnsafeBytes { raw in
        EVP_PBE_scrypt(
            raw.baseAddress?.assumingMemoryBound(to: CChar.self),
            password.count,
            salt,
            salt.count,
            UInt64(cost.n),
            UInt64(cost.r),
            UInt64(cost.p),
            memory,
            &output,
            output.count
        )
    }
    if code != 1 { throw .library("EVP_PBE_scrypt") }
    return output
}
