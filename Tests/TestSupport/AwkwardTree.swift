package import Glibc
package import Posix

/// A folder with everything that backups get wrong. As root it also holds foreign owners and devices.
package enum AwkwardTree {
    /// - Parameters:
    ///   - path: Is made.
    ///   - wide: Entries of the widest directory.
    ///   - deep: Bytes of the longest path below `path`, about; above 4096 no program can name it in one go.
    package static func make(at path: String, wide: Int = 2000, deep: Int = 3000) throws {
        try Files.makeDirectories(path, mode: 0o755)
        let root = try FileDescriptor(open: path, O_RDONLY | O_DIRECTORY)
        try contents(root)
        try names(root)
        try links(root, path)
        try metadata(root)
        try specials(root)
        try folders(root, wide: wide, deep: deep)
        try Files.setTime(at: root, [0x2E], seconds: 1_700_000_000, nanosecond: 123_456_789)
    }

    /// Modification times are set last, so they are not those of the tests' run.
    private static func age(
        _ folder: borrowing FileDescriptor,
        _ name: [UInt8],
        _ seconds: Int64 = 1_600_000_000
    )
        throws
    {
        try Files.setTime(at: folder, name, seconds: seconds, nanosecond: 987_654_321)
    }

    package static func file(
        _ folder: borrowing FileDescriptor,
        _ name: [UInt8],
        _ content: [UInt8],
        mode: mode_t = 0o644
    ) throws {
        let file = try FileDescriptor(at: folder, name, O_WRONLY | O_CREAT | O_EXCL, mode: mode)
        try file.writeAll(content)
        try file.setPermissions(mode)
        try age(folder, name)
    }

    package static func folder(_ parent: borrowing FileDescriptor, _ name: [UInt8]) throws -> FileDescriptor {
        let raw = parent.raw
        _ = try retryingOnInterrupt("mkdirat") { withCName(name) { mkdirat(raw, $0, 0o755) } }
        return try FileDescriptor(at: parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    }

    /// Bytes that do not compress and are the same for the same seed.
    package static func noise(_ count: Int, seed: UInt64) -> [UInt8] {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        var result = [UInt8](repeating: 0, count: (count + 7) / 8 * 8)
        result.withUnsafeMutableBytes { bytes in
            for index in stride(from: 0, to: bytes.count, by: 8) {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                bytes.storeBytes(of: state &* 0x2545_F491_4F6C_DD1D, toByteOffset: index, as: UInt64.self)
            }
        }
        result.removeLast(result.count - count)
        return result
    }

    private static func contents(_ root: borrowing FileDescriptor) throws {
        try file(root, Array("empty".utf8), [])
        try file(root, Array("one-byte".utf8), [0x41])
        try file(root, Array("same-byte".utf8), [0x41])
        try file(root, Array("zero-byte".utf8), [0])
        try file(root, Array("three-mib".utf8), noise(3 << 20 | 17, seed: 1))
        try file(root, Array("text".utf8), Array(String(repeating: "a line of text\n", count: 5000).utf8))
        let sparse = try FileDescriptor(
            at: root,
            Array("sparse".utf8),
            O_WRONLY | O_CREAT | O_EXCL,
            mode: 0o644
        )
        try sparse.writeAll([1, 2, 3])
        try Array("end".utf8).withUnsafeBytes { bytes throws in try sparse.pwriteAll(bytes, at: 9 << 20) }
        try sparse.truncate(to: 12 << 20)
        try age(root, Array("sparse".utf8))
    }

    private static func names(_ root: borrowing FileDescriptor) throws {
        let names = try folder(root, Array("names".utf8))
        let texts = [
            "new\nline", "quote\"s", "back\\slash", "\\x41", "'", " ", "  both ends  ", "tab\t", "\u{7f}",
            "\u{1}\u{1b}[31m",
            "<&>", "%s%n", "-rf", "~", "...", "..a", "a\u{a0}b", "zwj\u{200d}", "\u{2028}", "\u{feff}bom",
            "é", "e\u{301}",
            "日本語", "😀👨‍👩‍👧", "\u{e000}", "\u{fffd}", "$(touch x)", "*", "a:b|c?", "CON", "con",
        ]
        for text in texts { try file(names, Array(text.utf8), Array(text.utf8)) }
        let bytes: [[UInt8]] = [
            [0x63, 0x61, 0x66, 0xE9], [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xE2, 0x82],
            [0xF4, 0x90, 0x80, 0x80],
            [UInt8](repeating: 0x61, count: 255), [UInt8](repeating: 0xFE, count: 255),
        ]
        for name in bytes { try file(names, name, name) }
        try age(root, Array("names".utf8))
    }

    private static func links(_ root: borrowing FileDescriptor, _ path: String) throws {
        let links = try folder(root, Array("links".utf8))
        let more = try folder(links, Array("more".utf8))
        try file(links, Array("first".utf8), Array("several names".utf8))
        let (old, new) = (links.raw, more.raw)
        _ = try retryingOnInterrupt("linkat") { linkat(old, "first", old, "second", 0) }
        _ = try retryingOnInterrupt("linkat") { linkat(old, "first", new, "a third", 0) }
        // The same content under another inode is no hard link.
        try file(links, Array("other".utf8), Array("several names".utf8))
        let targets: [(String, [UInt8])] = [
            ("relative", Array("../one-byte".utf8)), ("absolute", Array("/etc/hostname".utf8)),
            ("dangling", Array("nowhere/at all".utf8)), ("loop", Array("loop".utf8)),
            ("to-folder", Array("more".utf8)), ("not-utf8", [0x63, 0x61, 0x66, 0xE9, 0x2F, 0xFF]),
            ("html", Array("<&>\u{2028}\n\"".utf8)), ("long", [UInt8](repeating: 0x78, count: 4000)),
        ]
        for (name, target) in targets {
            _ = try retryingOnInterrupt("symlinkat") { withCName(target) { symlinkat($0, old, name) } }
            try age(links, Array(name.utf8), 1_500_000_000)
        }
        try age(links, Array("more".utf8))
        try age(root, Array("links".utf8))
    }

    private static func metadata(_ root: borrowing FileDescriptor) throws {
        let metadata = try folder(root, Array("metadata".utf8))
        for mode in [0o000, 0o400, 0o4755, 0o2755, 0o6711, 0o1644, 0o777] as [mode_t] {
            let name = Array("mode-\(String(mode, radix: 8))".utf8)
            try file(metadata, name, name, mode: mode)
        }
        let attributes: [(String, [UInt8])] = [
            ("user.text", Array("value".utf8)), ("user.binary", [0, 1, 0xFF, 0xFE, 0]), ("user.empty", []),
            ("user.long", noise(2000, seed: 9)),
        ]
        try file(metadata, Array("attributes".utf8), [1])
        let inside = try folder(metadata, Array("folder-attributes".utf8))
        for (name, value) in attributes {
            try Files.setAttribute(
                at: metadata,
                Array("attributes".utf8),
                attribute: Array(name.utf8),
                value: value
            )
            try inside.setAttribute(Array(name.utf8), value: value)
        }
        let times: [(String, Int64)] = [
            ("before-1970", -86400 * 365), ("epoch", 0), ("future", 7_258_118_400),
            ("year-1902", -2_145_916_800),
        ]
        for (name, seconds) in times {
            try file(metadata, Array(name.utf8), [2])
            try age(metadata, Array(name.utf8), seconds)
        }
        if getuid() == 0 {
            try file(metadata, Array("foreign".utf8), [3])
            try file(metadata, Array("foreign-setuid".utf8), [4])
            let raw = metadata.raw
            _ = try retryingOnInterrupt("fchownat") { fchownat(raw, "foreign", 12345, 54321, 0) }
            _ = try retryingOnInterrupt("fchownat") { fchownat(raw, "foreign-setuid", 4_000_000_000, 7, 0) }
            _ = try retryingOnInterrupt("fchmodat") { fchmodat(raw, "foreign-setuid", 0o6755, 0) }
            try age(metadata, Array("foreign".utf8))
            try age(metadata, Array("foreign-setuid".utf8))
        }
        try age(metadata, Array("folder-attributes".utf8))
        try age(root, Array("metadata".utf8))
    }

    private static func specials(_ root: borrowing FileDescriptor) throws {
        let specials = try folder(root, Array("specials".utf8))
        let raw = specials.raw
        _ = try retryingOnInterrupt("mkfifoat") { mkfifoat(raw, "fifo", 0o640) }
        try age(specials, Array("fifo".utf8))
        if getuid() == 0 {
            _ = try retryingOnInterrupt("mknodat") { mknodat(raw, "char", 0o020620, 0x103) }
            _ = try retryingOnInterrupt("mknodat") { mknodat(raw, "block", 0o060660, 0x70003) }
            try age(specials, Array("char".utf8))
            try age(specials, Array("block".utf8))
        }
        try age(root, Array("specials".utf8))
    }

    private static func folders(_ root: borrowing FileDescriptor, wide: Int, deep: Int) throws {
        let empty = try folder(root, Array("empty-folder".utf8))
        try empty.setPermissions(0o500)
        let sticky = try folder(root, Array("sticky-folder".utf8))
        try sticky.setPermissions(0o1777)
        let group = try folder(root, Array("setgid-folder".utf8))
        try file(group, Array("inside".utf8), [5])
        try group.setPermissions(0o2750)
        // What is in a folder without write permission must be put there before it loses that permission.
        let closed = try folder(root, Array("closed-folder".utf8))
        try file(closed, Array("inside".utf8), [6])
        try closed.setPermissions(0o555)
        let many = try folder(root, Array("wide".utf8))
        for number in 0..<wide {
            let name = Array("entry-\(number)".utf8)
            if number % 10 == 9 {
                _ = try folder(many, name)
                try age(many, name)
            } else {
                try file(many, name, Array("\(number)".utf8))
            }
        }
        try age(root, Array("wide".utf8))
        var current = try folder(root, Array("deep".utf8))
        var left = deep - 5
        while left > 0 {
            current = try folder(current, [UInt8](repeating: 0x64, count: min(250, left)))
            left -= 251
        }
        try file(current, Array("leaf".utf8), Array("down here".utf8))
        for name in ["deep", "empty-folder", "sticky-folder", "setgid-folder", "closed-folder"] {
            try age(root, Array(name.utf8))
        }
    }
}
