import Capture
import Configuration
import Glibc
import Posix
import SSH
import Wire

/// `agent.yaml`: where the fleet's coordinators are and what each shows for a key, and what could not be found out about
/// Immich. `agent.key` beside it is this machine's private key.
struct AgentFile {
    /// One place of a coordinator: `nas.lan:2222 SHA256:…`.
    struct Coordinator: Equatable, CustomStringConvertible {
        let address: Endpoint
        let hostKey: Fingerprint

        var description: String { "\(address) \(hostKey.text)" }
    }

    /// At least one, in the order in which they are tried.
    var coordinators: [Coordinator]
    /// The host's name at the coordinator, for messages.
    var host: String
    var settings: Settings
    /// Nil when nobody is to be told that no coordinator is reached.
    var silence: SilenceSettings?

    static func path(_ folder: String) -> String { "\(folder)/agent.yaml" }
    static func keyPath(_ folder: String) -> String { "\(folder)/agent.key" }

    /// Reads the whole file.
    static func load(_ folder: String) throws -> AgentFile {
        let path = path(folder)
        guard Files.exists(path) else {
            throw ConfigurationError(
                file: path,
                line: nil,
                "is missing: this machine has not joined a coordinator yet; run `holdfast-coordinator host add NAME` there "
                    + "and paste the line it prints here"
            )
        }
        return try MappingReader.read(try YAMLNode.read(path), file: path) {
            (reader) throws(ConfigurationError) in
            let coordinators = try coordinators(reader)
            let host = try reader.string("host") ?? ""
            return AgentFile(
                coordinators: coordinators,
                host: host,
                settings: try settings(reader),
                silence: try SilenceSettings.read(reader)
            )
        }
    }

    private static func coordinators(_ reader: MappingReader) throws(ConfigurationError) -> [Coordinator] {
        // What an agent wrote that knew one.
        let address = try reader.value("coordinator", expected: "an address like nas.lan:2222") {
            Endpoint($0)
        }
        let key = try reader.value("host_key", expected: "a fingerprint like SHA256:…") {
            Fingerprint(text: $0)
        }
        let lines = try reader.strings("coordinators")
        guard lines.isEmpty else {
            guard address == nil, key == nil else {
                throw reader.error(
                    "coordinators",
                    "stands beside `coordinator` or `host_key`: put all into the list"
                )
            }
            return try lines.map { (line) throws(ConfigurationError) in
                if let coordinator = coordinator(line) { return coordinator }
                throw reader.error(
                    "coordinators",
                    "must be texts like `nas.lan:2222 SHA256:…`, not `\(line)`"
                )
            }
        }
        return [
            Coordinator(
                address: try reader.required("coordinator", address),
                hostKey: try reader.required("host_key", key)
            )
        ]
    }

    private static func coordinator(_ line: String) -> Coordinator? {
        let words = line.split(separator: " ")
        guard words.count == 2, let address = Endpoint(String(words[0])),
            let key = Fingerprint(text: String(words[1]))
        else { return nil }
        return Coordinator(address: address, hostKey: key)
    }

    /// What the file says about Immich, also before this machine has joined; without a file nothing.
    static func loadSettings(_ folder: String) throws -> Settings {
        let path = path(folder)
        guard Files.exists(path) else { return Settings() }
        return try MappingReader.read(try YAMLNode.read(path), file: path) {
            (reader) throws(ConfigurationError) in
            for key in identity { _ = try reader.strings(key) }
            _ = try SilenceSettings.read(reader)
            return try settings(reader)
        }
    }

    private static let identity = ["coordinators", "coordinator", "host_key", "host"]

    private static func settings(_ reader: MappingReader) throws(ConfigurationError) -> Settings {
        var settings = Settings()
        settings.docker = try reader.string("docker") ?? settings.docker
        settings.postgresContainer = try reader.string("postgres_container")
        settings.serverContainer = try reader.string("server_container")
        settings.database = try reader.string("database")
        settings.connection = try reader.value(
            "postgres",
            expected: "postgresql://USER:PASSWORD@HOST/DATABASE"
        ) {
            $0.hasPrefix("postgresql://") || $0.hasPrefix("postgres://") ? $0 : nil
        }
        settings.uploadLocation = try reader.value("upload_location", expected: "an absolute path") {
            $0.hasPrefix("/") ? $0 : nil
        }
        return settings
    }

    /// Writes down the coordinators that one of them told of, when they are not those that the file has. The one that
    /// told stays whatever it says of itself, and so do further addresses that a person gave a coordinator of the fleet.
    ///
    /// - Parameter teller: The one that told.
    static func learn(_ places: [CoordinatorPlace], from teller: Coordinator, folder: String) throws {
        let told = places.compactMap { coordinator("\($0.address) \($0.hostKey)") }
        guard !told.isEmpty else { return }
        let file = try load(folder)
        let known = file.coordinators.filter { old in
            old == teller || told.contains { $0.hostKey == old.hostKey }
        }
        let all = Array((known + told.filter { !known.contains($0) }).prefix(2 * WireLimit.coordinators))
        guard all != file.coordinators else { return }
        try save(all, host: file.host, folder: folder)
        Log.write(
            .notice,
            "the coordinators are now \(all.map { "\($0.address)" }.joined(separator: ", "))"
        )
    }

    /// Writes who the coordinators are; what a person wrote about Immich stays as it is.
    static func save(_ coordinators: [Coordinator], host: String, folder: String) throws {
        let path = path(folder)
        var kept = ""
        if Files.exists(path) {
            var isDropped = false
            for line in String(decoding: try Files.read(path), as: UTF8.self).split(
                separator: "\n",
                omittingEmptySubsequences: false
            ) {
                // What belongs to a dropped key is indented, or an item of its list.
                isDropped =
                    isDropped && (line.hasPrefix(" ") || line.hasPrefix("- "))
                    || identity.contains { line.hasPrefix("\($0):") }
                if !isDropped { kept += line + "\n" }
            }
            while kept.hasSuffix("\n\n") { kept.removeLast() }
        } else {
            kept = """

                # Immich is looked for through Docker. Where that does not find it, say here:
                #postgres_container: immich_postgres
                #server_container: immich_server
                #database: immich
                # Where Immich runs without Docker:
                #postgres: postgresql://USER:PASSWORD@localhost/immich
                #upload_location: /srv/immich

                """
        }
        let list = coordinators.map { "\"\($0)\"" }.joined(separator: ", ")
        let text = "coordinators: [\(list)]\nhost: \"\(host)\"\n"
        try Files.writeAtomically(Array((text + kept).utf8), to: path, mode: 0o600)
    }
}
