/// Finds Immich's containers among all of a host.
package enum Containers {
    /// The container that runs Immich's PostgreSQL: the configured one, else one named like `immich…postgres`, else one
    /// with an image of PostgreSQL that Immich uses.
    ///
    /// - Parameter server: Immich's server, when it was found; of several candidates those of its compose project win.
    package static func postgres(
        _ all: [Container],
        settings: Settings,
        server: Container?
    ) throws(CaptureFailure) -> Container {
        if let name = settings.postgresContainer {
            return try named(name, all, setting: "postgres_container")
        }
        // Containers that make dumps on a schedule bear such names as well.
        let possible = all.filter { !$0.image.contains("backup") }
        let byName = possible.filter { isPostgresName($0.name) }
        let byImage = possible.filter { isPostgresImage($0.image) }
        return try choose(
            byName.isEmpty ? byImage : byName,
            near: server,
            what: "Immich's PostgreSQL",
            setting: "postgres_container",
            missing: "no container is named like 'immich…postgres' or runs an image of PostgreSQL: "
                + "set 'postgres_container:' in agent.yaml, or 'postgres:' where it runs without Docker"
        )
    }

    /// The container that runs Immich's server: the configured one, else one with the image `immich-server`, else one
    /// named like `immich…server`.
    package static func server(_ all: [Container], settings: Settings) throws(CaptureFailure) -> Container {
        if let name = settings.serverContainer { return try named(name, all, setting: "server_container") }
        let byImage = all.filter { isImage($0.image, "immich-server") }
        let byName = all.filter { contains($0.name, "immich", then: "server") }
        let found = byImage.isEmpty ? byName : byImage
        let running = found.filter(\.isRunning)
        // Workers of one Immich may run apart; they share its folders.
        if let first = running.first(where: { contains($0.name, "immich", then: "server") }) ?? running.first,
            running.allSatisfy({ $0.project == first.project && $0.mounts == first.mounts })
        {
            return first
        }
        return try choose(
            found,
            near: nil,
            what: "Immich's server",
            setting: "server_container",
            missing: "no container runs the image 'immich-server' or is named like 'immich…server': "
                + "set 'server_container:' in agent.yaml, or 'upload_location:' where it runs without Docker"
        )
    }

    private static func named(
        _ name: String,
        _ all: [Container],
        setting: String
    ) throws(CaptureFailure) -> Container {
        guard let found = all.first(where: { $0.name == name }) else {
            let names = all.filter(\.isRunning).map(\.name).sorted().joined(separator: ", ")
            throw CaptureFailure(
                .discovery,
                "there is no container '\(name)', as '\(setting):' in agent.yaml names it; running are: "
                    + (names.isEmpty ? "none" : names)
            )
        }
        guard found.isRunning else { throw stopped(found) }
        return found
    }

    private static func choose(
        _ found: [Container],
        near server: Container?,
        what: String,
        setting: String,
        missing: String
    ) throws(CaptureFailure) -> Container {
        var candidates = found.filter(\.isRunning)
        if candidates.isEmpty {
            if let first = found.first { throw stopped(first) }
            throw CaptureFailure(.discovery, missing)
        }
        if candidates.count > 1, let project = server?.project {
            let same = candidates.filter { $0.project == project }
            if !same.isEmpty { candidates = same }
        }
        guard candidates.count == 1 else {
            let names = candidates.map { "\($0.name) (\($0.image))" }.sorted().joined(separator: ", ")
            throw CaptureFailure(
                .discovery,
                "several containers may be \(what): \(names): name the right one with '\(setting):' in agent.yaml"
            )
        }
        return candidates[0]
    }

    private static func stopped(_ container: Container) -> CaptureFailure {
        CaptureFailure(
            .discovery,
            "container '\(container.name)' is not running (\(container.state)): start it, "
                + "'docker start \(container.name)'"
        )
    }

    static func isPostgresName(_ name: String) -> Bool { contains(name, "immich", then: "postgres") }

    static func isPostgresImage(_ image: String) -> Bool {
        isImage(image, "postgres") || isImage(image, "pgvecto-rs") || isImage(image, "pgvector")
            || isImage(image, "vchord-postgres") || isImage(image, "vchord-suite")
            || isImage(image, "immich-postgres")
    }

    /// Whether the last part of an image's reference, without tag and digest, is `name`.
    private static func isImage(_ image: String, _ name: String) -> Bool {
        let repository = image.split(separator: "@").first ?? ""
        let last = repository.split(separator: "/").last ?? ""
        return last.split(separator: ":").first.map { $0.lowercased() == name } ?? false
    }

    private static func contains(_ text: String, _ first: String, then second: String) -> Bool {
        let bytes = Array(text.lowercased().utf8)
        guard let start = index(of: Array(first.utf8), in: bytes[...]) else { return false }
        return index(of: Array(second.utf8), in: bytes[(start + first.utf8.count)...]) != nil
    }

    private static func index(of part: [UInt8], in bytes: ArraySlice<UInt8>) -> Int? {
        guard bytes.count >= part.count else { return nil }
        return (bytes.startIndex...bytes.endIndex - part.count).first {
            bytes[$0..<$0 + part.count].elementsEqual(part)
        }
    }
}
