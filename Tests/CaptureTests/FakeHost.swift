import Capture
import Glibc
import Immich
import JSON
import Posix
import Wire

/// A folder with an Immich's media location and a `docker` that is a script: `exec` runs on this machine, with
/// programs of the test's own in the place of PostgreSQL's.
final class FakeHost: @unchecked Sendable {
    // Set up by a test before it starts anything on another thread.
    let folder: String
    var media: String { "\(folder)/media" }
    var settings = Settings()
    /// What `docker inspect` tells.
    var containers: [JSON] = []

    init() throws {
        folder = "/tmp/holdfast-capture-\(randomHex(4))"
        try Files.makeDirectories("\(folder)/bin", mode: 0o755)
        chmod(folder, 0o755)
        settings.docker = "\(folder)/bin/docker"
        for name in ImmichFolder.allCases {
            try Files.makeDirectories("\(folder)/media/\(name.rawValue)", mode: 0o755)
            try write("1700000000000", "\(name.rawValue)/.immich")
        }
        containers = [
            container(
                "immich_server",
                image: "ghcr.io/immich-app/immich-server:v2.5.0",
                mounts: [(media, "/data")]
            ),
            container(
                "immich_postgres",
                image: "ghcr.io/immich-app/postgres:14-vectorchord0.4.3-pgvectors0.2.0",
                environment: ["POSTGRES_USER=postgres", "POSTGRES_PASSWORD=verysecret", "POSTGRES_DB=immich"]
            ),
        ]
        try script(
            "docker",
            """
            echo "$@" >>'\(folder)/docker.log'
            case "$1" in
            ps) cat '\(folder)/ids' ;;
            inspect) cat '\(folder)/inspect' ;;
            exec)
                while [ "$1" != sh ]; do shift; done
                export PATH="\(folder)/bin:$PATH"
                exec "$@"
                ;;
            esac
            """
        )
        try psql()
        try dump(Self.wholeDump)
        try publish()
    }
    deinit {
        _ = try? ChildProcess.run(["chattr", "-R", "-i", folder])
        try? Files.removeTree(folder)
    }

    static let wholeDump =
        "--\n-- PostgreSQL database dump\n--\n\n"
        + String(repeating: "SELECT 'row of a table';\n", count: 200)
        + "--\n-- PostgreSQL database dump complete\n--\n\n"

    func container(
        _ name: String,
        image: String,
        state: String = "running",
        environment: [String] = [],
        mounts: [(String, String)] = [],
        labels: [(String, JSON)] = []
    ) -> JSON {
        [
            "Id": .string("id-\(name)"), "Name": .string("/\(name)"), "Image": "sha256:0",
            "Created": "2026-01-02T03:04:05Z", "State": ["Status": .string(state)],
            "Config": [
                "Image": .string(image), "Env": JSON(environment), "Labels": JSON(labels),
            ],
            "Mounts": .array(
                mounts.map { ["Type": "bind", "Source": .string($0.0), "Destination": .string($0.1)] }
            ),
        ]
    }

    /// Makes `docker` tell of `containers`.
    func publish() throws {
        let ids = containers.compactMap { $0["Id"]?.string }.joined(separator: "\n")
        try Files.writeAtomically(Array(ids.utf8), to: "\(folder)/ids")
        try Files.writeAtomically(JSON.array(containers).encoded(), to: "\(folder)/inspect")
    }

    func script(_ name: String, _ body: String) throws {
        try Files.writeAtomically(
            Array("#!/bin/sh\n\(body)\n".utf8),
            to: "\(folder)/bin/\(name)",
            mode: 0o755
        )
    }

    func psql(immich: String = "2.5.0") throws {
        try script(
            "psql",
            """
            cat >>'\(folder)/psql.log'
            printf 'postgres\\t14.19 (Debian 14.19-1)\\ntables\\nbytes\\t1000\\nextension\\tvector\\t0.8.0\\n'
            printf 'immich\\t\(immich)\\nmedia\\t/data\\n'
            """
        )
    }

    /// Makes the dump programs print `text` and end with `status`.
    func dump(_ text: String, then commands: String = "exit 0") throws {
        try Files.writeAtomically(Array(text.utf8), to: "\(folder)/dump")
        let body = "echo \"$0 $* $PGAPPNAME\" >>'\(folder)/dump.log'\ncat '\(folder)/dump'\n\(commands)"
        try script("pg_dump", body)
        try script("pg_dumpall", body)
    }

    func write(_ text: String, _ path: String) throws {
        let whole = "\(media)/\(path)"
        try Files.makeDirectories(Files.parent(whole), mode: 0o755)
        let file = try FileDescriptor(open: whole, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
        try file.writeAll(Array(text.utf8))
    }

    func log(_ name: String) -> String {
        String(decoding: (try? Files.read("\(folder)/\(name).log")) ?? [], as: UTF8.self)
    }

    /// Runs one capture against `coordinator`'s settings.
    func capture(
        stop: StopFlag = StopFlag(),
        _ prepare: (FakeCoordinator) -> Void = { _ in }
    ) throws -> (outcome: Conversation.Outcome, coordinator: FakeCoordinator) {
        let (ours, theirs) = SocketChannel.pair()
        let coordinator = FakeCoordinator(theirs)
        prepare(coordinator)
        let thread = try Posix.Thread("coordinator") {
            defer { theirs.cut() }
            try coordinator.run()
        }
        let conversation = Conversation(FrameStream(ours), settings: settings, stop: stop)
        let outcome = Result { try conversation.next(request: .full) }
        ours.cut()
        try thread.join()
        return (try outcome.get(), coordinator)
    }
}

extension Conversation.Outcome {
    var failure: String? {
        if case .failed(let failure) = self { return failure.description }
        return nil
    }
    var isCommitted: Bool {
        if case .committed = self { return true }
        return false
    }
    var progress: Progress? {
        if case .committed(_, let progress) = self { return progress }
        return nil
    }
}
