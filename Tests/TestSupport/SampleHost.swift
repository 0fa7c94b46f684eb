import Glibc
import Posix

/// An Immich server as a backup sees it, on a private Docker Engine: the container immich_postgres with a real
/// PostgreSQL that holds Immich's tables, the container immich_server (nothing runs in it) with the media
/// folder mounted at /data, and the folder with the compose file. About 4 s to start.
///
/// `Tests/Fixtures/sample-host/sample-host` is what makes it, for people too.
package final class SampleHost: Sendable {
    /// Everything lies in here.
    package let folder: String
    /// The value for `DOCKER_HOST`.
    package let dockerHost: String
    /// UPLOAD_LOCATION: the folder that is /data in the server container.
    package let uploadLocation: String
    /// The folder with docker-compose.yml and .env.
    package let project: String
    package let postgresContainer = "immich_postgres"
    package let serverContainer = "immich_server"

    /// - Parameters:
    ///   - photos: How many photos there are, each about `photoSize` bytes, incompressible and distinct.
    ///   - places: Rows of place names: 2,000 make a dump of about 0.4 MB.
    ///   - mounts: Bind mounts of the server container beside /data, as `HOST-FOLDER:/data/thumbs`.
    ///   - seed: The same seed gives the same photos.
    package init(
        photos: Int = 24,
        photoSize: Int = 200_000,
        places: Int = 2_000,
        version: String = "v3.1.0",
        mounts: [String] = [],
        seed: UInt64 = 1
    ) throws {
        let folder = "/tmp/holdfast-sample-\(randomHex(4))"
        self.folder = folder
        self.photoSize = photoSize
        try Self.makePhotos(photos, size: photoSize, seed: seed, in: "\(folder)/photos")
        var arguments = ["up", folder, "--photos", "\(folder)/photos", "--places", "\(places)"]
        arguments += ["--version", version, "--while", "\(getpid())"]
        for mount in mounts { arguments += ["--mount", mount] }
        let facts = try Self.script(arguments)
        var values: [Substring: String] = [:]
        for line in facts.split(separator: "\n") {
            guard let equals = line.firstIndex(of: "=") else { continue }
            values[line[..<equals]] = String(line[line.index(after: equals)...])
        }
        guard let dockerHost = values["docker_host"], let upload = values["upload_location"],
            let project = values["project"]
        else { throw ProgramFailed(description: "the sample host did not say where it is: \(facts)") }
        self.dockerHost = dockerHost
        self.uploadLocation = upload
        self.project = project
    }
    deinit { stop() }

    private let photoSize: Int

    /// Every table of the database with its number of rows, in byte order of their names.
    package func rowCounts() throws -> [(table: String, rows: Int)] {
        try Self.script(["counts", folder]).split(separator: "\n").compactMap { line in
            let fields = line.split(separator: "\t")
            guard fields.count == 2, let rows = Int(fields[1]) else { return nil }
            return (String(fields[0]), rows)
        }
    }

    /// Runs SQL in the database; rows come as lines with `|` between the columns.
    @discardableResult
    package func sql(_ statements: String) throws -> String {
        try Self.script(["sql", folder, "-At"], input: Array(statements.utf8))
    }

    /// Adds photos as uploads would: files first, then rows.
    package func addPhotos(_ count: Int, seed: UInt64) throws {
        let source = "\(folder)/photos-\(seed)"
        try Self.makePhotos(count, size: photoSize, seed: seed, in: source)
        _ = try Self.script(["add", folder, source])
    }

    /// Runs the docker command on this host's engine and returns what it prints; throws when it fails.
    @discardableResult
    package func docker(_ arguments: String...) throws -> String {
        try output(of: ["docker"] + arguments, environment: ["DOCKER_HOST": dockerHost])
    }

    /// Removes everything; nothing happens a second time.
    package func stop() {
        if Files.exists(folder) { _ = try? Self.script(["remove", folder]) }
    }

    private static func script(_ arguments: [String], input: [UInt8] = []) throws -> String {
        try output(of: ["\(sampleHostScripts)/sample-host"] + arguments, input: input)
    }

    /// Files that look like JPEGs from outside: the marker, then bytes that nothing compresses.
    private static func makePhotos(_ count: Int, size: Int, seed: UInt64, in folder: String) throws {
        try Files.makeDirectories(folder)
        for index in 0..<count {
            var random = SplitMix(seed &* 1_000_003 &+ UInt64(index))
            let length = max(64, size / 2 + random.below(size))
            var bytes: [UInt8] = [0xFF, 0xD8, 0xFF, 0xE0]
            bytes += random.bytes(length - 4)
            let digits = String(index)
            let name = "PXL_\(seed)_" + String(repeating: "0", count: max(0, 5 - digits.count)) + digits
            let file = try FileDescriptor(open: "\(folder)/\(name).jpg", O_WRONLY | O_CREAT | O_TRUNC)
            try file.writeAll(bytes)
            try file.close()
        }
    }
}
