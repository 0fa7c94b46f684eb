import Glibc
import Immich
import JSON
import Posix
import Wire

/// The snapshot's root: `deployment/`, with what it takes to set this Immich up again, and `immich/`, its six folders,
/// or where only the database is wanted `backups/` alone, in which the coordinator puts the dump.
enum Deployment {
    private static let limit = 512 << 10

    /// - Parameter everything: The scope.
    static func root(of host: ImmichHost, everything: Bool) -> FolderNode {
        let (files, newest) = deploymentFiles(host)
        var deployment = Entry(kind: .directory, name: Array("deployment".utf8))
        deployment.permissions = 0o700
        deployment.mtime = newest
        deployment.ctime = newest
        var immich = Entry(kind: .directory, name: Array("immich".utf8))
        immich.permissions = 0o755
        immich.mtime = newest
        immich.ctime = newest
        if let base = host.places?.base, let status = try? FileStatus(path: base) {
            immich = Entry(name: immich.name, status) ?? immich
        }
        // A folder knows the one above it, for messages, and what is put together knows what is in it: so these two
        // stand in for the finished ones.
        let above = FolderNode(parent: nil, name: [], content: .made([]))
        let aboveTops = FolderNode(parent: above, name: immich.name, content: .made([]))
        let tops =
            host.places?.places.map { topFolder($0, below: aboveTops, everything: everything) }
            ?? [emptyFolder(.backups, below: aboveTops, time: newest)]
        return FolderNode(
            parent: nil,
            name: [],
            content: .made([
                .folder(deployment, FolderNode(parent: above, name: deployment.name, content: .made(files))),
                .folder(immich, FolderNode(parent: above, name: immich.name, content: .made(tops))),
            ])
        )
    }

    private static func emptyFolder(_ folder: ImmichFolder, below above: FolderNode, time: Int64) -> MadeEntry
    {
        var entry = Entry(kind: .directory, name: Array(folder.rawValue.utf8))
        entry.permissions = 0o755
        entry.mtime = time
        entry.ctime = time
        return .folder(entry, FolderNode(parent: above, name: entry.name, content: .made([])))
    }

    private static func topFolder(
        _ place: MediaPlaces.Place,
        below above: FolderNode,
        everything: Bool
    ) -> MadeEntry {
        let name = Array(place.folder.rawValue.utf8)
        var entry = Entry(kind: .directory, name: name)
        entry.permissions = 0o755
        if let folder = try? FileDescriptor(open: place.path, O_RDONLY | O_DIRECTORY),
            let status = try? folder.status()
        {
            entry = Entry(name: name, status) ?? entry
            let attributes = (try? Files.attributes(at: folder.raw, [])) ?? []
            entry.attributes = attributes.map { Entry.Attribute(name: $0.name, value: $0.value) }
        }
        let node = FolderNode(
            parent: above,
            name: name,
            content: .onDisk(place.folder.selection(everything: everything), top: true),
            path: place.path,
            overlays: place.overlays
        )
        return .folder(entry, node)
    }

    // MARK: Files of the deployment

    /// Compose files, environment file, Immich's settings file and `facts.json`, by name, and the newest of their times.
    private static func deploymentFiles(_ host: ImmichHost) -> ([MadeEntry], newest: Int64) {
        var made: [MadeEntry] = []
        var listed: [JSON] = []
        var newest: Int64 = 0
        for container in [host.server, host.databaseContainer] {
            newest = max(newest, (container?.created).flatMap { Time.parseRFC3339($0) } ?? 0)
        }
        var taken: Set<String> = ["facts.json"]
        for path in paths(host) {
            var name = String(path.split(separator: "/").last ?? "file")
            var number = 1
            while taken.contains(name) {
                number += 1
                name = "\(number)-\(path.split(separator: "/").last ?? "file")"
            }
            do {
                let status = try FileStatus(path: path)
                let bytes = try Files.read(path, limit: limit)
                guard var entry = Entry(name: Array(name.utf8), status), entry.kind == .file else { continue }
                entry.size = UInt64(bytes.count)
                entry.links = 1
                entry.device = 0
                taken.insert(name)
                newest = max(newest, status.mtime)
                made.append(.file(entry, bytes: bytes))
                listed.append(["name": .string(name), "path": .string(path)])
            } catch {
                // A compose file may lie where only another machine or container sees it.
                listed.append(["path": .string(path), "missing": .string(clean("\(error)"))])
            }
        }
        let facts = facts(host, files: listed).encoded(pretty: true)
        var entry = Entry(kind: .file, name: Array("facts.json".utf8))
        entry.permissions = 0o600
        entry.size = UInt64(facts.count)
        // Without a change these are the same in every capture, so that it is not asked for again; what is in it
        // stands for the inode, so that a change of any kind is seen.
        entry.mtime = newest
        entry.ctime = newest
        entry.inode = fingerprint(facts)
        made.append(.file(entry, bytes: facts))
        made.sort { $0.entry.name.lexicographicallyPrecedes($1.entry.name) }
        return (made, newest)
    }

    private static func paths(_ host: ImmichHost) -> [String] {
        var result: [String] = []
        func add(_ path: String, in folder: String?) {
            let whole = path.hasPrefix("/") ? path : folder.map { "\($0)/\(path)" }
            if let whole, !result.contains(whole) { result.append(whole) }
        }
        for container in [host.server, host.databaseContainer] {
            guard let labels = container?.labels else { continue }
            let folder = labels["com.docker.compose.project.working_dir"]
            for path in list(labels["com.docker.compose.project.config_files"]) { add(path, in: folder) }
            let environment = list(labels["com.docker.compose.project.environment_file"])
            for path in environment { add(path, in: folder) }
            if environment.isEmpty, let folder, Files.exists("\(folder)/.env") { add(".env", in: folder) }
        }
        // With such a file Immich's settings are not in the database.
        if let server = host.server, let inside = server.environment["IMMICH_CONFIG_FILE"],
            let path = hostPath(inside, server.mounts)
        {
            add(path, in: nil)
        }
        return result
    }

    private static func list(_ label: String?) -> [String] {
        (label ?? "").split(separator: ",").map(String.init).filter { !$0.isEmpty }
    }

    /// What a person or a restore needs to know; no passwords, and nothing that changes by itself.
    private static func facts(_ host: ImmichHost, files: [JSON]) -> JSON {
        func container(_ container: Container?) -> JSON {
            guard let container else { return .null }
            return [
                "name": .string(container.name), "image": .string(container.image),
                "imageId": .string(container.imageID), "created": .string(container.created),
                "mounts": .array(
                    container.mounts.sorted { $0.destination < $1.destination }.map {
                        [
                            "type": .string($0.type), "source": .string($0.source),
                            "destination": .string($0.destination),
                        ]
                    }
                ),
            ]
        }
        let extensions = host.facts.extensions.sorted { $0.key < $1.key }.map {
            ($0.key, JSON.string($0.value))
        }
        return [
            "format": 1,
            "host": .string(Host.name),
            "immich": [
                "version": (host.facts.immich ?? host.version.map { "\($0)" }).map { .string($0) } ?? .null,
                "mediaLocation": (host.places?.location ?? host.facts.mediaLocation).map { .string($0) }
                    ?? .null,
                "container": container(host.server),
            ],
            "postgres": [
                "version": .string(host.facts.postgres), "database": .string(host.database.name),
                "user": .string(host.database.user), "extensions": JSON(extensions),
                "container": container(host.databaseContainer),
            ],
            "folders": JSON((host.places?.places ?? []).map { ($0.folder.rawValue, .string($0.path)) }),
            "compose": [
                "project": (host.server?.project ?? host.databaseContainer?.project).map { .string($0) }
                    ?? .null,
                "files": .array(files),
            ],
        ]
    }

    /// FNV-1a, 64 bits: tells two versions of the facts apart, nothing more.
    private static func fingerprint(_ bytes: [UInt8]) -> UInt64 {
        bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}
