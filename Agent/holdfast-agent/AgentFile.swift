import Capture
import Configuration
import Glibc
import Posix
import SSH

/// `agent.yaml`: where the coordinator is and what it shows for a key, and what could not be found out about Immich.
/// `agent.key` beside it is this machine's private key.
struct AgentFile {
    var coordinator: Endpoint
    var hostKey: Fingerprint
    /// The host's name at the coordinator, for messages.
    var host: String
    var settings: Settings

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
            let address = try reader.required(
                "coordinator",
                try reader.value("coordinator", expected: "an address like nas.lan:2222", Endpoint.init)
            )
            let key = try reader.required(
                "host_key",
                try reader.value(
                    "host_key",
                    expected: "a fingerprint like SHA256:…",
                    { Fingerprint(text: $0) }
                )
            )
            let host = try reader.string("host") ?? ""
            return AgentFile(coordinator: address, hostKey: key, host: host, settings: try settings(reader))
        }
    }

    /// What the file says about Immich, also before this machine has joined; without a file nothing.
    static func loadSettings(_ folder: String) throws -> Settings {
        let path = path(folder)
        guard Files.exists(path) else { return Settings() }
        return try MappingReader.read(try YAMLNode.read(path), file: path) {
            (reader) throws(ConfigurationError) in
            for key in identity { _ = try reader.string(key) }
            return try settings(reader)
        }
    }

    private static let identity = ["coordinator", "host_key", "host"]

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

    /// Writes who the coordinator is; what a person wrote about Immich stays as it is.
    static func save(_ coordinator: Endpoint, _ hostKey: Fingerprint, host: String, folder: String) throws {
        let path = path(folder)
        var kept = ""
        if Files.exists(path) {
            for line in String(decoding: try Files.read(path), as: UTF8.self).split(
                separator: "\n",
                omittingEmptySubsequences: false
            ) where !identity.contains(where: { line.hasPrefix("\($0):") }) {
                kept += line + "\n"
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
        let text = "coordinator: \"\(coordinator)\"\nhost_key: \"\(hostKey.text)\"\nhost: \"\(host)\"\n"
        try Files.writeAtomically(Array((text + kept).utf8), to: path, mode: 0o600)
    }
}
