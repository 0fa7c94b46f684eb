import JSON
import Repository
import Testing

struct SnapshotFormat {
    @Test(arguments: Vectors.repositories)
    func `snapshots of stock restic are written back as they were`(_ name: String) throws {
        for vector in try #require(try Vectors.repository(name)["snapshots"]?.array) {
            let text = try #require(vector["json"]?.string)
            #expect(
                String(decoding: try Snapshot(parsing: Array(text.utf8)).encoded(), as: UTF8.self) == text
            )
        }
    }

    @Test func `what a restore takes is kept, and what is no such figure counts as not said`() throws {
        let least = #""time":"2024-02-03T04:05:06Z","tree":"\#(String(repeating: "ab", count: 32))""#
        var snapshot = try Snapshot(parsing: Array("{\(least)}".utf8))
        #expect(snapshot.restoreSize == nil)
        snapshot.restoreSize = RestoreSize(files: 3, bytes: 5_000_000_000, space: UInt64.max)
        #expect(try Snapshot(parsing: snapshot.encoded()) == snapshot)
        for text in [
            "null", "[]", "{}", "7", #"{"files":-1,"bytes":2,"space":3}"#, #"{"files":1,"bytes":2}"#,
        ] {
            let read = try Snapshot(parsing: Array(#"{\#(least),"holdfast_restore":\#(text)}"#.utf8))
            #expect(read.restoreSize == nil, "\(text)")
        }
    }

    @Test func `fields may be missing or null but not of another kind`() throws {
        let tree = String(repeating: "ab", count: 32)
        let least = try Snapshot(
            parsing: Array(#"{"time":"2024-02-03T04:05:06Z","tree":"\#(tree)","tags":null}"#.utf8)
        )
        #expect(least.tree.hex == tree && least.tags.isEmpty && least.summary == nil)
        for text in [
            "", "[]", "{}", #"{"tree":"\#(tree)"}"#, #"{"time":"2024-02-03T04:05:06Z"}"#,
            #"{"time":"2024-02-03 04:05:06Z","tree":"\#(tree)"}"#,
            #"{"time":"2024-02-03T04:05:06Z","tree":"ab"}"#,
            #"{"time":"2024-02-03T04:05:06Z","tree":"\#(tree)","uid":1.5}"#,
            #"{"time":"2024-02-03T04:05:06Z","tree":"\#(tree)","tags":["a",1]}"#,
            #"{"time":"2024-02-03T04:05:06Z","tree":"\#(tree)","summary":{"files_new":1.5}}"#,
        ] {
            #expect(throws: RepositoryError.self) { try Snapshot(parsing: Array(text.utf8)) }
        }
    }
}
