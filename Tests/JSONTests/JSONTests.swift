import JSON
import Testing

struct JSONParsing {
    @Test func `every kind of value is read`() throws {
        let json = try JSON(
            parsing: #" {"a":[1,-2,3.5,true,false,null,"x"] , "b":{"c":{}}, "d":[] } "#
        )
        #expect(
            json == [
                "a": [1, -2, 3.5, true, false, nil, "x"],
                "b": ["c": .object(JSON.Object())],
                "d": [],
            ]
        )
        #expect(json["a"]?[2]?.double == 3.5)
        #expect(json["b"]?["c"]?.object?.members.count == 0)
        #expect(json["none"] == nil)
        #expect(json["a"]?[99] == nil)
    }

    @Test func `whole numbers stay exact up to the ends of 64 bits`() throws {
        #expect(try JSON(parsing: "9223372036854775807").int64 == Int64.max)
        #expect(try JSON(parsing: "-9223372036854775808").int64 == Int64.min)
        #expect(try JSON(parsing: "9223372036854775808") == .unsigned(1 << 63))
        #expect(try JSON(parsing: "18446744073709551615").uint64 == UInt64.max)
        #expect(try JSON(parsing: "18446744073709551616") == .double(18_446_744_073_709_551_616))
        #expect(try JSON(parsing: "-9223372036854775809") == .double(-9_223_372_036_854_775_808))
        #expect(try JSON(parsing: "1.0").int64 == nil)
        #expect(try JSON(parsing: "-0").int64 == 0)
        #expect(try JSON(parsing: "1E+2").double == 100)
        #expect(try JSON(parsing: "-1").uint64 == nil)
        #expect(try JSON(parsing: "4294967296").uint32 == nil)
    }

    @Test func `the last of repeated keys counts`() throws {
        let json = try JSON(parsing: #"{"a":1,"b":2,"a":3}"#)
        #expect(json["a"] == 3)
    }

    @Test(arguments: [
        (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (#""\u00e4\u20AC""#, "ä€"),
        (#""\ud83d\ude00 😀""#, "😀 😀"),
        (#""0123456789abcdef ü 0123456789abcdef""#, "0123456789abcdef ü 0123456789abcdef"),
        ("\"\u{7f}\"", "\u{7f}"),
        (#""\u0000""#, "\0"),
    ])
    func `strings are decoded`(_ text: String, _ expected: String) throws {
        #expect(try JSON(parsing: text).string == expected)
        #expect(try JSON(parsing: "{\(text):\(text)}")[expected]?.string == expected)
    }

    @Test(arguments: [
        "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}",
        "{a:1}",
        "{1:2}", "[1 2]", "nul", "nullx", "tru", "True", "01", "-", "-01", "1.", ".5", "1e", "1e+", "+1",
        "0x1",
        "NaN", "Infinity", "1e999", "\"", "\"a", "\"\\", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"",
        "\"\\ud800\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"a\nb\"", "\"\t\"", "1 1",
        "[]]",
        "'a'", "// c\n1", "\u{feff}1", "\"\\ü\"",
    ])
    func `what is not JSON is refused`(_ text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: text) }
    }

    @Test(
        arguments: [
            [0x80], [0xC0, 0x80], [0xC3], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80],
            [0xF5], [0xFF],
            [0xE2, 0x82], [0xF0, 0x9F, 0x98],
        ] as [[UInt8]]
    )
    func `a string that is not UTF-8 is refused`(_ bytes: [UInt8]) {
        let text = Array("[\"0123456789".utf8) + bytes + Array("\"]".utf8)
        #expect(throws: JSONError(.invalidUTF8, at: 12)) { try JSON(parsing: text) }
    }

    @Test func `nesting is limited`() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        _ = try JSON(parsing: nested(128))
        #expect(throws: JSONError(.tooDeep(128), at: 128)) { try JSON(parsing: nested(129)) }
        #expect(throws: JSONError.self) { try JSON(parsing: String(repeating: "[{\"a\":", count: 1_000_000)) }
    }

    @Test func `no cut of a text crashes or passes`() {
        let text = Array(#"{"a":[1.5e3,true,"\u00e4\ud83d\ude00ü"],"b":null}"#.utf8)
        for count in 0..<text.count {
            #expect(throws: JSONError.self) { try JSON(parsing: Array(text[..<count])) }
        }
        // Any single byte changed: an error or a value, but no crash.
        for index in text.indices {
            for byte in [0, 0x22, 0x5C, 0x7B, 0x7D, 0x5B, 0x5D, 0x2C, 0x80, 0xFF] as [UInt8] {
                var changed = text
                changed[index] = byte
                _ = try? JSON(parsing: changed)
            }
        }
    }
}

struct JSONWriting {
    @Test func `text is compact, ordered and reads back`() throws {
        let json: JSON = ["z": 1, "a": [nil, true, -5, .unsigned(.max), 0.5], "e": [], "o": ["k": "v"]]
        #expect(json.text() == #"{"z":1,"a":[null,true,-5,18446744073709551615,0.5],"e":[],"o":{"k":"v"}}"#)
        #expect(try JSON(parsing: json.encoded()) == json)
        #expect(try JSON(parsing: json.encoded(pretty: true)) == json)
        #expect(try JSON(parsing: JSON.integer(.min).encoded()) == .integer(.min))
        #expect(JSON.double(.infinity).text() == "null")
    }

    @Test func `pretty text has a line per member`() {
        let json: JSON = ["a": [1, 2], "b": .object(JSON.Object()), "c": ["d": "e"]]
        #expect(
            json.text(pretty: true) == """
                {
                  "a": [
                    1,
                    2
                  ],
                  "b": {},
                  "c": {
                    "d": "e"
                  }
                }

                """
        )
    }

    @Test func `strings are escaped as Go does it`() {
        func written(_ bytes: [UInt8], html: Bool) -> String {
            var output: [UInt8] = []
            bytes.withUnsafeBufferPointer { appendJSONString($0, to: &output, escapeHTML: html) }
            return String(decoding: output, as: UTF8.self)
        }
        let all = Array("a\"\\/\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f}<>&'\u{2028}\u{2029}\u{2027}äé😀".utf8)
        #expect(
            written(all, html: true)
                == #""a\"\\/\n\r\t\b\f\u0001\u001f"# + "\u{7f}" + #"\u003c\u003e\u0026'\u2028\u2029"#
                + "\u{2027}äé😀\""
        )
        #expect(written(Array("<>&".utf8), html: false) == "\"<>&\"")
        #expect(
            written([0x61, 0xFF, 0xC3, 0x62, 0xE2, 0x80], html: true) == #""a\ufffd\ufffdb\ufffd\ufffd""#
        )
    }

    @Test func `members are set, replaced and removed`() {
        var object = JSON.Object([("a", 1), ("b", 2)])
        object["a"] = 3
        object["c"] = 4
        object["b"] = nil
        #expect(JSON.object(object).text() == #"{"a":3,"c":4}"#)
    }
}

struct JSONScanning {
    @Test func `a large document is read without building values`() throws {
        let text = Array(
            #"{"skip":[1,{"x":"\n"}],"n\u0061me":"vä\u006cue","count":18446744073709551615}"#.utf8
        )
        var name: [UInt8] = []
        var count: UInt64 = 0
        try text.withUnsafeBufferPointer { (bytes) throws(JSONError) in
            var scanner = JSONScanner(bytes)
            try scanner.object { (scanner, key) throws(JSONError) in
                switch String(decoding: key, as: UTF8.self) {
                case "name": name = try scanner.stringBytes()
                case "count": count = try scanner.unsigned()
                default: try scanner.skip()
                }
            }
            try scanner.end()
        }
        #expect(name == Array("välue".utf8))
        #expect(count == .max)
    }
}
