import Glibc
package import JSON
import Posix

/// A running or stopped container, as `docker inspect` tells of it.
package struct Container: Equatable, Sendable {
    package struct Mount: Equatable, Sendable {
        /// `bind`, `volume`, `tmpfs`, …
        package var type: String
        /// On the host; empty for what is in memory.
        package var source: String
        /// In the container.
        package var destination: String
    }

    package var id = ""
    package var name = ""
    package var image = ""
    package var imageID = ""
    /// RFC 3339.
    package var created = ""
    package var state = ""
    package var environment: [String: String] = [:]
    package var labels: [String: String] = [:]
    package var mounts: [Mount] = []

    package init() {}

    package var isRunning: Bool { state == "running" }
    package var project: String? { labels["com.docker.compose.project"] }
}

/// Docker through its command; DOCKER_HOST and the like are the command's own.
package struct Docker: Sendable {
    package let command: String

    package init(_ command: String) { self.command = command }

    /// All containers, running or not.
    package func containers() throws(CaptureFailure) -> [Container] {
        let listed = try run(["ps", "--all", "--quiet", "--no-trunc"])
        let ids = String(decoding: listed.output, as: UTF8.self).split(whereSeparator: \.isNewline)
            .map(String.init)
        guard listed.succeeded else { throw explain(listed) }
        if ids.isEmpty { return [] }
        // One that is removed between the two calls makes a bad status, yet the others are printed.
        let result = try run(["inspect", "--type", "container"] + ids)
        guard let parsed = try? JSON(parsing: result.output), let all = parsed.array else {
            if !result.succeeded { throw explain(result) }
            throw CaptureFailure(
                .discovery,
                "'\(command) inspect' printed something that is not JSON; is '\(command)' Docker's own command?"
            )
        }
        if all.isEmpty && !result.succeeded { throw explain(result) }
        return all.map(Container.init(inspected:))
    }

    private func run(_ arguments: [String]) throws(CaptureFailure) -> Command.Result {
        do { return try Command.run([command] + arguments) } catch { throw explain(error) }
    }

    func explain(_ error: any Error) -> CaptureFailure {
        if error is Command.TimedOut {
            return CaptureFailure(
                .discovery,
                "'\(command)' did not answer within 30 seconds: look at the Docker daemon ('systemctl status docker')"
            )
        }
        if let error = error as? SystemCallError, error.code == ENOENT {
            return CaptureFailure(
                .discovery,
                "there is no docker command '\(command)' in PATH: install Docker's command line, name it with "
                    + "'docker:' in agent.yaml, or, where Immich runs without Docker, set 'postgres:' and "
                    + "'upload_location:'"
            )
        }
        return CaptureFailure(.discovery, "cannot run '\(command)': \(error)")
    }

    func explain(_ result: Command.Result) -> CaptureFailure {
        let said = lastLines(result.error)
        let lower = said.lowercased()
        if lower.contains("permission denied") {
            return CaptureFailure(
                .discovery,
                "no permission to talk to the Docker daemon: run the agent as root or as a member of the group "
                    + "'docker' (\(said))"
            )
        }
        if lower.contains("cannot connect to the docker daemon")
            || lower.contains("is the docker daemon running")
            || lower.contains("error during connect") || lower.contains("connection refused")
        {
            return CaptureFailure(
                .discovery,
                "the Docker daemon does not answer: start it, or set DOCKER_HOST for the agent (\(said))"
            )
        }
        return CaptureFailure(.discovery, "'\(command)' failed with \(result.end): \(said)")
    }
}

extension Container {
    /// Takes one element of `docker inspect`'s array; what is missing stays empty.
    package init(inspected json: JSON) {
        self.init()
        id = json["Id"]?.string ?? ""
        name = json["Name"]?.string.map { $0.hasPrefix("/") ? String($0.dropFirst()) : $0 } ?? ""
        image = json["Config"]?["Image"]?.string ?? ""
        imageID = json["Image"]?.string ?? ""
        created = json["Created"]?.string ?? ""
        state = json["State"]?["Status"]?.string ?? ""
        for entry in json["Config"]?["Env"]?.strings ?? [] {
            guard let equals = entry.firstIndex(of: "=") else { continue }
            environment[String(entry[..<equals])] = String(entry[entry.index(after: equals)...])
        }
        for member in json["Config"]?["Labels"]?.object?.members ?? [] {
            labels[member.key] = member.value.string
        }
        for mount in json["Mounts"]?.array ?? [] {
            guard let destination = mount["Destination"]?.string else { continue }
            mounts.append(
                Mount(
                    type: mount["Type"]?.string ?? "",
                    source: mount["Source"]?.string ?? "",
                    destination: destination
                )
            )
        }
    }
}
