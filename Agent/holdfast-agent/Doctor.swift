import Arguments
import Capture
import Glibc
import Immich
import JSON
import Posix
import SSH
import Wire

/// `doctor`: looks at everything a capture needs and says of each what was found, or what to do.
struct Doctor {
    enum Verdict: String {
        case ok, missing, note
    }

    struct Finding {
        let what: String
        let verdict: Verdict
        let text: String
        var details: [(String, JSON)] = []
    }

    let folder: String

    func run(asJSON: Bool) -> ExitCode {
        var findings: [Finding] = []
        immich(&findings)
        coordinator(&findings)
        let isSound = findings.allSatisfy { $0.verdict != .missing }
        if asJSON {
            let checks: [JSON] = findings.map { finding in
                JSON(
                    [
                        ("what", .string(finding.what)), ("verdict", .string(finding.verdict.rawValue)),
                        ("text", .string(finding.text)),
                    ] + finding.details
                )
            }
            put(JSON([("ready", JSON(isSound)), ("checks", .array(checks))]).text(pretty: true))
        } else {
            for finding in findings {
                let mark =
                    finding.verdict == .ok ? "ok     " : finding.verdict == .note ? "note   " : "MISSING"
                put("\(mark)  \(finding.what): \(finding.text)\n")
            }
            put(
                isSound
                    ? "This machine is ready to be backed up.\n" : "Not ready: see what is MISSING above.\n"
            )
        }
        return isSound ? .done : .failed
    }

    // MARK: Immich

    private func immich(_ findings: inout [Finding]) {
        let settings: Settings
        do { settings = try AgentFile.loadSettings(folder) } catch {
            findings.append(Finding(what: "settings", verdict: .missing, text: "\(error)"))
            return
        }
        let docker = Docker(settings.docker)
        var containers: [Container] = []
        if settings.needsDocker {
            do {
                containers = try docker.containers()
                let running = containers.filter(\.isRunning).count
                findings.append(
                    Finding(what: "docker", verdict: .ok, text: "answers; \(running) containers are running")
                )
            } catch {
                findings.append(Finding(what: "docker", verdict: .missing, text: error.description))
                return
            }
        }
        let server = server(settings, containers, &findings)
        let facts = database(settings, docker, containers, server, &findings)
        folders(settings, server, facts, &findings)
    }

    private func server(
        _ settings: Settings,
        _ containers: [Container],
        _ findings: inout [Finding]
    ) -> Container? {
        do throws(CaptureFailure) {
            let server = try Containers.server(containers, settings: settings)
            let text = "container \(server.name), image \(server.image)"
            findings.append(
                Finding(
                    what: "Immich's server",
                    verdict: .ok,
                    text: text,
                    details: [("container", .string(server.name)), ("image", .string(server.image))]
                )
            )
            return server
        } catch {
            let isNeeded = settings.uploadLocation == nil
            findings.append(
                Finding(
                    what: "Immich's server",
                    verdict: isNeeded ? .missing : .note,
                    text: isNeeded ? error.description : "not in a container; its folders are in agent.yaml"
                )
            )
            return nil
        }
    }

    private func database(
        _ settings: Settings,
        _ docker: Docker,
        _ containers: [Container],
        _ server: Container?,
        _ findings: inout [Finding]
    ) -> Database.Facts? {
        do throws(CaptureFailure) {
            let (database, _) = try ImmichHost.database(settings, docker, containers, server)
            let facts = try database.facts()
            let version = ImmichHost.version(facts, server)
            let program = DumpProgram.used(by: version)
            let file = try database.locate(program, major: facts.postgresMajor)
            let named = facts.immich ?? version.map { "\($0)" }
            let size = facts.bytes.map { ", \(Human.bytes($0))" } ?? ""
            findings.append(
                Finding(
                    what: "database",
                    verdict: .ok,
                    text:
                        "'\(database.name)' in \(database.shown), PostgreSQL \(facts.postgres)\(size); dumped with "
                        + file,
                    details: [
                        ("postgres", .string(facts.postgres)), ("dump", .string(program.rawValue)),
                        ("bytes", facts.bytes.map { JSON($0) } ?? .null),
                    ]
                )
            )
            findings.append(
                Finding(
                    what: "Immich's version",
                    verdict: named == nil ? .note : .ok,
                    text: named ?? "unknown; taken for 2.5.0 or newer",
                    details: [("version", named.map { .string($0) } ?? .null)]
                )
            )
            return facts
        } catch {
            findings.append(Finding(what: "database", verdict: .missing, text: error.description))
            return nil
        }
    }

    private func folders(
        _ settings: Settings,
        _ server: Container?,
        _ facts: Database.Facts?,
        _ findings: inout [Finding]
    ) {
        let places: MediaPlaces
        do throws(CaptureFailure) { places = try ImmichHost.places(settings, server, facts) } catch {
            findings.append(Finding(what: "folders", verdict: .missing, text: error.description))
            return
        }
        for place in places.places {
            let what = "folder \(place.folder.rawValue)"
            do throws(CaptureFailure) {
                try place.check()
                let found = count(place, everything: true, stop: StopFlag())
                findings.append(
                    Finding(
                        what: what,
                        verdict: .ok,
                        text: "\(place.path), marker there, \(Human.count(found.files)) files, "
                            + Human.bytes(found.bytes),
                        details: [
                            ("path", .string(place.path)), ("files", JSON(found.files)),
                            ("bytes", JSON(found.bytes)),
                        ]
                    )
                )
            } catch {
                findings.append(
                    Finding(
                        what: what,
                        verdict: .missing,
                        text: error.description,
                        details: [("path", .string(place.path))]
                    )
                )
            }
        }
    }

    // MARK: The coordinator

    /// Each is tried; one that answers is enough.
    private func coordinator(_ findings: inout [Finding]) {
        let file: AgentFile
        do { file = try AgentFile.load(folder) } catch {
            findings.append(Finding(what: "coordinator", verdict: .missing, text: "\(error)"))
            return
        }
        var tried: [(address: JSON, answer: Result<String, any Error>)] = []
        for coordinator in file.coordinators {
            let answer = Result {
                let link = try Link(coordinator, file, folder: folder, stop: StopFlag())
                link.channel.close()
                return "\(coordinator.address) accepts this machine as host '\(link.host)'"
            }
            tried.append((.string("\(coordinator.address)"), answer))
        }
        let isReached = tried.contains { if case .success = $0.answer { true } else { false } }
        for (address, answer) in tried {
            let (verdict, text): (Verdict, String) =
                switch answer {
                case .success(let text): (.ok, text)
                case .failure(let error): (isReached ? .note : .missing, "\(error)")
                }
            findings.append(
                Finding(
                    what: "coordinator",
                    verdict: verdict,
                    text: text,
                    details: [("address", address), ("host", .string(file.host))]
                )
            )
        }
    }
}
