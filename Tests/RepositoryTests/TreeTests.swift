import JSON
import Posix
import Repository
import Testing

struct TreeNames {
    @Test func `names are quoted as Go does it`() throws {
        for vector in try Vectors.list("name_quoting") {
            let name = try #require(bytes(hex: vector["bytes"]?.string ?? "?"))
            let quoted = try #require(vector["quoted"]?.string)
            #expect(NodeName.quote(name) == Array(quoted.utf8))
            #expect(Array(quoted.utf8).withUnsafeBufferPointer { NodeName.unquote($0) } == name)
            // In a tree it is a JSON string on top of that.
            let node = Node(name: name, kind: .fifo, mtime: ZonedTime(nanoseconds: 0))
            let text = String(decoding: try Tree(nodes: [node]).encoded(), as: UTF8.self)
            #expect(
                text.hasPrefix(
                    #"{"nodes":[{"name":"# + (vector["json_string_canonical"]?.string ?? "?") + ","
                )
            )
        }
    }

    @Test func `every byte and pair of bytes survives quoting`() {
        for first in UInt8.min...UInt8.max {
            for second in [first, 0x5C, 0x22, 0x31, 0x80, 0xBF, 0xC3, 0xFF] as [UInt8] {
                let name = [first, second, 0x61]
                #expect(NodeName.quote(name).withUnsafeBufferPointer { NodeName.unquote($0) } == name)
            }
        }
    }

    @Test(
        arguments: [
            (#"\101\x41\u0041\U00000041"#, [0x41, 0x41, 0x41, 0x41]), (#"\377\xff"#, [0xFF, 0xFF]),
            ("a\tb", [0x61, 9, 0x62]),
            ("", []),
        ] as [(String, [UInt8])]
    )
    func `all escapes of Go are read`(_ quoted: String, _ name: [UInt8]) {
        #expect(Array(quoted.utf8).withUnsafeBufferPointer { NodeName.unquote($0) } == name)
    }

    @Test(arguments: [
        "a\nb", "a\"b", #"\'"#, #"\q"#, #"\"#, #"\x4"#, #"\x4g"#, #"\u004"#, #"\ud800"#, #"\U00110000"#,
        #"\400"#, #"\38"#,
        #"\08"#, #"\x"#,
    ])
    func `what Go refuses is refused`(_ quoted: String) {
        #expect(Array(quoted.utf8).withUnsafeBufferPointer { NodeName.unquote($0) } == nil)
    }

    @Test func `names that are no names of files are known`() {
        for bad in ["", ".", "..", "a/b", "/", "a\0b"] { #expect(NodeName.problem(Array(bad.utf8)) != nil) }
        for good in ["...", ".a", "a", " ", "\n", "\\"] { #expect(NodeName.problem(Array(good.utf8)) == nil) }
    }
}

struct TreeReading {
    @Test(arguments: Vectors.repositories)
    func `every tree of stock restic is written back byte for byte`(_ name: String) throws {
        let trees = try #require(try Vectors.repository(name)["trees"]?.object).members
        #expect(trees.count == 36)
        for member in trees {
            let text = Array(try #require(member.value.string).utf8)
            let tree = try Tree(parsing: text)
            #expect(try tree.encoded() == text)
        }
    }

    @Test func `all fields are read`() throws {
        let text = #"""
            {"nodes":[{"name":"a","type":"file","mode":8389101,"mtime":"2023-11-14T23:13:20.5+01:00","atime":"1970-01-01T00:00:00Z","ctime":"1969-12-31T23:59:59.999999999Z","uid":4294967295,"gid":7,"user":"u\u003c","group":"g","inode":18446744073709551615,"device_id":2,"size":12,"links":3,"extended_attributes":[{"name":"user.b","value":"AAEC"},{"name":"user.e","value":""}],"generic_attributes":{"windows.file_attributes":32},"content":["0000000000000000000000000000000000000000000000000000000000000001","FFffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"],"error":"e"},{"name":"d","type":"chardev","mode":69206400,"mtime":"2023-11-14T23:13:20Z","atime":"2023-11-14T23:13:20Z","ctime":"2023-11-14T23:13:20Z","uid":0,"gid":0,"device":259,"content":null},{"name":"l","type":"symlink","mtime":"2023-11-14T23:13:20Z","atime":"2023-11-14T23:13:20Z","ctime":"2023-11-14T23:13:20Z","uid":0,"gid":0,"linktarget":"caf\ufffd","linktarget_raw":"Y2Fm6Q==","content":null}]}
            """#
        let tree = try Tree(parsing: Array(text.utf8))
        let file = tree.nodes[0]
        #expect(file.kind == .file && file.permissions == 0o4755 && file.uid == .max && file.gid == 7)
        #expect(file.mtime.nanoseconds == 1_700_000_000_500_000_000 && file.mtime.offsetMinutes == 60)
        #expect(file.ctime.nanoseconds == -1)
        #expect(file.user == "u<" && file.inode == .max && file.size == 12 && file.links == 3)
        #expect(file.attributes.map(\.value) == [[0, 1, 2], []])
        #expect(file.content?.count == 2 && file.error == "e")
        #expect(
            tree.nodes[1].kind == .characterDevice && tree.nodes[1].device == 259
                && tree.nodes[1].content == nil
        )
        #expect(tree.nodes[2].linkTarget == [0x63, 0x61, 0x66, 0xE9])
        // Back to the same text, apart from the upper-case digits.
        let again = String(decoding: try tree.encoded(), as: UTF8.self)
        #expect(again == text.replacing("FFfff", with: "fffff") + "\n")
    }

    @Test(arguments: [
        "", "{}", "[]", "{\"nodes\":[{}]", #"{"nodes":[{"name":"a","type":"file","uid":1.5}]}"#,
        #"{"nodes":[{"name":"a","uid":-1}]}"#, #"{"nodes":[{"name":"a","uid":4294967296}]}"#,
        #"{"nodes":[{"name":"a","size":18446744073709551616}]}"#,
        #"{"nodes":[{"name":"a","content":["00"]}]}"#,
        #"{"nodes":[{"name":"a","subtree":"zz"}]}"#,
        #"{"nodes":[{"name":"a","mtime":"2023-11-14 23:13:20Z"}]}"#,
        #"{"nodes":[{"name":"a","mtime":"2023-11-14T23:13:20"}]}"#,
        #"{"nodes":[{"name":"a","mtime":"12023-11-14T23:13:20Z"}]}"#,
        #"{"nodes":[{"name":"a\"b"}]}"#, #"{"nodes":[{"name":"a\\"}]}"#, #"{"nodes":{}}"#, #"{"nodes":[1]}"#,
        #"{"nodes":[]}x"#, #"{"nodes":[{"name":"a","extended_attributes":[{"name":"x","value":"!"}]}]}"#,
        #"{"nodes":[{"name":"."}]}"#, #"{"nodes":[{"name":".."}]}"#, #"{"nodes":[{"name":"a/b"}]}"#,
        #"{"nodes":[{"name":""}]}"#,
        #"{"nodes":[{"type":"file"}]}"#, #"{"nodes":[{"name":"\\x00"}]}"#,
        #"{"nodes":[{"name":"b"},{"name":"a"}]}"#,
        #"{"nodes":[{"name":"a"},{"name":"a"}]}"#,
    ])
    func `a tree that restic would not write is refused`(_ text: String) {
        #expect(throws: TreeError.self) { try Tree(parsing: Array(text.utf8)) }
    }

    @Test func `refused names and wrong order are told apart from what can be used`() throws {
        let text = #"{"nodes":[{"name":"b"},{"name":"../x"},{"name":"a"},{"name":"a"}]}"#
        var names: [[UInt8]] = []
        var problems: [TreeError] = []
        try Tree.scan(Array(text.utf8)) {
            names.append($0.name)
        } problem: { (error, _) in
            problems.append(error)
        }
        #expect(names == [[0x62], [0x61], [0x61]])
        #expect(problems.count == 3)
        #expect(problems.last == .order([0x61], after: [0x61]))
    }

    @Test func `unknown fields and types are skipped and null is no nodes`() throws {
        #expect(try Tree(parsing: Array(#"{"nodes":null,"x":{"y":[1]}}"#.utf8)).nodes.isEmpty)
        let text = #"{"x":1,"nodes":[{"name":"a","type":"door","color":["red"]}]}"#
        let node = try #require(try Tree(parsing: Array(text.utf8)).nodes.first)
        #expect(node.kind == .unknown("door"))
    }

    @Test func `no change of a byte crashes the reader`() throws {
        let trees = try #require(try Vectors.repository("repo-v2-restic0.14")["trees"]?.object).members
        let longest = try #require(trees.compactMap(\.value.string).max { $0.utf8.count < $1.utf8.count })
        let text = Array(longest.utf8.prefix(2500))
        for index in text.indices {
            var changed = text
            changed[index] = [0, 0x22, 0x5C, 0x7D, 0x2D, 0x39, 0xFF][index % 7]
            _ = try? Tree(parsing: changed)
            _ = try? Tree(parsing: Array(text[..<index]))
        }
    }
}

struct TreeWriting {
    @Test func `names must ascend and be names`() throws {
        let time = ZonedTime(nanoseconds: 0)
        var builder = TreeBuilder()
        try builder.append(Node(name: [0x61], kind: .fifo, mtime: time))
        #expect(throws: TreeError.order([0x61], after: [0x61])) {
            try builder.append(Node(name: [0x61], kind: .fifo, mtime: time))
        }
        #expect(throws: TreeError.self) { try builder.append(Node(name: [0x41], kind: .fifo, mtime: time)) }
        #expect(throws: TreeError.self) {
            try builder.append(Node(name: [0x62, 0x2F], kind: .fifo, mtime: time))
        }
        // Longer after shorter, and bytes above 127 after those below.
        try builder.append(Node(name: [0x61, 0x01], kind: .fifo, mtime: time))
        try builder.append(Node(name: [0xFF], kind: .fifo, mtime: time))
        #expect(builder.count == 3)
        #expect(try Tree(parsing: builder.finish()).nodes.count == 3)
    }

    @Test func `an empty tree has restic's bytes`() {
        #expect(String(decoding: TreeBuilder().finish(), as: UTF8.self) == "{\"nodes\":[]}\n")
    }

    @Test func `modes are Go's`() throws {
        for vector in try Vectors.list("go_filemode_examples") {
            let posix = try #require(vector["posix_octal"]?.string.flatMap { UInt32($0, radix: 8) })
            #expect(Node.goMode(posix: posix) == vector["stored_decimal"]?.uint32)
            var node = Node(name: [0x61], kind: .file, mtime: ZonedTime(nanoseconds: 0))
            node.mode = Node.goMode(posix: posix)
            #expect(node.permissions == posix & 0o7777)
        }
    }

    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00Z"), (-1, "1969-12-31T23:59:59.999999999Z"),
            (1_500_000_000, "1970-01-01T00:00:01.5Z"),
            (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
            (.max, "2262-04-11T23:47:16.854775807Z"),
            (.min, "1677-09-21T00:12:43.145224192Z"),
        ] as [(Int64, String)]
    )
    func `times are written to the nanosecond`(_ nanoseconds: Int64, _ text: String) {
        #expect(ZonedTime(nanoseconds: nanoseconds).text == text)
        #expect(ZonedTime(parsing: text)?.nanoseconds == nanoseconds)
    }

    @Test func `times beyond 64 bits of nanoseconds are held at the ends`() {
        for text in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "0000-01-01T00:00:00+14:00"] {
            let time = ZonedTime(parsing: text)
            #expect(time?.text == text)
            #expect(time?.nanoseconds == (text.hasPrefix("9") ? .max : .min))
        }
        for text in [
            "2023-02-29T00:00:00Z", "2023-13-01T00:00:00Z", "2023-01-01T24:00:00Z", "2023-01-01T00:00:00.Z",
        ] {
            #expect(ZonedTime(parsing: text) == nil)
        }
    }
}
