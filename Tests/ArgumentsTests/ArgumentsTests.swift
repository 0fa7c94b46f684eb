import Arguments
import Testing

@Suite("Command lines")
struct ArgumentReaderTests {
    @Test func `options may stand anywhere and take their value either way`() throws {
        var reader = ArgumentReader(["lisbon", "--to=/tmp/x", "--json", "--snapshot", "abc"])
        #expect(try reader.option("--to") == "/tmp/x")
        #expect(try reader.option("--snapshot") == "abc")
        let json = reader.flag("--json")
        #expect(json)
        #expect(reader.argument() == "lisbon")
        try reader.finish()
    }

    @Test func `what follows two dashes is no option`() throws {
        var reader = ArgumentReader(["--", "--json"])
        let json = reader.flag("--json")
        #expect(!json)
        #expect(reader.argument() == "--json")
    }

    @Test(arguments: [
        (["--prot", "22"], UsageError.unknownOption("--prot")),
        (["--port"], UsageError.missingValue(option: "--port")),
        (["a"], UsageError.surplus("a")),
    ])
    func `mistakes are named`(arguments: [String], expected: UsageError) {
        #expect(throws: expected) {
            var reader = ArgumentReader(arguments)
            _ = try reader.option("--port")
            try reader.finish()
        }
    }
}

@Suite("Figures for people")
struct HumanTests {
    @Test(arguments: [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (3_214_000_000, "3.21 GB"), (99_960_000, "100 MB"),
        (999_600, "1.00 MB"),
    ])
    func `bytes have three figures`(bytes: Int, text: String) { #expect(Human.bytes(bytes) == text) }

    @Test(arguments: [(7, "7"), (1000, "1,000"), (412_337, "412,337"), (-1234, "-1,234")])
    func `counts have separators`(value: Int, text: String) { #expect(Human.count(value) == text) }

    @Test(arguments: [(45, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (529_200, "6 d 3 h")])
    func `spans use two units`(seconds: Int64, text: String) {
        #expect(Human.duration(nanoseconds: seconds * 1_000_000_000) == text)
    }

    @Test func `tables align`() {
        var table = Table([("HOST", .left), ("FILES", .right)])
        table.row(["lisbon", "7"])
        #expect(table.text == "HOST    FILES\nlisbon      7\n")
    }
}
