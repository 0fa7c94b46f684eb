import JSON

extension Node {
    /// Reads one node; fields that restic's trees do not have are skipped.
    init(from scanner: inout JSONScanner) throws(JSONError) {
        self.init(name: [], kind: .unknown(""), mtime: .missing)
        content = nil
        var rawTarget: [UInt8]?
        try scanner.object { (scanner, key) throws(JSONError) in
            switch Key(key) {
            case .name:
                let at = scanner.offset
                guard let name = try scanner.withString({ NodeName.unquote($0) }) else {
                    throw JSONError(.expected("a quoted name"), at: at)
                }
                self.name = name
            case .type: kind = try scanner.withString { Kind($0) }
            case .mode: mode = try scanner.unsigned32()
            case .mtime: mtime = try scanner.time()
            case .atime: atime = try scanner.time()
            case .ctime: ctime = try scanner.time()
            case .uid: uid = try scanner.unsigned32()
            case .gid: gid = try scanner.unsigned32()
            case .user: user = try scanner.string()
            case .group: group = try scanner.string()
            case .inode: inode = try scanner.unsigned()
            case .deviceID: deviceID = try scanner.unsigned()
            case .size: size = try scanner.unsigned()
            case .links: links = try scanner.unsigned()
            case .linkTarget:
                let start = scanner.offset
                let target = try scanner.stringBytes()
                setLinkTarget(target, lossy: scanner.taken(from: start, holds: "\\ufffd"))
            case .linkTargetRaw: rawTarget = try scanner.base64()
            case .attributes: attributes = try Self.attributes(&scanner)
            case .genericAttributes: genericAttributes = try scanner.value()
            case .device: device = try scanner.unsigned()
            case .content:
                if try scanner.null() {
                    content = nil
                } else {
                    var ids: [BlobID] = []
                    try scanner.array { (scanner) throws(JSONError) in ids.append(try scanner.id()) }
                    content = ids
                }
            case .subtree: subtree = try scanner.null() ? nil : try scanner.id()
            case .error: error = try scanner.string()
            case nil: try scanner.skip()
            }
        }
        if let rawTarget { setLinkTarget(rawTarget, lossy: false) }
    }

    private static func attributes(_ scanner: inout JSONScanner) throws(JSONError) -> [Attribute] {
        if try scanner.null() { return [] }
        var result: [Attribute] = []
        try scanner.array { (scanner) throws(JSONError) in
            var attribute = Attribute(name: [], value: [])
            try scanner.object { (scanner, key) throws(JSONError) in
                if equal(key, "name") {
                    attribute.name = try scanner.stringBytes()
                } else if equal(key, "value") {
                    attribute.value = try scanner.null() ? [] : try scanner.base64()
                } else {
                    try scanner.skip()
                }
            }
            result.append(attribute)
        }
        return result
    }

    private enum Key {
        case name, type, mode, mtime, atime, ctime, uid, gid, user, group, inode, deviceID, size, links,
            linkTarget
        case linkTargetRaw, attributes, genericAttributes, device, content, subtree, error

        /// By length and first letter, then the whole: this runs twenty times per node.
        init?(_ key: UnsafeBufferPointer<UInt8>) {
            func take(_ word: StaticString, _ found: Key) -> Key? { equal(key, word) ? found : nil }
            let found: Key?
            switch (key.count, key.first ?? 0) {
            case (3, 0x75): found = take("uid", .uid)
            case (3, 0x67): found = take("gid", .gid)
            case (4, 0x6E): found = take("name", .name)
            case (4, 0x74): found = take("type", .type)
            case (4, 0x6D): found = take("mode", .mode)
            case (4, 0x75): found = take("user", .user)
            case (4, 0x73): found = take("size", .size)
            case (5, 0x6D): found = take("mtime", .mtime)
            case (5, 0x61): found = take("atime", .atime)
            case (5, 0x63): found = take("ctime", .ctime)
            case (5, 0x67): found = take("group", .group)
            case (5, 0x69): found = take("inode", .inode)
            case (5, 0x6C): found = take("links", .links)
            case (5, 0x65): found = take("error", .error)
            case (6, 0x64): found = take("device", .device)
            case (7, 0x63): found = take("content", .content)
            case (7, 0x73): found = take("subtree", .subtree)
            case (9, 0x64): found = take("device_id", .deviceID)
            case (10, 0x6C): found = take("linktarget", .linkTarget)
            case (14, 0x6C): found = take("linktarget_raw", .linkTargetRaw)
            case (18, 0x67): found = take("generic_attributes", .genericAttributes)
            case (19, 0x65): found = take("extended_attributes", .attributes)
            default: found = nil
            }
            guard let found else { return nil }
            self = found
        }
    }
}

extension Node.Kind {
    fileprivate init(_ text: UnsafeBufferPointer<UInt8>) {
        if equal(text, "file") {
            self = .file
        } else if equal(text, "dir") {
            self = .directory
        } else if equal(text, "symlink") {
            self = .symlink
        } else if equal(text, "dev") {
            self = .blockDevice
        } else if equal(text, "chardev") {
            self = .characterDevice
        } else if equal(text, "fifo") {
            self = .fifo
        } else if equal(text, "socket") {
            self = .socket
        } else {
            self = .unknown(String(decoding: text, as: UTF8.self))
        }
    }
}

func equal(_ bytes: UnsafeBufferPointer<UInt8>, _ word: StaticString) -> Bool {
    guard bytes.count == word.utf8CodeUnitCount else { return false }
    for index in bytes.indices where bytes[index] != word.utf8Start[index] { return false }
    return true
}

extension JSONScanner {
    mutating func unsigned32() throws(JSONError) -> UInt32 {
        let at = offset
        guard let value = UInt32(exactly: try unsigned()) else { throw JSONError(.number, at: at) }
        return value
    }

    mutating func time() throws(JSONError) -> ZonedTime {
        let at = offset
        guard let time = try withString({ ZonedTime(parsing: $0) }) else {
            throw JSONError(.expected("a time"), at: at)
        }
        return time
    }

    mutating func id() throws(JSONError) -> BlobID {
        let at = offset
        guard let id = try withString({ BlobID(digits: UnsafeRawBufferPointer($0)) }) else {
            throw JSONError(.expected("an id of 64 hexadecimal digits"), at: at)
        }
        return id
    }

    mutating func base64() throws(JSONError) -> [UInt8] {
        let at = offset
        guard let bytes = Base64.decode(try string()) else { throw JSONError(.expected("base64"), at: at) }
        return bytes
    }

    /// Whether the text that was taken since `start` holds `word`.
    func taken(from start: Int, holds word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard offset - start >= count else { return false }
        for index in start...offset - count
        where equal(UnsafeBufferPointer(rebasing: bytes[index..<index + count]), word) {
            return true
        }
        return false
    }
}
