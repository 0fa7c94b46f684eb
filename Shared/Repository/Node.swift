package import JSON

/// One entry of a tree, with the fields that restic's trees have.
package struct Node: Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        case file, directory, symlink, blockDevice, characterDevice, fifo, socket
        /// A type that this reader does not know, as it stands in the tree.
        case unknown(String)

        package var text: String {
            switch self {
            case .file: "file"
            case .directory: "dir"
            case .symlink: "symlink"
            case .blockDevice: "dev"
            case .characterDevice: "chardev"
            case .fifo: "fifo"
            case .socket: "socket"
            case .unknown(let text): text
            }
        }
    }

    package struct Attribute: Equatable, Sendable {
        package var name: [UInt8]
        package var value: [UInt8]
        package init(name: [UInt8], value: [UInt8]) {
            self.name = name
            self.value = value
        }
    }

    /// One component, any bytes; see `NodeName.problem`.
    package var name: [UInt8]
    package var kind: Kind
    /// As Go counts: permission bits, and types, set-id and sticky bits from bit 19 up. See `goMode`.
    package var mode: UInt32 = 0
    package var mtime: ZonedTime
    package var atime: ZonedTime
    package var ctime: ZonedTime
    package var uid: UInt32 = 0
    package var gid: UInt32 = 0
    package var user = ""
    package var group = ""
    package var inode: UInt64 = 0
    /// The file system's number: nodes that share inode and device are one file with several names.
    package var deviceID: UInt64 = 0
    /// Bytes; files only.
    package var size: UInt64 = 0
    package var links: UInt64 = 0
    /// Any bytes; symbolic links only.
    package var linkTarget: [UInt8] = []
    /// The tree lost bytes of the target (restic before 0.16 kept U+FFFD in place of each).
    package private(set) var linkTargetIsLossy = false
    package var attributes: [Attribute] = []
    /// What other systems add (restic 0.17 on Windows), kept as it is.
    package var genericAttributes: JSON?
    /// `st_rdev` of a device node.
    package var device: UInt64 = 0
    /// Data blobs in order, empty for an empty file; nil for everything that is no file.
    package var content: [BlobID]?
    /// Directories only.
    package var subtree: BlobID?
    /// What went wrong when it was stored.
    package var error = ""

    package init(name: [UInt8], kind: Kind, mtime: ZonedTime, ctime: ZonedTime? = nil) {
        self.name = name
        self.kind = kind
        self.mtime = mtime
        self.atime = mtime
        self.ctime = ctime ?? mtime
        if kind == .file { content = [] }
    }

    // MARK: Modes

    /// Go's mode of a POSIX `st_mode`.
    package static func goMode(posix mode: UInt32) -> UInt32 {
        var result = mode & 0o777
        switch mode & 0o170000 {
        case 0o040000: result |= 1 << 31
        case 0o120000: result |= 1 << 27
        case 0o060000: result |= 1 << 26
        case 0o020000: result |= 1 << 26 | 1 << 21
        case 0o010000: result |= 1 << 25
        case 0o140000: result |= 1 << 24
        default: break
        }
        if mode & 0o4000 != 0 { result |= 1 << 23 }
        if mode & 0o2000 != 0 { result |= 1 << 22 }
        if mode & 0o1000 != 0 { result |= 1 << 20 }
        return result
    }

    /// The low twelve bits of a POSIX mode.
    package var permissions: UInt32 {
        (mode & 0o777) | (mode >> 23 & 1) << 11 | (mode >> 22 & 1) << 10 | (mode >> 20 & 1) << 9
    }

    // MARK: Writing

    /// Appends the bytes that restic writes for this node: its order of fields, empty ones left out, no space.
    func append(to text: inout [UInt8]) {
        text.append(contentsOf: #"{"name":"#.utf8)
        NodeName.append(name, to: &text)
        field(#","type":"#, kind.text, &text)
        if mode != 0 { field(#","mode":"#, UInt64(mode), &text) }
        field(#","mtime":""#, mtime, &text)
        field(#","atime":""#, atime, &text)
        field(#","ctime":""#, ctime, &text)
        field(#","uid":"#, UInt64(uid), &text)
        field(#","gid":"#, UInt64(gid), &text)
        if !user.isEmpty { field(#","user":"#, user, &text) }
        if !group.isEmpty { field(#","group":"#, group, &text) }
        if inode != 0 { field(#","inode":"#, inode, &text) }
        if deviceID != 0 { field(#","device_id":"#, deviceID, &text) }
        if size != 0 { field(#","size":"#, size, &text) }
        if links != 0 { field(#","links":"#, links, &text) }
        if !linkTarget.isEmpty { appendLinkTarget(to: &text) }
        if !attributes.isEmpty { appendAttributes(to: &text) }
        if let genericAttributes {
            text.append(contentsOf: #","generic_attributes":"#.utf8)
            text.append(contentsOf: genericAttributes.encoded(escapeHTML: true))
        }
        if device != 0 { field(#","device":"#, device, &text) }
        text.append(contentsOf: #","content":"#.utf8)
        if let content {
            text.append(0x5B)
            for (index, id) in content.enumerated() {
                text.append(contentsOf: (index == 0 ? "\"" : ",\"").utf8)
                id.appendHex(to: &text)
                text.append(0x22)
            }
            text.append(0x5D)
        } else {
            text.append(contentsOf: "null".utf8)
        }
        if let subtree {
            text.append(contentsOf: #","subtree":""#.utf8)
            subtree.appendHex(to: &text)
            text.append(0x22)
        }
        if !error.isEmpty { field(#","error":"#, error, &text) }
        text.append(0x7D)
    }

    private func field(_ key: StaticString, _ value: UInt64, _ text: inout [UInt8]) {
        text.append(contentsOf: UnsafeBufferPointer(start: key.utf8Start, count: key.utf8CodeUnitCount))
        appendDecimal(value, to: &text)
    }

    private func field(_ key: StaticString, _ value: String, _ text: inout [UInt8]) {
        text.append(contentsOf: UnsafeBufferPointer(start: key.utf8Start, count: key.utf8CodeUnitCount))
        var value = value
        value.withUTF8 { appendJSONString($0, to: &text, escapeHTML: true) }
    }

    private func field(_ key: StaticString, _ value: ZonedTime, _ text: inout [UInt8]) {
        text.append(contentsOf: UnsafeBufferPointer(start: key.utf8Start, count: key.utf8CodeUnitCount))
        value.append(to: &text)
        text.append(0x22)
    }

    private func appendLinkTarget(to text: inout [UInt8]) {
        text.append(contentsOf: #","linktarget":"#.utf8)
        // A lossy target gets its U+FFFD back in the form of an invalid byte, which is how it came to be.
        let shown = linkTargetIsLossy ? Self.replacementAsInvalid(linkTarget) : linkTarget
        shown.withUnsafeBufferPointer { appendJSONString($0, to: &text, escapeHTML: true) }
        if !linkTargetIsLossy, !isUTF8(linkTarget) {
            text.append(contentsOf: #","linktarget_raw":""#.utf8)
            text.append(contentsOf: Base64.encode(linkTarget).utf8)
            text.append(0x22)
        }
    }

    private static func replacementAsInvalid(_ bytes: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index...].starts(with: [0xEF, 0xBF, 0xBD]) {
                result.append(0xFF)
                index += 3
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return result
    }

    private func appendAttributes(to text: inout [UInt8]) {
        text.append(contentsOf: #","extended_attributes":["#.utf8)
        for (index, attribute) in attributes.enumerated() {
            text.append(contentsOf: (index == 0 ? #"{"name":"# : #",{"name":"#).utf8)
            attribute.name.withUnsafeBufferPointer { appendJSONString($0, to: &text, escapeHTML: true) }
            text.append(contentsOf: #","value":""#.utf8)
            text.append(contentsOf: Base64.encode(attribute.value).utf8)
            text.append(contentsOf: "\"}".utf8)
        }
        text.append(0x5D)
    }

    mutating func setLinkTarget(_ text: [UInt8], lossy: Bool) {
        linkTarget = text
        linkTargetIsLossy = lossy
    }
}
