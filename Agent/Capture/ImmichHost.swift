package import Immich
import Posix
package import Wire

/// Immich on this machine, found: its database, its folders, its versions.
package struct ImmichHost: Sendable {
    package let database: Database
    package let facts: Database.Facts
    package let server: Container?
    package let databaseContainer: Container?
    /// Nil where the database alone is wanted.
    package let places: MediaPlaces?
    /// From the database, else from the server's image; nil when neither names a release.
    package let version: ImmichVersion?

    /// Finds everything that a capture of this kind needs and checks that the folders are there; stops at the first
    /// thing that is not as it must be. For the database alone no folder is looked at: a disk that hangs must not keep
    /// the dump away.
    package static func find(_ settings: Settings, _ kind: CaptureKind = .full) throws(CaptureFailure)
        -> ImmichHost
    {
        let docker = Docker(settings.docker)
        let needsDocker = kind == .full ? settings.needsDocker : settings.connection == nil
        var containers: [Container] = []
        if needsDocker {
            containers = try docker.containers()
        } else if settings.needsDocker {
            containers = (try? docker.containers()) ?? []
        }
        // With its folders named or not needed, the server's container is welcome but not needed.
        let server: Container?
        if kind == .full && settings.uploadLocation == nil {
            server = try Containers.server(containers, settings: settings)
        } else {
            server = try? Containers.server(containers, settings: settings)
        }
        let (database, container) = try database(settings, docker, containers, server)
        let facts = try database.facts()
        let places = kind == .full ? try places(settings, server, facts) : nil
        try places?.check()
        return ImmichHost(
            database: database,
            facts: facts,
            server: server,
            databaseContainer: container,
            places: places,
            version: version(facts, server)
        )
    }

    package static func database(
        _ settings: Settings,
        _ docker: Docker,
        _ containers: [Container],
        _ server: Container?
    ) throws(CaptureFailure) -> (Database, Container?) {
        if let connection = settings.connection { return (try Database(connection: connection), nil) }
        let container = try Containers.postgres(containers, settings: settings, server: server)
        return (Database(in: container, docker: docker, server: server, settings: settings), container)
    }

    package static func places(
        _ settings: Settings,
        _ server: Container?,
        _ facts: Database.Facts?
    ) throws(CaptureFailure) -> MediaPlaces {
        if let path = settings.uploadLocation { return MediaPlaces(uploadLocation: path) }
        guard let server else {
            throw CaptureFailure(
                .folders,
                "Immich's folders are unknown: set 'upload_location:' in agent.yaml to the folder that holds upload, "
                    + "library, profile, thumbs, encoded-video and backups"
            )
        }
        return try MediaPlaces(server: server, known: facts?.mediaLocation)
    }

    package static func version(_ facts: Database.Facts?, _ server: Container?) -> ImmichVersion? {
        if let found = facts?.immich.flatMap({ ImmichVersion($0) }) { return found }
        guard let server else { return nil }
        let tag = server.image.split(separator: "@").first?.split(separator: "/").last?.split(separator: ":")
        let named = [
            server.labels["org.opencontainers.image.version"], server.environment["IMMICH_SOURCE_REF"],
            tag.flatMap { $0.count == 2 ? String($0[1]) : nil },
        ]
        return named.lazy.compactMap { $0.flatMap { ImmichVersion($0) } }.first
    }
}
