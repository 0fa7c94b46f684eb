/// Names of hosts: `a` to `z`, digits, `-`, `_` and `.`, a letter or digit first, at most 63 characters. They are
/// folders below `repositories:` and words on the command line, so nothing else is let in.
package enum HostName {
    /// Why `name` cannot name a host; nil when it can.
    package static func problem(_ name: String) -> String? {
        let bytes = Array(name.utf8)
        func plain(_ byte: UInt8) -> Bool {
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        }
        guard let first = bytes.first else { return "a host needs a name" }
        guard bytes.count <= 63 else { return "a host's name has at most 63 characters" }
        guard plain(first), bytes.allSatisfy({ plain($0) || [0x2D, 0x2E, 0x5F].contains($0) }) else {
            return
                "a host's name is made of a to z, 0 to 9, `-`, `_` and `.`, and starts with a letter or digit"
        }
        return nil
    }
}
