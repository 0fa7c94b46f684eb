import Glibc
import Posix
import Testing
import TestSupport

/// The sample host is what other tests stand on, so it is tested itself.
@Suite("The sample Immich host")
struct SampleHostTests {
    @Test func `holds what Immich would, and can be added to`() throws {
        let host = try SampleHost(photos: 12, photoSize: 40_000, places: 100)
        defer { host.stop() }
        let rows = Dictionary(uniqueKeysWithValues: try host.rowCounts().map { ($0.table, $0.rows) })
        #expect(rows["asset"] == 13, "twelve photos and one hidden motion video")
        #expect(rows["user"] == 3)
        #expect(rows["geodata_places"] == 100)
        for folder in ["upload", "library", "profile", "thumbs", "encoded-video", "backups"] {
            #expect(Files.exists("\(host.uploadLocation)/\(folder)/.immich"))
        }
        // Every path that a row names is a file, and an original has the checksum of its row.
        let paths = try host.sql(
            """
            SELECT "originalPath", encode(checksum, 'hex') FROM asset
            UNION ALL SELECT path, '' FROM asset_file
            UNION ALL SELECT "profileImagePath", '' FROM "user" WHERE "profileImagePath" <> ''
            UNION ALL SELECT "thumbnailPath", '' FROM person
            """
        ).split(separator: "\n")
        #expect(paths.count == 13 + 12 * 2 + 2 + 1 + 3)
        for line in paths {
            let fields = line.split(separator: "|", omittingEmptySubsequences: false)
            let file = host.uploadLocation + fields[0].dropFirst("/data".count)
            #expect(Files.exists(file))
            guard fields[1] != "" else { continue }
            let sum = try ChildProcess.run(["sha1sum", file]).output
            #expect(String(decoding: sum.prefix(40), as: UTF8.self) == fields[1])
        }

        try host.addPhotos(3, seed: 9)
        #expect(try host.sql("SELECT count(*) FROM asset WHERE type = 'IMAGE'") == "15")
        let mounts = try host.docker(
            "inspect",
            "-f",
            "{{range .Mounts}}{{.Destination}} {{end}}",
            "immich_server"
        )
        #expect(mounts == "/data ")
        host.stop()
        #expect(!Files.exists(host.folder))
    }
}
