import Posix

/// A program that backs a library up from the VM to the NAS. Every method is one measured run.
protocol Tool: AnyObject {
    var name: String { get }
    /// Where all its files lie: what the NAS keeps, and what is restored.
    var folder: String { get }
    /// What is worth knowing beside the figures: version, settings.
    var note: String { get }
    /// Reaches the NAS and opens what is kept there, and does nothing else.
    func open(_ library: Library) throws -> Measurement
    /// Not measured: makes a new, empty place for `library` on the NAS.
    func prepare(_ library: Library) throws
    func backUp(_ library: Library) throws -> Measurement
    /// Restores the newest backup onto the VM. More than one run where that takes several, each with its name.
    func restore(_ library: Library, to folder: String) throws -> [(part: String, cost: Measurement)]
    /// Bytes kept on the NAS for `library`.
    func stored(_ library: Library) -> Int
    /// The lasting processes of the NAS that work for this tool.
    func nasProcesses() -> [Int32]
    func stop()
}

/// What the tools that go through sshd have in common.
class PeerTool {
    let server: SSHServer
    let folder: String
    let log: String
    var environment: [String: String?] { [:] }
    var ssh: String { "ssh -F \(server.clientConfiguration)" }

    /// Moves what an earlier round left out of the way. Nothing is removed before the end: for minutes afterwards ext4
    /// looks through all freed inodes for each new file, and whoever came next took five times as long.
    func setAside(_ path: String) throws {
        guard Files.exists(path) else { return }
        try Files.rename(path, to: "\(path)-\(randomHex(4))")
    }

    init(server: SSHServer, folder: String) throws {
        self.server = server
        self.folder = folder
        try Files.makeDirectories("\(folder)/nas", mode: 0o755)
        log = "\(folder)/log"
    }

    func place(_ library: Library) -> String { "\(folder)/nas/\(library.name)" }
    func stored(_ library: Library) -> Int { bytes(below: place(library)) }
    func nasProcesses() -> [Int32] { [server.pid] }
    func stop() {}

    func onVM(_ arguments: [String]) throws -> Measurement {
        try measure(arguments, on: .vm, ends: Ends(nas: [server.pid]), environment: environment, log: log)
    }
}

final class Rsync: PeerTool, Tool {
    let name = "rsync -a"
    let note = "a plain copy: neither versions, checksums, encryption nor deduplication"

    func open(_ library: Library) throws -> Measurement {
        try onVM(["ssh", "-F", server.clientConfiguration, "nas", "true"])
    }
    func prepare(_ library: Library) throws {
        try setAside(place(library))
        try Files.makeDirectories(place(library))
    }
    func backUp(_ library: Library) throws -> Measurement {
        try onVM(["rsync", "-a", "-e", ssh, "\(library.folder)/", "nas:\(place(library))/"])
    }
    func restore(_ library: Library, to folder: String) throws -> [(part: String, cost: Measurement)] {
        [("", try onVM(["rsync", "-a", "-e", ssh, "nas:\(place(library))/", "\(folder)/"]))]
    }
}

final class Restic: PeerTool, Tool {
    let name = "restic sftp"
    let note: String

    override init(server: SSHServer, folder: String) throws {
        let version = try run(["restic", "version"]).split(separator: " ").dropFirst().first ?? "?"
        note = "restic \(version), defaults: version 2, compression auto"
        try super.init(server: server, folder: folder)
    }
    override var environment: [String: String?] {
        ["RESTIC_PASSWORD": "benchmark", "RESTIC_CACHE_DIR": "\(folder)/cache"]
    }
    private func command(_ library: Library, _ arguments: String...) -> [String] {
        ["restic", "-o", "sftp.command=\(ssh) nas -s sftp", "-r", "sftp:nas:\(place(library))"] + arguments
    }
    func open(_ library: Library) throws -> Measurement { try onVM(command(library, "cat", "config")) }
    func prepare(_ library: Library) throws {
        try setAside(place(library))
        try run(command(library, "init"), environment: environment)
    }
    func backUp(_ library: Library) throws -> Measurement {
        try onVM(command(library, "backup", library.folder))
    }
    func restore(_ library: Library, to folder: String) throws -> [(part: String, cost: Measurement)] {
        [("", try onVM(command(library, "restore", "latest", "--target", folder)))]
    }
}

final class Borg: PeerTool, Tool {
    let name = "borg ssh"
    let note: String

    override init(server: SSHServer, folder: String) throws {
        let version =
            try run(["borg", "--version"]).split(whereSeparator: { " \n".contains($0) }).last ?? "?"
        note = "borg \(version), defaults: lz4; repokey"
        try super.init(server: server, folder: folder)
    }
    override var environment: [String: String?] {
        [
            "BORG_PASSPHRASE": "benchmark", "BORG_RSH": ssh, "BORG_BASE_DIR": "\(folder)/base",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        ]
    }
    private func repository(_ library: Library) -> String { "ssh://nas\(place(library))" }
    private var archives = 0

    func open(_ library: Library) throws -> Measurement { try onVM(["borg", "list", repository(library)]) }
    func prepare(_ library: Library) throws {
        try setAside(place(library))
        // Its cache knows the repository that was here before.
        try? Files.removeTree("\(folder)/base")
        try run(["borg", "init", "--encryption", "repokey", repository(library)], environment: environment)
    }
    func backUp(_ library: Library) throws -> Measurement {
        archives += 1
        return try onVM(["borg", "create", "\(repository(library))::\(archives)", library.folder])
    }
    func restore(_ library: Library, to folder: String) throws -> [(part: String, cost: Measurement)] {
        // borg extracts into the working directory.
        let script = "cd \"$1\" && exec borg extract \"$2\""
        return [("", try onVM(["sh", "-c", script, "sh", folder, "\(repository(library))::\(archives)"]))]
    }
}
