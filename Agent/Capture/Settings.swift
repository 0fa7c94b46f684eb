/// What the agent's file says about Immich; everything that is nil is found out.
package struct Settings: Equatable, Sendable {
    /// The docker command, looked up in PATH when it holds no `/`.
    package var docker = "docker"
    /// Name of the container that runs PostgreSQL.
    package var postgresContainer: String?
    /// Name of the container that runs Immich's server.
    package var serverContainer: String?
    /// Name of Immich's database.
    package var database: String?
    /// `postgresql://…`: dump with the local PostgreSQL programs. Holds a password.
    package var connection: String?
    /// Path on this machine of Immich's media location.
    package var uploadLocation: String?

    package init() {}

    /// Whether anything has to be asked of Docker.
    package var needsDocker: Bool { connection == nil || uploadLocation == nil }
}
