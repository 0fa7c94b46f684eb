import Glibc
import Posix
import TestSupport

/// A library as Immich lays one out, of files that nothing compresses and of which no two share a byte run.
struct Library {
    /// Also the name of the host that has it.
    let name: String
    let folder: String
    private(set) var files = 0
    private(set) var bytes = 0

    /// Makes the folder with the six markers and nothing else.
    init(_ name: String, in parent: String) throws {
        self.name = name
        folder = "\(parent)/\(name)"
        for part in ["upload", "library", "profile", "thumbs", "encoded-video", "backups"] {
            try Files.makeDirectories("\(folder)/\(part)", mode: 0o755)
            try write([UInt8]("1700000000000".utf8), to: "\(part)/.immich")
        }
    }

    /// Adds `count` files of `average` bytes, from a half to one and a half of it, whose content and names
    /// follow from `seed`. `kind` is `upload` or `thumbs`.
    mutating func add(_ count: Int, average: Int, kind: String, seed: UInt64) throws {
        var random = SplitMix(seed)
        let user = "0b5b5e6c-1111-4222-8333-944445555666"
        for _ in 0..<count {
            let size = average / 2 + Int(random.next() % UInt64(max(1, average)))
            let name = uuid(random.next(), random.next())
            let folder = "\(kind)/\(user)/\(name.prefix(2))/\(name.dropFirst(2).prefix(2))"
            var content = SplitMix(random.next())
            var bytes = [UInt8](repeating: 0, count: (size + 7) & ~7)
            bytes.withUnsafeMutableBytes { raw in
                for offset in stride(from: 0, to: raw.count, by: 8) {
                    raw.storeBytes(of: content.next(), toByteOffset: offset, as: UInt64.self)
                }
            }
            bytes.removeLast(bytes.count - size)
            try Files.makeDirectories("\(self.folder)/\(folder)", mode: 0o755)
            try write(bytes, to: "\(folder)/\(name)" + (kind == "upload" ? ".jpg" : "_thumbnail.webp"))
        }
    }

    private mutating func write(_ content: [UInt8], to path: String) throws {
        let file = try FileDescriptor(open: "\(folder)/\(path)", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
        try file.writeAll(content)
        try file.close()
        files += 1
        bytes += content.count
    }

    private func uuid(_ high: UInt64, _ low: UInt64) -> String {
        let digits =
            hex((0..<8).map { UInt8(truncatingIfNeeded: high >> ($0 * 8)) })
            + hex((0..<8).map { UInt8(truncatingIfNeeded: low >> ($0 * 8)) })
        var result = ""
        for (index, digit) in digits.enumerated() {
            if [8, 12, 16, 20].contains(index) { result += "-" }
            result.append(digit)
        }
        return result
    }
}

/// Bytes of all files below `folder`.
func bytes(below folder: String) -> Int {
    guard let sizes = try? run(["find", folder, "-type", "f", "-printf", "%s\\n"]) else { return 0 }
    return sizes.split(separator: "\n").reduce(0) { $0 + (Int($1) ?? 0) }
}

/// Takes what lies below `folder` and is on the disk out of the page cache, as far as that is possible.
func forgetCached(below folder: String) {
    for name in (try? Directory.names(folder)) ?? [] {
        let path = "\(folder)/" + String(decoding: name, as: UTF8.self)
        switch try? FileStatus(path: path, follow: false).kind {
        case .directory: forgetCached(below: path)
        case .file: if let file = try? FileDescriptor(open: path, O_RDONLY) { file.forgetCached() }
        default: break
        }
    }
}
