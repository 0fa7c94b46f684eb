import Glibc
import JSON
import Posix
import Repository
import Retrieval
import TestSupport
import Testing
import Wire

@Suite("An awkward library", .serialized)
struct AwkwardLibraryTests {
    @Test func `everything a file system can hold comes back, through us and through stock restic`() throws {
        let sample = try SampleHost(photos: 2, photoSize: 2000)
        try AwkwardTree.make(at: sample.uploadLocation + "/upload/awkward")
        let joined = try MainJobTests.Joined(sample)
        let first = try joined.backup()
        #expect(try joined.restic("check", "--read-data").status == 0)

        try saidSizeIsTheWalks(joined, first)

        let source = try TreeListing(sample.uploadLocation + "/upload")
        let ours = joined.installation.folder + "/restored"
        let restored = try joined.installation.coordinator("restore", "lisbon", "--to", ours)
        #expect(restored.status == 0, "\(restored)")
        #expect(try source.differences(to: TreeListing(ours + "/immich/upload")) == [])

        let theirs = joined.installation.folder + "/by-restic"
        let stock = try joined.restic("restore", "latest", "--target", theirs)
        #expect(stock.status == 0, "\(stock)")
        let differences = try source.differences(to: TreeListing(theirs + "/immich/upload"))
        // restic before 0.16 knows no link targets that are not UTF-8; what we write holds both forms.
        #expect(differences.filter { !$0.hasPrefix("awkward/links/not-utf8:") } == [])

        let again = try joined.backup()
        #expect(again["files_read"]?.int == 0, "\(again.text())")
        try saidSizeIsTheWalks(joined, again)
    }

    /// A restore of everything is begun with what the snapshot says of its size, one of a snapshot that stock restic
    /// rewrote with what a walk finds.
    private func saidSizeIsTheWalks(_ joined: MainJobTests.Joined, _ run: JSON) throws {
        let installation = joined.installation
        let repository = try Repository.open(
            at: installation.repository("lisbon"),
            password: installation.password("lisbon")
        )
        let id = try #require(run["snapshot"]?.string.flatMap(BlobID.init(hex:)))
        let snapshot = try repository.snapshot(id)
        #expect(snapshot.restoreSize != nil)
        var rewritten = snapshot
        rewritten.restoreSize = nil
        let told = try [snapshot, rewritten].map { snapshot in
            try SnapshotSender(
                repository,
                repository.loadIndex(),
                host: "lisbon",
                id: id.hex,
                snapshot: snapshot,
                include: []
            ).what
        }
        #expect(told[0] == told[1])
        #expect(told[0].files > 5)
    }
}
