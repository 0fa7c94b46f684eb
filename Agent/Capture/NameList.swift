import Glibc

/// Names of one folder, packed: a folder of a million files must not cost an object for each.
struct NameList {
    private var bytes: [UInt8] = []
    /// Offset in `bytes` and length of each name.
    private var places: [(start: UInt32, count: UInt8)] = []

    var count: Int { places.count }

    subscript(index: Int) -> [UInt8] {
        let place = places[index]
        return Array(bytes[Int(place.start)..<Int(place.start) + Int(place.count)])
    }

    /// A name is 1 to 255 bytes long, as in every file system; all names together stay below 4 GiB, because the
    /// protocol's limit of entries is kept first.
    mutating func append(_ name: [UInt8]) {
        places.append((UInt32(bytes.count), UInt8(truncatingIfNeeded: min(255, name.count))))
        bytes.append(contentsOf: name.prefix(255))
    }

    /// Byte order, unsigned.
    mutating func sort() {
        bytes.withUnsafeBufferPointer { bytes in
            guard let base = bytes.baseAddress else { return }
            places.sort { one, other in
                let order = memcmp(
                    base + Int(one.start),
                    base + Int(other.start),
                    Int(min(one.count, other.count))
                )
                return order != 0 ? order < 0 : one.count < other.count
            }
        }
    }
}
