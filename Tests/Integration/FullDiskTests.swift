import Glibc
import JSON
import Posix
import TestSupport
import Testing

@Suite("A full disk", .serialized)
struct FullDiskTests {
    @Test(.enabled(if: geteuid() == 0, "mounting a small file system needs root"))
    func `it ends the backup with a word, and the next goes on once there is space`() throws {
        let sample = try SampleHost(photos: 120, photoSize: 500_000)
        var disk = ""
        defer { _ = try? Outcome.of(["umount", "-l", disk]) }
        let joined = try MainJobTests.Joined(sample) { folder in
            disk = folder + "/repositories"
            try Files.makeDirectories(disk)
            let mounted = try Outcome.of(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk])
            guard mounted.status == 0 else { throw Unexpected(mounted) }
        }
        let full = try joined.installation.coordinator("backup", "lisbon")
        #expect(full.status == 1 && full.error.contains("No space left"), "\(full)")
        #expect(full.error.contains("free some space"), "\(full)")

        _ = try Outcome.of(["mount", "-o", "remount,size=300m", disk])
        let run = try joined.backup()
        #expect(run["state"]?.string == "done", "\(run.text())")
        #expect(try joined.restic("check", "--read-data").status == 0)
        let leftovers = try Outcome.of(["find", disk, "-name", "*tmp*"])
        #expect(leftovers.output == "")
    }
}
