import Repository

/// What Immich stores as it comes from a camera: formats that are compressed already, by the ends of their names.
enum MediaFormat {
    private static let compressed: Set<[UInt8]> = Set(
        """
        jpg jpeg jpe jfif insp webp heic heif hif avif jxl jp2 png gif \
        mp4 m4v mov mkv webm 3gp 3gpp insv mts m2ts m2t mpg mpeg mpe avi wmv flv vob
        """.split(separator: " ").map { Array($0.utf8) }
    )

    /// Trying zstd on a photo costs as much as hashing it and gains nothing; a wrong end of a name costs only space.
    static func compression(_ name: [UInt8]) -> Compression {
        guard let dot = name.lastIndex(of: 0x2E) else { return .probe }
        let end = name[(dot + 1)...].map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }
        return compressed.contains(end) ? .never : .probe
    }
}
