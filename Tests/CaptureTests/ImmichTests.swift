import Immich
import Testing

@Suite("Immich's facts")
struct ImmichTests {
    @Test func `releases are read and compared, tags that name none are not`() {
        #expect(ImmichVersion("v2.5.0") == ImmichVersion(2, 5, 0))
        #expect(ImmichVersion("3.1.0-rc.1") == ImmichVersion(3, 1, 0))
        #expect(ImmichVersion(1, 142, 1) < ImmichVersion(2, 0, 0))
        for text in ["release", "v2", "2.5", "", "v", "2.5.0.1", "2..0", "2.5.x", "99999999999.0.0"] {
            #expect(ImmichVersion(text) == nil, "\(text)")
        }
    }

    @Test func `the dump program is the one Immich uses`() {
        #expect(DumpProgram.used(by: ImmichVersion(2, 4, 9)) == .cluster)
        #expect(DumpProgram.used(by: ImmichVersion(2, 5, 0)) == .database)
        #expect(DumpProgram.used(by: nil) == .database)
    }

    @Test func `dumps are named as Immich names them`() {
        let name = DumpName.make(
            time: "20261121T102334",
            immich: ImmichVersion(2, 5, 0),
            postgres: "14.19 (Debian 14.19-1.pgdg120+1)"
        )
        #expect(name == "immich-db-backup-20261121T102334-v2.5.0-pg14.19.sql")
        #expect(DumpName.isAccepted(name))
        #expect(
            DumpName.make(time: "20261121T102334", immich: nil, postgres: "16.1;rm")
                == "immich-db-backup-20261121T102334-pg16.1rm.sql"
        )
        for bad in ["a/b.sql", ".sql", "x.sql.tmp", "", "ä.sql", "x.dump"] {
            #expect(!DumpName.isAccepted(bad), "\(bad)")
        }
    }

    @Test func `originals leave out what Immich can make again, but no marker`() {
        func taken(_ folder: ImmichFolder, _ name: String, folder isFolder: Bool = false, top: Bool = true)
            -> Bool
        {
            folder.selection(everything: false).takes(Array(name.utf8), isFolder: isFolder, top: top)
        }
        for folder in ImmichFolder.allCases { #expect(taken(folder, ".immich")) }
        #expect(taken(.upload, "x.jpg"))
        #expect(taken(.library, "admin", folder: true))
        #expect(!taken(.thumbs, "user", folder: true))
        #expect(!taken(.backups, "immich-db-backup-1.sql.gz"))
        #expect(taken(.encodedVideo, "user", folder: true))
        #expect(taken(.encodedVideo, "1234-MP.mp4", top: false))
        #expect(!taken(.encodedVideo, "1234.mp4", top: false))
    }

    @Test func `everything leaves out only dumps that are being written`() {
        for folder in ImmichFolder.allCases {
            let selection = folder.selection(everything: true)
            #expect(selection.takes(Array("a.sql.gz".utf8), isFolder: false, top: true))
            #expect(selection.takes(Array("a.tmp".utf8), isFolder: false, top: true) == (folder != .backups))
        }
    }

    @Test func `the folders come in byte order`() {
        let names = ImmichFolder.allCases.map { Array($0.rawValue.utf8) }
        #expect(names.sorted { $0.lexicographicallyPrecedes($1) } == names)
    }
}

@Suite("The end of a dump")
struct DumpTailTests {
    private let filling = String(repeating: "INSERT INTO public.x VALUES (1);\n", count: 300)

    private func problem(_ text: String, _ program: DumpProgram = .database, step: Int = 100) -> DumpTail
        .Problem?
    {
        var tail = DumpTail(program)
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            rest.prefix(step).withUnsafeBytes { tail.add($0) }
            rest = rest.dropFirst(step)
        }
        do { try tail.check() } catch { return error }
        return nil
    }

    private var whole: String {
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\(filling)--\n-- PostgreSQL database dump complete\n--\n\n"
    }

    @Test(arguments: [1, 7, 100, 4096, 1 << 20])
    func `a whole dump passes, however it is cut into pieces`(step: Int) {
        #expect(problem(whole, step: step) == nil)
        #expect(problem(whole + "\\unrestrict abc\n\n", step: step) == nil)
    }

    @Test func `a dump of all databases has a line of its own`() {
        let cluster =
            "--\n-- PostgreSQL database cluster dump\n--\n\(whole)--\n-- PostgreSQL database cluster dump complete\n--\n\n"
        #expect(problem(cluster, .cluster) == nil)
        #expect(problem(whole, .cluster) == .noOpening(.cluster))
        let cut = String(cluster.prefix(cluster.count - 52))
        #expect(
            problem(cut, .cluster)
                == .noClosing(.cluster, lastLine: "-- PostgreSQL database dump complete")
        )
    }

    @Test func `a dump that is cut anywhere before its closing line is refused`() {
        let bytes = Array(whole.utf8)
        for kept in stride(from: 1100, to: bytes.count - 6, by: 97) {
            #expect(problem(String(decoding: bytes[..<kept], as: UTF8.self)) != nil, "\(kept)")
        }
    }

    @Test func `a short dump is refused with its size`() {
        #expect(problem("") == .tooShort(bytes: 0))
        #expect(problem(String(whole.prefix(1023))) == .tooShort(bytes: 1023))
    }

    @Test func `what follows the closing line spoils it, and data never shows in the reason`() {
        #expect(
            problem(whole + "secret row\n") == .noClosing(.database, lastLine: "(data)")
        )
    }

    @Test func `something that is no dump is refused`() {
        #expect(problem(filling) == .noOpening(.database))
    }
}
