import TestSupport

extension SplitMix {
    /// True once in `times`.
    mutating func once(in times: Int) -> Bool { below(times) == 0 }

    mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }

    /// Changes bytes as transmission errors and attackers would.
    mutating func mutate(_ bytes: inout [UInt8]) {
        for _ in 0..<(once(in: 3) ? 1 + below(8) : 1) {
            let place = below(bytes.count)
            switch below(8) {
            case 0 where !bytes.isEmpty: bytes[place] ^= 1 << UInt8(below(8))
            case 1 where !bytes.isEmpty: bytes[place] = UInt8(below(256))
            case 2: bytes.removeLast(min(bytes.count, 1 + below(max(1, bytes.count))))
            case 3: bytes += self.bytes(1 + below(40))
            case 4 where !bytes.isEmpty:
                // A number at its bounds.
                let value: UInt64 = pick([
                    0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF_FFFF, 1 << 31, 1 << 32, 1 << 62, 1 << 63, .max,
                ])
                let width = pick([1, 2, 4, 8])
                withUnsafeBytes(of: value.littleEndian) { raw in
                    for index in 0..<width where place + index < bytes.count {
                        bytes[place + index] = raw[index]
                    }
                }
            case 5 where bytes.count > 1:
                // A part of it once more.
                let end = min(bytes.count, place + 1 + below(64))
                bytes.insert(contentsOf: bytes[place..<end], at: below(bytes.count))
            case 6 where bytes.count > 1:
                bytes.removeSubrange(place..<min(bytes.count, place + 1 + below(16)))
            case 7 where !bytes.isEmpty:
                let word = pick([
                    "..", "/", ".", "\0", "\u{1B}[2J", "{", "[", "\"", "\\u0000", "-1", "1e999", "null",
                    "&a *a",
                ])
                bytes.insert(contentsOf: word.utf8, at: place)
            default: bytes += self.bytes(1)
            }
        }
    }
}
