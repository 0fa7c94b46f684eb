import Glibc
import JSON
import Posix
import Repository
import TestSupport
import Testing

@Suite("check, by the command", .serialized)
struct CheckCommandTests {
    private func flip(_ path: String) throws {
        chmod(path, 0o600)
        var bytes = try Files.read(path)
        bytes[bytes.count / 2] ^= 4
        try FileDescriptor(open: path, O_WRONLY | O_TRUNC).writeAll(bytes)
    }

    private func messages(_ outcome: Outcome) -> String {
        (outcome.json?["findings"]?.array ?? []).compactMap { $0["message"]?.string }.joined(separator: "\n")
    }

    @Test
    func
        `damage of every kind of file ends with 25 and the file's name, and what is gone is told by the catalogue`()
        throws
    {
        let joined = try MainJobTests.Joined(SampleHost())
        let installation = joined.installation
        let first = try #require(try joined.backup()["snapshot"]?.string)
        let repository = installation.repository("lisbon")
        let kept = installation.folder + "/kept"
        #expect(try ChildProcess.run(["cp", "-a", repository, kept]).end == .exit(0))
        try joined.sample.addPhotos(2, seed: 900)
        let second = try #require(try joined.backup()["snapshot"]?.string)
        let sound = try installation.coordinator("check", "lisbon", "--read-data", "--json")
        #expect(sound.status == 0, "\(sound)")

        let opened = try Repository.open(at: repository, password: installation.password("lisbon"))
        let pack = try #require(try opened.listPacks().first)
        var files = ["data/\(pack.hex.prefix(2))/\(pack)", "holdfast/host", "holdfast/epoch", "config"]
        for folder in ["index", "keys", "snapshots"] {
            let name = try #require(try Directory.names("\(repository)/\(folder)").first)
            files.append("\(folder)/\(String(decoding: name, as: UTF8.self))")
        }
        for file in files {
            let whole = try Files.read("\(repository)/\(file)")
            try flip("\(repository)/\(file)")
            let outcome = try installation.coordinator("check", "lisbon", "--read-data", "--json")
            #expect(outcome.status == 25, "\(file): \(outcome)")
            let named = outcome.json?["findings"]?.array?.contains { $0["file"]?.string == file } ?? false
            #expect(named || outcome.error.contains(file), "\(file): \(outcome)")
            try FileDescriptor(open: "\(repository)/\(file)", O_WRONLY | O_TRUNC).writeAll(whole)
        }

        // A snapshot whose file is gone is nothing that a repository can know.
        try Files.rename("\(repository)/snapshots/\(first)", to: installation.folder + "/away")
        let missing = try installation.coordinator("check", "lisbon", "--json")
        #expect(missing.status == 25 && messages(missing).contains("snapshot \(first)"), "\(missing)")
        try Files.rename(installation.folder + "/away", to: "\(repository)/snapshots/\(first)")

        // Nor a repository that is yesterday's, whole as it is.
        try Files.rename(repository, to: installation.folder + "/newer")
        try Files.rename(kept, to: repository)
        #expect(try joined.restic("check", "--read-data").status == 0)
        let older = try installation.coordinator("check", "lisbon", "--read-data", "--json")
        #expect(older.status == 25 && messages(older).contains("snapshot \(second)"), "\(older)")
        #expect(messages(older).contains("older copy"), "\(older)")
        try Files.removeTree(repository)
        try Files.rename(installation.folder + "/newer", to: repository)

        // Without the key of the recovery passphrase the worst day has no way in.
        for name in try Directory.names("\(repository)/keys") {
            let file = "\(repository)/keys/\(String(decoding: name, as: UTF8.self))"
            let key = try KeyFile(parsing: Files.read(file))
            if key.cost == .costly { try Files.rename(file, to: installation.folder + "/key") }
        }
        let keyless = try installation.coordinator("check", "lisbon", "--json")
        #expect(keyless.status == 25 && messages(keyless).contains("recovery passphrase"), "\(keyless)")
    }
}
