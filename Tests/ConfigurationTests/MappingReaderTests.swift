import Configuration
import Testing

private func read<R>(_ text: String, _ body: (MappingReader) throws(ConfigurationError) -> R)
    throws(ConfigurationError) -> R
{
    try MappingReader.read(YAMLNode.parse(Array(text.utf8), file: "f"), file: "f", body)
}

@Suite struct MappingReaderTests {
    @Test func `numbers, switches, sizes and durations are read strictly`() throws {
        let text = "n: 7\nb: true\ns: 1.5 GiB\nd: 1h 30m\n"
        try read(text) { (top) throws(ConfigurationError) in
            #expect(try top.int("n", in: 1...9) == 7)
            #expect(try top.bool("b") == true)
            #expect(try top.size("s") == 1_610_612_736)
            #expect(try top.duration("d") == 5_400_000_000_000)
            #expect(try top.int("missing", in: 0...1) == nil)
        }
        #expect(throws: ConfigurationError(file: "f", line: 1, "`b` must be true or false, not `yes`")) {
            try read("b: yes\n") { (top) throws(ConfigurationError) in try top.bool("b") }
        }
        #expect(
            throws: ConfigurationError(file: "f", line: 2, "`n` must be a whole number from 1 to 9, not `10`")
        ) {
            try read("# one\nn: 10\n") { (top) throws(ConfigurationError) in try top.int("n", in: 1...9) }
        }
        #expect(throws: ConfigurationError.self) {
            try read("s: 64\n") { (top) throws(ConfigurationError) in try top.size("s") }
        }
    }

    @Test(arguments: ["5", "s", "5 parsecs", "-5s", "1h30", "", "..s", "5s s", "1e9s", "99999999999999w"])
    func `a duration without a unit or with a wrong one is none`(_ text: String) {
        #expect(Units.nanoseconds(text) == nil)
    }

    @Test func `units by 1024 and by 1000 are told apart`() {
        #expect(Units.bytes("64 MiB") == 67_108_864)
        #expect(Units.bytes("64MB") == 64_000_000)
        #expect(Units.bytes("64m") == 67_108_864)
        #expect(Units.bytes("10 B") == 10)
        #expect(Units.nanoseconds("250ms") == 250_000_000)
        #expect(Units.nanoseconds("2w") == 1_209_600_000_000_000)
    }

    @Test func `a required key that is missing or empty is named`() {
        #expect(throws: ConfigurationError(file: "f", line: 1, "`key` is missing")) {
            try read("a: 1\n") { (top) throws(ConfigurationError) in
                try top.required("key", top.string("key"))
            }
        }
        #expect(throws: ConfigurationError(file: "f", line: 2, "`key` has no value")) {
            try read("a: 1\nkey:\n") { (top) throws(ConfigurationError) in
                try top.required("key", top.string("key"))
            }
        }
    }

    @Test func `a list may be a single value`() throws {
        #expect(try read("a: x\n") { (top) throws(ConfigurationError) in try top.strings("a") } == ["x"])
        #expect(
            try read("a: [x, y]\n") { (top) throws(ConfigurationError) in try top.strings("a") } == [
                "x", "y",
            ]
        )
        #expect(
            throws: ConfigurationError(
                file: "f",
                line: 3,
                "`a` must be a list of texts; this item is a mapping"
            )
        ) {
            try read("a:\n  - x\n  - y: 1\n") { (top) throws(ConfigurationError) in try top.strings("a") }
        }
    }
}
