import Arguments
import Capture
import Configuration
import Fleet
import Immich
import JSON
import Repository
import SSH
import Sessions
import TestSupport
import Wire

/// Everything that reads what comes from outside, each with texts that it accepts.
struct Decoders {
    private struct Decoder {
        let name: String
        let samples: [[UInt8]]
        let decode: ([UInt8]) throws -> Void
    }

    private struct Refused: Error, CustomStringConvertible { let description = "refused" }

    /// Accepted, but wrongly.
    private struct Finding: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    private let all: [Decoder]

    init() throws {
        func text(_ strings: String...) -> [[UInt8]] { strings.map { Array($0.utf8) } }
        func required<T>(_ value: T?) throws -> T {
            guard let value else { throw Refused() }
            return value
        }
        func string(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
        var file = Entry(kind: .file, name: Array("photo.jpg".utf8))
        file.size = 12
        file.attributes = [Entry.Attribute(name: [0x61], value: [1, 2, 3])]
        var link = Entry(kind: .symlink, name: Array("link".utf8))
        link.target = Array("../x".utf8)
        let fromAgent: [AgentMessage] = [
            .join(version: 1, token: "hf1.x"), .hello(version: 1, program: "agent 1"), .wait,
            .request(.database), .clock(-1), .dumpEnd,
            .dump(name: "d.sql", kind: .cluster, immichVersion: "v1", postgresVersion: "15"),
            .list(entries: [file, link, Entry(kind: .directory, name: [0x7A])], last: true), .again, .commit,
            .fileEnd(FileEnd(status: .changing)), .expect(files: 1, bytes: 2), .folderFailed(errno: 5),
            .attributes(of: .file, file.attributes), .failed(message: "no"),
            .skipped(path: [1, 2], reason: "so"),
        ]
        let fromCoordinator: [CoordinatorMessage] = [
            .joined(host: "lisbon"), .welcome(version: 1, host: "lisbon"), .busy(message: "b"),
            .capture(run: "r", kind: .full, scope: .everything, count: true), .committed(snapshot: "s"),
            .abort(message: "a"),
            .want([Wanted(index: 1, offset: 2), Wanted(index: 3, offset: 0)]), .refused(message: "r"),
            .coordinators([CoordinatorPlace(address: "nas:2222", hostKey: "SHA256:x")]),
        ]
        let id = String(repeating: "ab", count: 32)
        let bytes64 = String(repeating: "A", count: 86) + "=="
        let blob = #"{"id":"\#(id)","type":"data","offset":0,"length":100,"uncompressed_length":300}"#
        let node =
            #"{"name":"a\u00e9\\xff","type":"file","mode":420,"mtime":"2024-01-02T03:04:05.123456789+01:00","#
            + #""atime":"2024-01-02T03:04:05Z","ctime":"2024-01-02T03:04:05Z","uid":1,"gid":2,"inode":3,"size":5,"#
            + #""links":1,"extended_attributes":[{"name":"user.a","value":"AQID"}],"content":["\#(id)"]}"#
        let key = try KeyPair.generate().publicKey
        guard
            let token = JoinToken(
                secret: [UInt8](repeating: 7, count: 16),
                fingerprint: key.fingerprint.bytes
            )
        else {
            throw Refused()
        }

        var all: [Decoder] = []
        func add(_ name: String, _ samples: [[UInt8]], _ decode: @escaping ([UInt8]) throws -> Void) {
            all.append(Decoder(name: name, samples: samples, decode: decode))
        }
        add(
            "agent's frame",
            fromAgent.map {
                let frame = Frame($0); return [frame.type] + frame.body
            }
        ) { bytes in
            let type = try required(bytes.first)
            let message = try bytes.dropFirst().withUnsafeBytes { try AgentMessage(type: type, body: $0) }
            // Every accepted body has exactly one spelling.
            let again = Frame(message)
            if again.body != Array(bytes.dropFirst()) { throw Finding("two spellings of \(message)") }
        }
        add(
            "coordinator's frame",
            fromCoordinator.map {
                let frame = Frame($0); return [frame.type] + frame.body
            }
        ) { bytes in
            let type = try required(bytes.first)
            let message = try bytes.dropFirst().withUnsafeBytes {
                try CoordinatorMessage(type: type, body: $0)
            }
            if Frame(message).body != Array(bytes.dropFirst()) {
                throw Finding("two spellings of \(message)")
            }
        }
        add("join token", text(token.text)) { _ = try required(JoinToken(string($0))) }
        add("public key", text(key.openSSH + " comment")) { _ = try required(PublicKey(openSSH: string($0))) }
        add("public key blob", [key.blob]) { _ = try required(PublicKey(blob: $0)) }
        add("fingerprint", text(key.fingerprint.text)) { _ = try required(Fingerprint(text: string($0))) }
        add("JSON", text(#"{"a":[1,-2.5e3,true,null,"\u00e9\ud83d\ude00"],"b":{"c":""}}"#, "[[[[[]]]]]")) {
            let json = try JSON(parsing: $0)
            if try JSON(parsing: json.encoded()) != json {
                throw Finding("JSON is not read as it was written")
            }
        }
        add(
            "inventory",
            text(
                "state: /s\nlisten: [\"[::]:2222\", 1.2.3.4:5]\ncatalogue: postgres://u@h/d\nkeep_free: 20 GiB\n"
                    + "defaults: { scope: originals, size_limit: 1 TB, rate_limit: 20 MB/s }\nhosts:\n  lisbon:\n"
                    + "    schedule: { full: \"30 2 * * mon-fri\", database: never, time_zone: Europe/Lisbon, window: 4h }\n"
                    + "    retention: { full: { daily: 14, within: 1y6m7d12h }, database: all }\n"
                    + "    thresholds: { full: { warning: 26h, critical: 50h } }\n"
                    + "    watch: { dump_shrink: 12.5 %, slow: 2.5 }\n"
                    + "    outside: { vm: \"/dump/a-*.zst, 26h, 50h\" }\n"
            )
        ) { _ = try FleetConfiguration(YAMLNode.parse($0, file: "f"), file: "f") }
        add("YAML", text("a: &x [1, 2]\nb: *x\nc: |\n  text\n", "- a\n- {b: c}\n? d\n: e\n")) {
            _ = try YAMLNode.parse($0, file: "f")
        }
        add("tree", text("{\"nodes\":[\(node)]}\n")) { _ = try Tree(parsing: $0) }
        add("pack header", [Self.header()]) { _ = try PackHeader.parse($0, bodySize: 300) }
        add("index", text("{\"packs\":[{\"id\":\"\(id)\",\"blobs\":[\(blob),\(blob)]}]}")) {
            try IndexFile.parse($0) { _, _ in }
        }
        add(
            "snapshot",
            text(
                #"{"time":"2024-01-02T03:04:05Z","tree":"\#(id)","paths":["/"],"hostname":"h","tags":["a"]}"#
            )
        ) {
            _ = try Snapshot(parsing: $0)
        }
        add(
            "key file",
            text(#"{"kdf":"scrypt","N":1024,"r":8,"p":1,"salt":"\#(bytes64)","data":"AAAA","username":"u"}"#)
        ) {
            _ = try KeyFile(parsing: $0)
        }
        add("recovery key", text(#"{"N":1024,"r":8,"p":1,"salt":"\#(bytes64)","derived":"\#(bytes64)"}"#)) {
            _ = try RecoveryKey(decoding: $0)
        }
        add(
            "checkpoint",
            text(
                #"{"tree":"\#(id)","partials":[{"path":["61"],"size":1,"mtime":2,"ctime":3,"inode":4,"content":["\#(id)"]}]}"#
            )
        ) {
            _ = try required(Checkpoint($0))
        }
        add("name in a tree", text(#"a\u00e9\xff\n"#)) { bytes in
            _ = try required(bytes.withUnsafeBufferPointer { NodeName.unquote($0) })
        }
        add("time", text("2024-02-29T23:59:59.123456789+05:45")) {
            _ = try required(ZonedTime(parsing: string($0)))
        }
        add("sizes and durations", text("500 GB", "1h 30m")) { bytes in
            _ = Units.nanoseconds(string(bytes))
            _ = try required(Units.bytes(string(bytes)))
        }
        add("endpoint", text("[::1]:2222", "nas.lan:22", "10.0.0.1")) {
            _ = try required(Endpoint(string($0)))
        }
        add("Immich's version", text("v1.142.0", "2.0.1-rc.1")) {
            _ = try required(ImmichVersion(string($0)))
        }
        add(
            "dump",
            text(
                "--\n-- PostgreSQL database dump\n--\n" + String(repeating: "x\n", count: 600)
                    + "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x\n"
            )
        ) { bytes in
            var tail = DumpTail(.database)
            bytes.withUnsafeBytes { tail.add($0) }
            try tail.check()
        }
        add(
            "docker inspect",
            text(
                #"{"Id":"a","Name":"/immich_server","Config":{"Env":["A=b"],"Labels":{"c":"d"},"Image":"i"},"#
                    + #""State":{"Status":"running"},"Mounts":[{"Type":"bind","Source":"/a","Destination":"/data"}]}"#
            )
        ) { _ = Container(inspected: try JSON(parsing: $0)) }
        self.all = all
    }

    private static func header() -> [UInt8] {
        var header: [UInt8] = []
        for _ in 0..<3 {
            header += [0, 100, 0, 0, 0] + [UInt8](repeating: 0xCD, count: 32)
        }
        return header
    }

    /// - Throws: What no text may bring about.
    func run(seed: UInt64) throws -> String {
        var random = SplitMix(seed)
        let decoder = random.pick(all)
        var bytes = random.once(in: 50) ? random.bytes(random.below(300)) : random.pick(decoder.samples)
        if !random.once(in: 20) { random.mutate(&bytes) }
        do {
            try decoder.decode(bytes)
            return "\(decoder.name): accepted"
        } catch let finding as Finding { throw finding } catch { return "\(decoder.name): refused" }
    }
}
