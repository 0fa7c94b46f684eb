import Configuration
import Testing

/// The node of a document, or the error that refuses it.
private func parse(_ text: String) throws(ConfigurationError) -> YAMLNode {
    try YAMLNode.parse(Array(text.utf8), file: "f.yaml")
}

private func refusal(_ text: String) -> String {
    do throws(ConfigurationError) {
        let node = try parse(text)
        return "accepted: \(node)"
    } catch { return error.description }
}

@Suite struct YAMLTests {
    @Test func `scalars keep their characters and their lines`() throws {
        let node = try parse("a: 010\nb: [yes, \"~\"]\nc:\n  d: null\n  e: |\n    two\n    lines\n")
        guard case .mapping(let entries) = node.content else {
            Issue.record("not a mapping")
            return
        }
        #expect(entries.map(\.key) == ["a", "b", "c"])
        #expect(entries.map(\.line) == [1, 2, 3])
        #expect(entries[0].value.content == .scalar("010"))
        #expect(
            entries[1].value.content
                == .sequence([
                    YAMLNode(line: 2, content: .scalar("yes")), YAMLNode(line: 2, content: .scalar("~")),
                ])
        )
        guard case .mapping(let inner) = entries[2].value.content else {
            Issue.record("not a mapping")
            return
        }
        #expect(inner[0].value == YAMLNode(line: 4, content: .empty))
        #expect(inner[1].value == YAMLNode(line: 5, content: .scalar("two\nlines\n")))
    }

    @Test(arguments: ["", "# nothing\n", "---\n", "\u{FEFF}# mark\n"])
    func `an empty file holds nothing`(_ text: String) throws {
        #expect(try parse(text).content == .empty)
    }

    @Test func `a key that stands twice is refused with both lines`() {
        #expect(
            refusal("a: 1\nb: 2\na: 3\n").hasPrefix(
                "f.yaml:3: `a` stands here a second time, first in line 1"
            )
        )
    }

    @Test func `anchors and aliases and tags are refused, so a bomb cannot be built`() {
        #expect(refusal("a: &x [1]\nb: [*x, *x]\n").hasPrefix("f.yaml:1: anchors"))
        #expect(refusal("a: 1\nb: *x\n").hasPrefix("f.yaml:2: aliases"))
        #expect(refusal("a: !!binary aGk=\n").hasPrefix("f.yaml:1: tags"))
    }

    @Test func `a tab in the indentation is named with its line`() {
        #expect(refusal("a:\n\tb: 1\n") == "f.yaml:2: is indented with a tab: YAML wants spaces")
        #expect(refusal("a:\n  b: 1\n  \tc: 2\n") == "f.yaml:3: is indented with a tab: YAML wants spaces")
    }

    @Test func `depth, size and a second document are limited`() {
        #expect(
            refusal("a: " + String(repeating: "[", count: 5000)).hasPrefix("f.yaml:1: is nested too deeply")
        )
        #expect(refusal(String(repeating: "#", count: 2 << 20)).contains("over 1 MiB"))
        #expect(refusal("a: 1\n---\nb: 2\n").hasPrefix("f.yaml:2: a second document"))
    }

    @Test func `broken syntax and bytes that are no text have a line`() throws {
        #expect(refusal("a: 1\nb: [1, 2\nc: 3\n").hasPrefix("f.yaml:3: cannot be read as YAML"))
        #expect(refusal("a: 'x\n").hasPrefix("f.yaml:2: cannot be read as YAML"))
        #expect(throws: ConfigurationError.self) {
            try YAMLNode.parse(Array("a: 1\nb: ".utf8) + [0xFF, 0xFE, 0x0A], file: "f.yaml")
        }
        #expect(refusal("? [a, b]\n: c\n").contains("a key must be a plain word"))
    }

    @Test func `a file that is missing is named`() {
        #expect(throws: ConfigurationError.self) { try YAMLNode.read("/nonexistent/fleet.yaml") }
    }

    @Test(arguments: 0..<200) func `random damage is refused or read, never a crash`(_ seed: UInt64) {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        func random(_ limit: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(limit))
        }
        var bytes = Array(
            "state: /a\nlisten: [\"[::]:1\", b]\nhosts:\n  x: {scope: everything}\n  y:\n    scope: |\n      z\n"
                .utf8
        )
        for _ in 0..<4 {
            bytes[random(bytes.count)] = Array("\t\n:-[]{}&*!|>'\"%@`#,\0\u{7F}\\ ?".utf8)[random(25)]
        }
        _ = try? YAMLNode.parse(bytes, file: "f.yaml")
    }
}
