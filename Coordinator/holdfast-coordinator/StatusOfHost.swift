import Arguments
import Catalogue
import Fleet
import Glibc
import Health
import JSON
import Posix
import Scheduling
import Retention
import Schedule
import Wire

/// `status HOST`: everything that is known of one host.
func statusOfHost(_ name: String, _ settings: Settings) throws -> ExitCode {
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let page = try HostPage(catalogue.host(named: name), catalogue, fleet)
        if settings.json {
            printJSON(page.json)
        } else {
            put(page.text(StatusStyle(colour: StatusStyle.wantsColour)))
        }
        return .done
    }
}

private struct HostPage {
    let row: HostRow
    let status: FleetStatus
    let host: FleetHealth.Host
    let keys: [AgentKeyRow]
    let runs: [RunRow]
    let snapshots: [SnapshotRow]
    let open: [FindingRow]
    let closed: [FindingRow]
    let repository: String
    /// Bytes of the repository's files; nil when it can't be read.
    let repositoryBytes: UInt64?

    init(_ row: HostRow, _ catalogue: Catalogue, _ fleet: FleetConfiguration) throws {
        self.row = row
        status = try FleetStatus(catalogue, fleet, host: row.id)
        guard let host = status.hosts.first else { throw CatalogueError.noHost(row.name) }
        self.host = host
        keys = try catalogue.keys(of: row)
        runs = try catalogue.runs(host: row, limit: 8)
        snapshots = try catalogue.snapshots(of: row, asideToo: true)
        open = try catalogue.openFindings(host: row.id)
        closed = try catalogue.closedFindings(host: row.id, limit: 5)
        repository = fleet.repository(of: row.name)
        repositoryBytes = Self.size(of: repository)
    }

    /// Packs lie in folders of their own, everything else is small.
    private static func size(of repository: String) -> UInt64? {
        func files(_ folder: String) -> UInt64? {
            guard let names = try? Directory.names(folder) else { return nil }
            return names.reduce(0) { sum, name in
                let status = try? FileStatus(at: AT_FDCWD, Array(folder.utf8) + [0x2F] + name)
                return sum + (status?.kind == .file ? status?.size ?? 0 : 0)
            }
        }
        guard let folders = try? Directory.names("\(repository)/data") else { return nil }
        let packs = folders.map { files("\(repository)/data/\(String(decoding: $0, as: UTF8.self))") ?? 0 }
        return packs.reduce(files("\(repository)/index") ?? 0, +)
    }

    // MARK: - What it is made of

    private var now: Int64 { status.health.now }

    private func count(_ kind: CaptureKind, _ state: SnapshotRow.State) -> [SnapshotRow] {
        snapshots.filter { $0.kind == kind && $0.state == state }
    }

    /// When each work on the host begins next, with its share of the spread, as `jobs` has it.
    private var due: [(kind: String, at: Int64?, expression: String)] {
        [RunKind.full, .database, .prune].compactMap { kind in
            guard let timing = JobTiming(kind, host: row.name, host.policy), let cron = timing.cron
            else { return nil }
            let next = timing.next(after: now - timing.offset).map { $0 + timing.offset }
            return (kind.rawValue, next, cron.description)
        }
    }

    /// Immich's and PostgreSQL's versions, each with the first snapshot that has them, the newest first.
    private var versions: [(since: Int64, immich: String, postgres: String)] {
        var found: [(since: Int64, immich: String, postgres: String)] = []
        for snapshot in snapshots.filter({ $0.state != .aside }) {
            let (immich, postgres) = (snapshot.immichVersion ?? "–", snapshot.postgresVersion ?? "–")
            if let last = found.last, last.immich == immich, last.postgres == postgres {
                found[found.count - 1].since = snapshot.time
            } else {
                found.append((snapshot.time, immich, postgres))
            }
        }
        return found
    }

    // MARK: - For people

    func text(_ style: StatusStyle) -> String {
        var lines: [(String, String)] = []
        let facts = host.facts
        let state = host.level.rawValue
        lines.append(("host", "\(row.name) (number \(row.id)), added \(Time.local(row.added))"))
        lines.append(("state", style.paint(state, state)))
        for key in keys where key.revoked == nil { lines.append(("key", "\(key.fingerprint)")) }
        if !facts.hasKey { lines.append(("key", "none: it has not joined yet")) }
        for reading in host.health.readings { lines.append(("", describe(reading))) }
        for (backup, file) in zip(host.policy.outside, facts.outside) {
            let age = file.time.map { "\(Age.text(now - $0)) old" } ?? file.problem ?? "no file"
            let limits =
                "warning at \(Age.limit(backup.threshold.warning)), critical at \(Age.limit(backup.threshold.critical))"
            let size = file.bytes.map { ", \(Human.bytes($0))" } ?? ""
            lines.append(("outside", "\(backup.name): \(age)\(size); \(limits)"))
            lines.append(("", "  \(file.path ?? backup.pattern)"))
        }
        if let skew = facts.clockSkew {
            let by = Human.fixed(Double(skew.magnitude) / 1e9, 1)
            lines.append(("clock", "its machine's is \(by) s \(skew < 0 ? "behind" : "ahead")"))
        }
        for (kind, at, expression) in due {
            let next = at.map { "\(Time.local($0)), in \(Age.text($0 - now))" } ?? "never"
            lines.append(
                ("schedule", "\(kind) `\(expression)` \(host.policy.schedule.zone.name): next \(next)")
            )
        }
        for kind in CaptureKind.allCases {
            let present = count(kind, .present)
            let forgotten = count(kind, .forgotten).count
            let span = present.first.map { newest in
                " (\(Age.text(now - max(0, newest.time))) to "
                    + "\(Age.text(now - max(0, (present.last ?? newest).time))) old)"
            }
            let rest = forgotten == 0 ? "" : ", \(forgotten) forgotten"
            lines.append(
                (
                    "snapshots",
                    "\(present.count) \(kind.name)\(span ?? "")\(rest); keeps \(host.policy.retention[kind]?.description ?? "everything")"
                )
            )
        }
        lines.append(
            (
                "repository", "\(repositoryBytes.map { Human.bytes($0) } ?? "can't be read") in \(repository)"
            )
        )
        for version in versions.prefix(5) {
            lines.append(
                (
                    "versions",
                    "Immich \(version.immich), PostgreSQL \(version.postgres) since \(Time.local(version.since))"
                )
            )
        }
        let width = lines.map(\.0.count).max() ?? 0
        var last = ""
        var text = ""
        for (name, value) in lines {
            let shown = name == last ? "" : name
            if !name.isEmpty { last = name }
            let head = shown + String(repeating: " ", count: width + 2 - shown.count)
            // Colours are no width.
            text +=
                name == "state"
                ? "\(head)\(value)\n"
                : StatusStyle.wrapped(value, head: head, indent: String(repeating: " ", count: width + 4))
        }
        return text + runsText + findingsText
    }

    private func describe(_ reading: HostHealth.Reading) -> String {
        let clock =
            switch reading.clock {
            case .contact: "last contact"
            case .dump: "newest dump"
            case .full: "newest complete backup"
            default: reading.clock.rawValue
            }
        guard let moment = reading.moment else {
            let text = "\(clock): never"
            return reading.criticalAt > now
                ? text + ", critical in \(Age.text(reading.criticalAt - now))" : text
        }
        func crossing(_ word: String, _ limit: Int64, _ at: Int64) -> String {
            let when = at > now ? "in \(Age.text(at - now))" : "for \(Age.text(now - at))"
            return "\(word) at \(Age.limit(limit)) (\(when))"
        }
        return "\(clock): \(Age.text(now - moment)) ago; "
            + crossing("warning", reading.threshold.warning, reading.warningAt) + ", "
            + crossing("critical", reading.threshold.critical, reading.criticalAt)
    }

    private var runsText: String {
        guard !runs.isEmpty else { return "\nno runs yet\n" }
        var table = Table([
            ("RUN", .left), ("KIND", .left), ("STATE", .left), ("AGO", .right), ("TOOK", .right),
            ("SENT", .right),
            ("STORED", .right), ("", .left),
        ])
        for run in runs {
            var took = "–"
            if let started = run.started, let ended = run.ended {
                took = Human.duration(nanoseconds: ended - started)
            }
            table.row([
                String(run.id.prefix(8)), run.kind.rawValue, run.state.rawValue,
                Age.short(now - (run.started ?? run.requested)), took, Human.bytes(run.figures.bytesSent),
                Human.bytes(run.figures.bytesStored), run.error ?? "",
            ])
        }
        let lines = table.text.split(separator: "\n", omittingEmptySubsequences: false)
        return "\n" + lines.map { StatusStyle.cut(String($0)) }.joined(separator: "\n")
    }

    private var findingsText: String {
        var text = ""
        // Evaluated now; what the watch wrote down has a number by which a person can close it.
        for condition in host.health.conditions {
            let number = open.first { $0.kind == condition.kind.rawValue && $0.subject == condition.subject }?
                .id
            text += StatusStyle.wrapped(
                "\(condition.severity.rawValue): \(condition.message)\(number.map { " (finding \($0))" } ?? "")"
            )
        }
        for finding in host.others {
            text += StatusStyle.wrapped(
                "\(finding.severity.rawValue): \(finding.message) (finding \(finding.id))"
            )
        }
        if text.isEmpty { text = "nothing is wrong\n" }
        for finding in closed {
            let how = finding.closedBy.map { ", closed by \($0): \(finding.closedWhy ?? "")" } ?? ""
            text += StatusStyle.wrapped(
                "over since \(Age.text(now - (finding.closed ?? now))): \(finding.message)\(how)"
            )
        }
        return "\n" + text
    }

    // MARK: - For programs

    var json: JSON {
        guard case .object(var object) = status.json(host) else { return .null }
        object["id"] = JSON(Int64(row.id))
        object["added"] = instant(row.added)
        object["epoch"] = JSON(row.epoch)
        object["keys"] = JSON(keys.filter { $0.revoked == nil }.map(\.fingerprint))
        object["repository"] = JSON(repository)
        object["repository_bytes"] = repositoryBytes.map { JSON($0) } ?? .null
        object["schedule"] = .array(
            due.map {
                JSON([("kind", JSON($0.kind)), ("cron", JSON($0.expression)), ("next", instant($0.at))])
            }
        )
        object["snapshot_counts"] = JSON(
            CaptureKind.allCases.map { kind in
                (
                    kind.name,
                    JSON([
                        ("present", JSON(count(kind, .present).count)),
                        ("forgotten", JSON(count(kind, .forgotten).count)),
                    ])
                )
            }
        )
        object["versions"] = .array(
            versions.map {
                JSON([
                    ("since", instant($0.since)), ("immich", JSON($0.immich)),
                    ("postgres", JSON($0.postgres)),
                ])
            }
        )
        object["runs"] = .array(runs.map { runJSON($0) })
        object["open_findings"] = .array(open.map { findingJSON($0, host: row.name) })
        object["closed_findings"] = .array(closed.map { findingJSON($0, host: row.name) })
        return .object(object)
    }
}
