import Glibc
import TestSupport
import Testing
import Wire

@Suite("Messages")
struct MessageTests {
    @Test(arguments: 0..<50) func `every message comes back as it was`(seed: Int) throws {
        var random = SplitMix(UInt64(seed))
        for message in random.agentMessages() {
            #expect(try agentMessage(message.type, encoded(message)) == message)
        }
        for message in random.coordinatorMessages() {
            #expect(try coordinatorMessage(message.type, encoded(message)) == message)
        }
    }

    @Test func `a message that is cut or too long is refused wherever that is`() {
        var random = SplitMix(7)
        for message in random.agentMessages() {
            let body = encoded(message)
            for end in body.indices {
                #expect(throws: WireError.self) { try agentMessage(message.type, body[..<end]) }
            }
            #expect(throws: WireError.malformed("1 bytes too many")) {
                try agentMessage(message.type, body + [0])
            }
        }
        for message in random.coordinatorMessages() {
            let body = encoded(message)
            for end in body.indices {
                #expect(throws: WireError.self) { try coordinatorMessage(message.type, body[..<end]) }
            }
            #expect(throws: WireError.malformed("1 bytes too many")) {
                try coordinatorMessage(message.type, body + [0])
            }
        }
    }

    @Test func `types that don't exist, and those of the other side, are refused`() {
        for type in UInt8.min...UInt8.max {
            // `data` is no message.
            if !(1...17).contains(type) || type == AgentMessage.dataType {
                #expect(throws: WireError.malformed("unknown type \(type)")) { try agentMessage(type, []) }
            }
            if !(65...73).contains(type) {
                #expect(throws: WireError.malformed("unknown type \(type)")) {
                    try coordinatorMessage(type, [])
                }
            }
        }
    }

    @Test func `hostile names are refused`() throws {
        let long = [UInt8](repeating: 0x61, count: 256)
        for name: [UInt8] in [[], [0x2E], [0x2E, 0x2E], [0x61, 0x2F, 0x62], [0x2F], [0], [0x61, 0], long] {
            let body = encoded(.list(entries: [Entry(kind: .file, name: name)], last: true))
            #expect(throws: WireError.self) { try agentMessage(8, body) }
        }
        for name: [UInt8] in [[0x2E, 0x2E, 0x2E], [0xFF, 0xFE], [0x0A], [0x5C], Array(long.dropLast())] {
            let message = AgentMessage.list(entries: [Entry(kind: .file, name: name)], last: true)
            #expect(try agentMessage(8, encoded(message)) == message)
        }
    }

    @Test func `entries that no file system has are refused`() {
        func refused(_ kind: Entry.Kind = .file, _ change: (inout Entry) -> Void) -> Bool {
            var entry = Entry(kind: kind, name: [0x61])
            change(&entry)
            do {
                _ = try agentMessage(8, encoded(.list(entries: [entry], last: false)))
                return false
            } catch { return true }
        }
        #expect(!refused { _ in })
        #expect(refused { $0.permissions = 0o10000 })
        #expect(refused { $0.size = 1 << 63 })
        #expect(refused(.symlink) { $0.target = [] })
        #expect(refused(.symlink) { $0.target = [0x61, 0] })
        #expect(refused(.symlink) { $0.target = [UInt8](repeating: 0x61, count: 4097) })
        #expect(!refused(.symlink) { $0.target = [UInt8](repeating: 0x61, count: 4096) })
        #expect(refused { $0.attributes = [.init(name: [], value: [])] })
        #expect(refused { $0.attributes = [.init(name: [0x61, 0], value: [])] })
        #expect(
            refused { $0.attributes = [.init(name: [0x61], value: [UInt8](repeating: 0, count: 1 << 20))] }
        )
        // Kind, flags, and a count of links that is none.
        let body = encoded(.list(entries: [Entry(kind: .directory, name: [0x61])], last: false))
        for (index, value) in [(5, UInt8(6)), (6, 4), (6, 1), (0, 2)] {
            var changed = body
            changed[index] = value
            #expect(throws: WireError.self) { try agentMessage(8, changed) }
        }
        #expect(throws: WireError.malformed("several links that are not several")) {
            var changed = body
            changed[6] = 1
            return try agentMessage(8, changed + [1, 0, 0, 0] + [UInt8](repeating: 0, count: 8))
        }
    }

    @Test func `counts beyond the body reserve nothing`() {
        #expect(throws: WireError.malformed("more entries than the body can hold")) {
            try agentMessage(8, [1, 0xFF, 0xFF, 0xFF, 0xFF])
        }
        #expect(throws: WireError.malformed("more files than the body can hold")) {
            try coordinatorMessage(69, [0xFF, 0xFF, 0xFF, 0xFF])
        }
        // The smallest entry is not smaller than what the bound counts on.
        let smallest = encoded(.list(entries: [Entry(kind: .directory, name: [0x61])], last: true)).count - 5
        let many = [Entry](repeating: Entry(kind: .directory, name: [0x61]), count: 25_000)
        #expect(smallest == 41)
        #expect(throws: Never.self) { try agentMessage(8, encoded(.list(entries: many, last: true))) }
    }

    @Test func `text of programs is sent without what a terminal might obey`() throws {
        let message = AgentMessage.failed(message: "pg_dump:\r\u{1B}[31m no\u{9B}\u{7F}\n\tend")
        #expect(try agentMessage(14, encoded(message)) == .failed(message: "pg_dump:??[31m no??\n\tend"))
        for byte: UInt8 in [0, 7, 0x0D, 0x1B, 0x7F] {
            #expect(throws: WireError.malformed("text holds a control character")) {
                try agentMessage(14, [1, 0, byte])
            }
        }
        #expect(throws: WireError.self) { try agentMessage(14, [2, 0, 0xC2, 0x9B]) }
        #expect(throws: WireError.malformed("text is not UTF-8")) { try agentMessage(14, [1, 0, 0xFF]) }
        #expect(throws: WireError.malformed("text is not UTF-8")) {
            try agentMessage(14, [2, 0, 0xC0, 0x80])
        }
    }

    @Test func `long text is cut between characters`() throws {
        let message = AgentMessage.failed(message: "a" + String(repeating: "é", count: 40_000))
        let back = try agentMessage(14, encoded(message))
        #expect(back == .failed(message: "a" + String(repeating: "é", count: 32_767)))
    }

    /// `HOLDFAST_FUZZ` sets the number of inputs.
    @Test func `random bytes are refused or mean something, and never crash`() throws {
        let wanted = getenv("HOLDFAST_FUZZ").flatMap { Int(String(cString: $0)) } ?? 100_000
        let seed = UInt64(0x484F_4C44)
        var random = SplitMix(seed)
        var accepted = 0
        var seeds: [(UInt8, [UInt8])] = []
        for _ in 0..<8 {
            for message in random.agentMessages() { seeds.append((message.type, encoded(message))) }
            for message in random.coordinatorMessages() { seeds.append((message.type, encoded(message))) }
        }
        for round in 0..<wanted {
            var (type, body) = seeds[Int(truncatingIfNeeded: random.next() >> 1) % seeds.count]
            if round % 3 == 0 {
                body = random.bytes(0...80)
                type = UInt8(random.next() % 80)
            } else {
                for _ in 0..<Int.random(in: 1...3, using: &random) where !body.isEmpty {
                    body[Int.random(in: body.indices, using: &random)] = UInt8(
                        truncatingIfNeeded: random.next()
                    )
                }
                if round % 3 == 1 { body.removeLast(min(body.count, Int.random(in: 0...3, using: &random))) }
            }
            if let message = try? agentMessage(type, body) {
                accepted += 1
                // What is accepted has one spelling only.
                #expect(encoded(message) == body, "seed \(seed) round \(round)")
            }
            if let message = try? coordinatorMessage(type, body) {
                accepted += 1
                #expect(encoded(message) == body, "seed \(seed) round \(round)")
            }
        }
        #expect(accepted > wanted / 100)
    }
}
