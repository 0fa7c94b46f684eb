/// One entry of a folder as the agent describes it; layout in protocol.md.
package struct Entry: Equatable, Sendable {
    package enum Kind: UInt8, Sendable {
        case file = 0
        case directory = 1
        case symlink = 2
        case fifo = 3
        case blockDevice = 4
        case characterDevice = 5
    }

    package struct Attribute: Equatable, Sendable {
        package var name: [UInt8]
        package var value: [UInt8]
        package init(name: [UInt8], value: [UInt8]) {
            self.name = name
            self.value = value
        }

        static func encode(_ attributes: [Attribute], to writer: inout ByteWriter) {
            writer.number(UInt16(attributes.count))
            for attribute in attributes {
                writer.short(attribute.name)
                writer.long(attribute.value)
            }
        }

        /// At least one, with names that can be an attribute's and no more bytes than `maximumAttributeBytes`.
        static func list(from reader: inout ByteReader) throws(WireError) -> [Attribute] {
            var attributes: [Attribute] = []
            var total = 0
            let count = try reader.number(UInt16.self)
            guard count > 0 else { throw .malformed("extended attributes that are none") }
            for _ in 0..<count {
                let attribute = Attribute(name: try reader.short(), value: try reader.long())
                guard !attribute.name.isEmpty && attribute.name.count <= 255 && !attribute.name.contains(0)
                else { throw .malformed("a name that no extended attribute can have") }
                total += attribute.name.count + attribute.value.count
                attributes.append(attribute)
            }
            guard total <= Entry.maximumAttributeBytes else {
                throw .malformed("too many extended attributes")
            }
            return attributes
        }
    }

    package var kind: Kind
    /// One component: bytes without `/` and NUL, at most 255.
    package var name: [UInt8]
    /// The low twelve bits of `st_mode`.
    package var permissions: UInt32 = 0
    package var uid: UInt32 = 0
    package var gid: UInt32 = 0
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    package var mtime: Int64 = 0
    package var ctime: Int64 = 0
    package var inode: UInt64 = 0
    /// Bytes; files only.
    package var size: UInt64 = 0
    /// Symbolic links only.
    package var target: [UInt8] = []
    /// Device nodes only.
    package var rdev: UInt64 = 0
    /// Number of hard links; travels only when above 1, with the file system's number.
    package var links: UInt32 = 1
    package var device: UInt64 = 0
    package var attributes: [Attribute] = []

    package init(kind: Kind, name: [UInt8]) {
        self.kind = kind
        self.name = name
    }

    /// Names and values of an entry's extended attributes together.
    package static let maximumAttributeBytes = 1 << 20

    /// Bytes of a folder with a name of one byte: no entry takes less.
    static let minimumBytes = 41

    package func encode(to writer: inout ByteWriter) {
        writer.number(kind.rawValue)
        writer.number(UInt8((links > 1 ? 1 : 0) | (attributes.isEmpty ? 0 : 2)))
        writer.short(name)
        writer.number(permissions)
        writer.number(uid)
        writer.number(gid)
        writer.number(mtime)
        writer.number(ctime)
        writer.number(inode)
        switch kind {
        case .file: writer.number(size)
        case .symlink: writer.short(target)
        case .blockDevice, .characterDevice: writer.number(rdev)
        case .directory, .fifo: break
        }
        if links > 1 {
            writer.number(links)
            writer.number(device)
        }
        if !attributes.isEmpty { Attribute.encode(attributes, to: &writer) }
    }

    package init(from reader: inout ByteReader) throws(WireError) {
        guard let kind = Kind(rawValue: try reader.number()) else {
            throw .malformed("unknown kind of entry")
        }
        let flags = try reader.number(UInt8.self)
        guard flags & ~3 == 0 else { throw .malformed("unknown flags of an entry") }
        self.init(kind: kind, name: try reader.short())
        guard Entry.isName(name) else { throw .malformed("a name that is no name of a file") }
        permissions = try reader.number()
        guard permissions & ~0o7777 == 0 else { throw .malformed("permissions beyond 07777") }
        uid = try reader.number()
        gid = try reader.number()
        mtime = try reader.number()
        ctime = try reader.number()
        inode = try reader.number()
        switch kind {
        case .file:
            size = try reader.number()
            guard size <= UInt64(Int64.max) else { throw .malformed("a size beyond 2^63") }
        case .symlink:
            target = try reader.short()
            guard !target.isEmpty && target.count <= 4096 && !target.contains(0) else {
                throw .malformed("a target that no symbolic link can have")
            }
        case .blockDevice, .characterDevice: rdev = try reader.number()
        case .directory, .fifo: break
        }
        if flags & 1 != 0 {
            links = try reader.number()
            guard links > 1 else { throw .malformed("several links that are not several") }
            device = try reader.number()
        }
        if flags & 2 != 0 { attributes = try Attribute.list(from: &reader) }
    }

    /// Whether `name` can be the name of a file: not empty, `.` or `..`, no `/`, no NUL, at most 255 bytes.
    package static func isName(_ name: [UInt8]) -> Bool {
        !name.isEmpty && name.count <= 255 && name != [0x2E] && name != [0x2E, 0x2E] && !name.contains(0x2F)
            && !name.contains(0)
    }
}
