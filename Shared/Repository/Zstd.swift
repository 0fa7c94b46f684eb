import CZstd

/// One-shot zstd compression with a context that is used again. For one thread at a time.
final class ZstdCompressor {
    private let context: OpaquePointer

    init() throws(RepositoryError) {
        guard let context = ZSTD_createCCtx() else { throw .library("ZSTD_createCCtx") }
        self.context = context
    }
    deinit { ZSTD_freeCCtx(context) }

    static func bound(_ count: Int) -> Int { ZSTD_compressBound(count) }

    /// Compresses into one frame that announces its content's size.
    /// - Returns: The bytes written, or nil when `output` is too small for the result.
    func compress(
        _ input: UnsafeRawBufferPointer,
        into output: UnsafeMutableRawBufferPointer,
        level: Int32 = 3
    ) throws(RepositoryError) -> Int? {
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)
        let size = ZSTD_compress2(context, output.baseAddress, output.count, input.baseAddress, input.count)
        if ZSTD_isError(size) == 0 { return size }
        if ZSTD_getErrorCode(size) == ZSTD_error_dstSize_tooSmall { return nil }
        throw .library("ZSTD_compress2 (\(String(cString: ZSTD_getErrorName(size))))")
    }
}

/// zstd decompression with a context that is used again. For one thread at a time.
final class ZstdDecompressor {
    private let context: OpaquePointer

    init() throws(RepositoryError) {
        guard let context = ZSTD_createDCtx() else { throw .library("ZSTD_createDCtx") }
        self.context = context
        // Windows of 512 MiB are the most that stock restic reads.
        ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, 29)
    }
    deinit { ZSTD_freeDCtx(context) }

    /// What is wrong with compressed bytes.
    struct Failure: Error { let reason: String }

    /// Decompresses all frames of `input`, which must fill `output` exactly.
    func decompress(_ input: UnsafeRawBufferPointer, filling output: UnsafeMutableRawBufferPointer)
        throws(Failure)
    {
        let size = ZSTD_decompressDCtx(
            context,
            output.baseAddress,
            output.count,
            input.baseAddress,
            input.count
        )
        if ZSTD_isError(size) != 0 {
            throw Failure(reason: "zstd: " + String(cString: ZSTD_getErrorName(size)))
        }
        if size != output.count {
            throw Failure(reason: "it decompresses to \(size) bytes instead of the \(output.count) announced")
        }
    }

    /// Decompresses all frames of `input` when the size is not known, at most `limit` bytes.
    func decompress(_ input: UnsafeRawBufferPointer, limit: Int) throws(Failure) -> [UInt8] {
        let announced = ZSTD_getFrameContentSize(input.baseAddress, input.count)
        // The two largest values mean "unknown" and "error".
        var capacity = announced < UInt64(limit) ? Int(announced) : min(limit, max(64 << 10, input.count * 4))
        var result: [UInt8] = []
        ZSTD_DCtx_reset(context, ZSTD_reset_session_only)
        var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
        var state = 1
        while source.pos < source.size || state != 0 {
            var failure: Failure?
            // One byte more than announced, so that a frame that says too little is noticed.
            let room = min(max(1, capacity), limit - result.count) + 1
            let before = source.pos
            let part = [UInt8](unsafeUninitializedCapacity: room) { buffer, initialized in
                var target = ZSTD_outBuffer(dst: buffer.baseAddress, size: room, pos: 0)
                state = ZSTD_decompressStream(context, &target, &source)
                if ZSTD_isError(state) != 0 {
                    failure = Failure(reason: "zstd: " + String(cString: ZSTD_getErrorName(state)))
                }
                initialized = target.pos
            }
            if let failure { throw failure }
            if result.isEmpty { result = part } else { result += part }
            if result.count > limit { throw Failure(reason: "it decompresses to more than \(limit) bytes") }
            if source.pos == before && part.isEmpty && state != 0 {
                throw Failure(reason: "its compressed bytes end early")
            }
            capacity = 1 << 20
        }
        return result
    }
}
