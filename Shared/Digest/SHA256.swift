import CLibCrypto

/// A SHA-256 (FIPS 180-4).
package struct SHA256Digest: Hashable, Sendable {
    private let words: (UInt64, UInt64, UInt64, UInt64)

    package static let byteCount = 32

    /// - Parameter bytes: At least 32 bytes; the first 32 are taken.
    package init(raw bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= Self.byteCount)
        func word(_ index: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self) }
        words = (word(0), word(1), word(2), word(3))
    }

    /// Nil unless there are exactly 32 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self = bytes.withUnsafeBytes { SHA256Digest(raw: $0) }
    }

    package var bytes: [UInt8] { withUnsafeBytes(of: words) { Array($0) } }

    package static func == (left: Self, right: Self) -> Bool { left.words == right.words }
    package func hash(into hasher: inout Hasher) { hasher.combine(words.0) }
}

/// libcrypto has no SHA-256 or no memory for it.
package struct DigestError: Error, Equatable, CustomStringConvertible {
    /// The function that failed.
    package let call: String
    package var description: String { "libcrypto failed in \(call): out of memory, or no SHA-256 in it" }
}

/// SHA-256 over parts, with a context that is used again for every hash. For one thread at a time.
package final class SHA256Context {
    private let context: OpaquePointer
    private let algorithm: OpaquePointer

    package init() throws(DigestError) {
        guard let context = EVP_MD_CTX_new() else { throw DigestError(call: "EVP_MD_CTX_new") }
        guard let algorithm = EVP_MD_fetch(nil, "SHA256", nil) else {
            EVP_MD_CTX_free(context)
            throw DigestError(call: "EVP_MD_fetch SHA256")
        }
        self.context = context
        self.algorithm = algorithm
        try reset()
    }
    deinit {
        EVP_MD_CTX_free(context)
        EVP_MD_free(algorithm)
    }

    package func reset() throws(DigestError) {
        if EVP_DigestInit_ex(context, algorithm, nil) != 1 { throw DigestError(call: "EVP_DigestInit_ex") }
    }

    package func update(_ bytes: UnsafeRawBufferPointer) throws(DigestError) {
        if EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) != 1 {
            throw DigestError(call: "EVP_DigestUpdate")
        }
    }

    /// The hash of all since the last `reset`; starts over.
    package func finish() throws(DigestError) -> SHA256Digest {
        let digest: SHA256Digest? = withUnsafeTemporaryAllocation(
            byteCount: SHA256Digest.byteCount,
            alignment: 8
        ) { out in
            guard let base = out.baseAddress?.assumingMemoryBound(to: UInt8.self),
                EVP_DigestFinal_ex(context, base, nil) == 1
            else { return nil }
            return SHA256Digest(raw: UnsafeRawBufferPointer(out))
        }
        guard let digest else { throw DigestError(call: "EVP_DigestFinal_ex") }
        try reset()
        return digest
    }
}
