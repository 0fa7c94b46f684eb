import Capture
import Glibc
import Immich
import JSON
import Posix
import Testing
import Wire

@Suite("Finding Immich")
struct DiscoveryTests {
    private func failure(_ host: FakeHost) throws -> String {
        do {
            _ = try ImmichHost.find(host.settings)
            return "found"
        } catch { return error.description }
    }

    @Test func `the containers of Immich's own compose file are found`() throws {
        let host = try FakeHost()
        let found = try ImmichHost.find(host.settings)
        #expect(found.server?.name == "immich_server")
        #expect(found.databaseContainer?.name == "immich_postgres")
        #expect(found.version == ImmichVersion(2, 5, 0))
        #expect(found.facts.postgresMajor == 14)
        #expect(found.places?.location == "/data")
        #expect(found.places?.places.first?.path == "\(host.media)/backups")
    }

    @Test func `a name like immich-postgres is found whatever stands between and around`() throws {
        for name in ["my-IMMICH-db-postgres-1", "immich-postgres", "immich_Postgres_1"] {
            let host = try FakeHost()
            host.containers[1] = host.container(name, image: "example/own")
            host.containers.append(host.container("nextcloud_db", image: "postgres:16"))
            try host.publish()
            #expect(try ImmichHost.find(host.settings).databaseContainer?.name == name)
        }
    }

    @Test(arguments: [
        "postgres:16", "ghcr.io/immich-app/postgres:14-vectorchord0.4.3",
        "tensorchord/pgvecto-rs:pg14-v0.2.0",
    ])
    func `without such a name the image tells`(image: String) throws {
        let host = try FakeHost()
        host.containers[1] = host.container("database", image: image)
        try host.publish()
        #expect(try ImmichHost.find(host.settings).databaseContainer?.name == "database")
    }

    @Test func `several candidates are named, with the setting that chooses`() throws {
        let host = try FakeHost()
        host.containers.append(host.container("immich_postgres_old", image: "postgres:14"))
        try host.publish()
        let said = try failure(host)
        #expect(said.contains("immich_postgres (") && said.contains("immich_postgres_old (postgres:14)"))
        #expect(said.contains("'postgres_container:'"))
        host.settings.postgresContainer = "immich_postgres_old"
        #expect(try ImmichHost.find(host.settings).databaseContainer?.name == "immich_postgres_old")
    }

    @Test func `a container that makes dumps is no candidate, and the server's own project wins`() throws {
        let host = try FakeHost()
        host.containers.append(
            host.container("immich_postgres_backup", image: "prodrigestivill/postgres-backup-local:14")
        )
        try host.publish()
        #expect(try ImmichHost.find(host.settings).databaseContainer?.name == "immich_postgres")
        let labels: [(String, JSON)] = [("com.docker.compose.project", "photos")]
        host.containers = [
            host.container(
                "photos_server",
                image: "ghcr.io/immich-app/immich-server:v2.5.0",
                mounts: [(host.media, "/data")],
                labels: labels
            ), host.container("photos_db", image: "postgres:14", labels: labels),
            host.container("other_db", image: "postgres:14"),
        ]
        try host.publish()
        #expect(try ImmichHost.find(host.settings).databaseContainer?.name == "photos_db")
    }

    @Test func `a configured name that is not there is said, with those that are`() throws {
        let host = try FakeHost()
        host.settings.postgresContainer = "db"
        #expect(try failure(host).contains("no container 'db'"))
        #expect(try failure(host).contains("running are: immich_postgres, immich_server"))
    }

    @Test func `a stopped container is said to be stopped`() throws {
        let host = try FakeHost()
        host.containers[1] = host.container("immich_postgres", image: "postgres:14", state: "exited")
        try host.publish()
        #expect(try failure(host).contains("'immich_postgres' is not running (exited): start it"))
    }

    @Test func `no docker command, no daemon, no permission and rubbish each have words of their own`() throws
    {
        let host = try FakeHost()
        host.settings.docker = "\(host.folder)/bin/nothing"
        #expect(try failure(host).contains("there is no docker command"))
        host.settings.docker = "\(host.folder)/bin/docker"
        try host.script(
            "docker",
            "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2; exit 1"
        )
        #expect(try failure(host).contains("the Docker daemon does not answer"))
        try host.script(
            "docker",
            "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1"
        )
        #expect(try failure(host).contains("no permission to talk to the Docker daemon"))
        try host.script("docker", "case $1 in ps) echo abc ;; *) echo '<html>' ;; esac")
        #expect(try failure(host).contains("not JSON"))
        try host.script("docker", "echo 'something new' >&2; exit 9")
        #expect(try failure(host).contains("exit status 9: something new"))
    }

    @Test func `a database that is not Immich's is refused`() throws {
        let host = try FakeHost()
        try host.script("psql", "printf 'postgres\\t14.19\\n'")
        #expect(
            try failure(host).contains(
                "database 'immich' in container 'immich_postgres' holds no tables of Immich"
            )
        )
    }

    @Test func `what psql says is passed on without the password`() throws {
        let host = try FakeHost()
        try host.script("psql", "echo \"FATAL: password $PGPASSWORD is wrong\" >&2; exit 2")
        let said = try failure(host)
        #expect(said.contains("password *** is wrong (exit status 2)"))
        #expect(!host.log("docker").contains("verysecret"))
        #expect(host.log("docker").contains("-e PGPASSWORD"))
    }

    @Test func `a media location outside every mount is refused`() throws {
        let host = try FakeHost()
        host.containers[0] = host.container(
            "immich_server",
            image: "immich-server",
            mounts: [("/etc", "/config")]
        )
        try host.publish()
        #expect(try failure(host).contains("lies on no mount"))
    }

    @Test func `the old media location and a configured one are followed`() throws {
        let host = try FakeHost()
        try host.script("psql", "printf 'postgres\\t14.19\\ntables\\n'")
        host.containers[0] = host.container(
            "immich_server",
            image: "immich-server",
            mounts: [("/var/lib/docker/volumes/x/_data", "/data"), (host.media, "/usr/src/app/upload")]
        )
        try host.publish()
        #expect(try ImmichHost.find(host.settings).places?.location == "/usr/src/app/upload")
        host.containers[0] = host.container(
            "immich_server",
            image: "immich-server",
            environment: ["IMMICH_MEDIA_LOCATION=/photos/lib/"],
            mounts: [(Files.parent(host.media), "/photos"), (host.media, "/photos/lib")]
        )
        try host.publish()
        let places = try #require(ImmichHost.find(host.settings).places)
        #expect(places.location == "/photos/lib")
        #expect(places.base == host.media)
    }

    @Test func `without Docker the settings say it all`() throws {
        let host = try FakeHost()
        host.settings.docker = "/nonexistent"
        host.settings.uploadLocation = host.media
        host.settings.connection = "mysql://x"
        #expect(try failure(host).contains("does not begin with postgresql://"))
        host.settings.connection = "postgresql://u:p%zz@h/d"
        #expect(try failure(host).contains("a bad password"))
    }

    @Test func `compose file, environment file and settings file come along, unchanged`() throws {
        let host = try FakeHost()
        for (name, text) in [
            ("compose.yml", "name: immich"), (".env", "DB_PASSWORD=verysecret"), ("conf.json", "{}"),
        ] {
            try Files.writeAtomically(Array(text.utf8), to: "\(host.folder)/\(name)")
        }
        host.containers[0] = host.container(
            "immich_server",
            image: "immich-server",
            environment: ["IMMICH_CONFIG_FILE=/config/conf.json"],
            mounts: [(host.media, "/data"), (host.folder, "/config")],
            labels: [
                ("com.docker.compose.project", "immich"),
                ("com.docker.compose.project.working_dir", .string(host.folder)),
                ("com.docker.compose.project.config_files", .string("\(host.folder)/compose.yml,gone.yml")),
            ]
        )
        try host.publish()
        let (outcome, coordinator) = try host.capture { coordinator in
            coordinator.want = { path, _ in path.hasPrefix("deployment/") ? 0 : nil }
        }
        #expect(outcome.isCommitted, "\(outcome)")
        #expect(coordinator.files["deployment/compose.yml"]?.bytes == Array("name: immich".utf8))
        #expect(coordinator.files["deployment/.env"]?.bytes == Array("DB_PASSWORD=verysecret".utf8))
        #expect(coordinator.files["deployment/conf.json"]?.bytes == Array("{}".utf8))
        let facts = try JSON(parsing: coordinator.files["deployment/facts.json"]?.bytes ?? [])
        #expect(facts["compose"]?["files"]?.array?.count == 4)
        #expect(facts["compose"]?["files"]?[1]?["missing"]?.string?.contains("No such file") == true)
    }
}
