import Arguments
import Catalogue
import Configuration
import Fleet
import Glibc
import JSON
import Posix
import Repository
import SSH
import Sessions
import Wire

/// `host add NAME`: the host's row, password and repository, and the line that joins its machine.
func hostAdd(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let name = try arguments.required("NAME")
    try arguments.finish()
    let fleet = try settings.fleet()
    try fleet.requireSetUp()
    if let problem = HostName.problem(name) {
        throw UsageError.invalid(what: "host", value: name, reason: problem)
    }
    return try fleet.withCatalogue { catalogue in
        try makeRepository(of: name, fleet)
        let host = try catalogue.addHost(name)
        try fleet.recordHost(host, keys: catalogue.keys(of: host))
        try catalogue.addEvent(.info, kind: "host-added", host: host.id, "\(name) was added to the fleet")
        return try printJoinLine(host, catalogue, fleet, settings)
    }
}

/// Makes the repository unless an earlier try did, or a host of this name was here before. The password comes first: a
/// repository without it would be lost to all but the recovery passphrase.
private func makeRepository(of name: String, _ fleet: FleetConfiguration) throws {
    let path = fleet.repository(of: name)
    if Files.exists("\(path)/config") {
        _ = try fleet.openRepository(of: name)
        return
    }
    if !Files.exists(fleet.folder.passwordFile(of: name)) {
        try fleet.folder.setPassword(Passphrase.machinePassword(), of: name)
    }
    let recovery = try RecoveryKey(decoding: Files.read(fleet.folder.recovery))
    let password = try fleet.folder.password(of: name)
    _ = try Repository.create(at: path, keys: [.password(password), .recovery(recovery)])
}

/// `host token NAME`: a new join line, for a machine that was replaced.
func hostToken(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let name = try arguments.required("NAME")
    try arguments.finish()
    let fleet = try settings.fleet()
    try fleet.requireSetUp()
    return try fleet.withCatalogue { catalogue in
        try printJoinLine(catalogue.host(named: name), catalogue, fleet, settings)
    }
}

private func printJoinLine(
    _ host: HostRow,
    _ catalogue: Catalogue,
    _ fleet: FleetConfiguration,
    _ settings: Settings
) throws -> ExitCode {
    let hour: Int64 = 3600 * 1_000_000_000
    let secret = try catalogue.makeToken(for: host, lifetime: hour)
    let token = try fleet.token(.join, secret: secret)
    let address = fleet.dialled[0]
    let line = "holdfast-agent join \(address) \(token.text)"
    if settings.json {
        printJSON([
            "host": JSON(host.name), "address": JSON(address), "token": JSON(token.text),
            "command": JSON(line),
            "expires": JSON(Time.rfc3339(Time.now() + hour)),
        ])
        return .done
    }
    put("Type this on \(host.name) as root, within the hour; it works once:\n\n    \(line)\n\n")
    return .done
}

extension FleetConfiguration {
    /// What agents dial, at least one, the best first.
    var dialled: [String] {
        guard addresses.isEmpty else { return addresses.map(\.description) }
        return ["\(Host.name):\(listen.first?.port ?? Endpoint.defaultPort)"]
    }

    /// A token that also carries the fingerprint of this coordinator's host key.
    func token(_ purpose: JoinToken.Purpose, secret: [UInt8]) throws -> JoinToken {
        let key = try KeyPair.load(folder.hostKey).publicKey
        guard let token = JoinToken(purpose, secret: secret, fingerprint: key.fingerprint.bytes) else {
            throw CommandFailure(.failed, "the host key \(folder.hostKey) has no fingerprint of 32 bytes")
        }
        return token
    }
}

/// `host list`.
func hostList(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let hosts = try catalogue.hosts()
        if settings.json {
            printJSON(["hosts": .array(try hosts.map { try describe($0, catalogue, fleet) })])
            return .done
        }
        var table = Table([("HOST", .left), ("SCOPE", .left), ("LAST CONTACT", .left), ("KEY", .left)])
        for host in hosts {
            let key = try catalogue.keys(of: host).first { $0.revoked == nil }
            table.row([
                host.name, fleet.scope(of: host.name).name, host.lastContact.map(ago) ?? "never",
                key?.fingerprint ?? "not joined yet",
            ])
        }
        put(hosts.isEmpty ? "no hosts yet: holdfast-coordinator host add NAME\n" : table.text)
        return .done
    }
}

/// `host show NAME`.
func hostShow(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let name = try arguments.required("NAME")
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let host = try catalogue.host(named: name)
        if settings.json {
            printJSON(try describe(host, catalogue, fleet))
            return .done
        }
        let keys = try catalogue.keys(of: host)
        let newest = try catalogue.latestSnapshot(of: host)
        put(
            """
            host          \(host.name) (number \(host.id))
            added         \(Time.local(host.added))
            last contact  \(host.lastContact.map { "\(Time.local($0)) (\(ago($0)))" } ?? "never")
            scope         \(fleet.scope(of: host.name).name)
            repository    \(fleet.repository(of: host.name))
            password      \(fleet.folder.passwordFile(of: host.name))
            epoch         \(host.epoch)
            newest        \(newest.map { "\($0.id.prefix(8)), data of \(Time.local($0.time))" } ?? "no snapshot yet")

            """
        )
        for key in keys {
            let state = key.revoked.map { "revoked \(Time.local($0))" } ?? "in use"
            put("key           \(key.fingerprint), since \(Time.local(key.added)), \(state)\n")
        }
        return .done
    }
}

/// `host remove NAME`: the keys stop working; what is backed up stays.
func hostRemove(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let name = try arguments.required("NAME")
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.withCatalogue { catalogue in
        let host = try catalogue.host(named: name)
        try catalogue.removeHost(name)
        try catalogue.addEvent(
            .info,
            kind: "host-removed",
            host: host.id,
            "\(name) was taken out of the fleet"
        )
        do {
            if let gone = try catalogue.host(id: host.id) { try fleet.recordHost(gone, keys: []) }
        } catch {
            put(
                "holdfast-coordinator: this could not be noted in the repository, so a rebuild of the catalogue would "
                    + "bring \(name) back: \(error)\n",
                to: STDERR_FILENO
            )
        }
        let path = fleet.repository(of: name)
        if settings.json {
            printJSON(["host": JSON(name), "repository": JSON(path)])
        } else {
            put(
                "\(name) is out of the fleet and its key works no more. Its backups stay in \(path); "
                    + "holdfast-coordinator host add \(name) takes it back with all of them.\n"
            )
        }
        return .done
    }
}

private func describe(_ host: HostRow, _ catalogue: Catalogue, _ fleet: FleetConfiguration) throws -> JSON {
    let keys = try catalogue.keys(of: host).map { key in
        JSON([
            ("fingerprint", JSON(key.fingerprint)), ("added", JSON(Time.rfc3339(key.added))),
            ("revoked", instant(key.revoked)),
        ])
    }
    return JSON([
        ("host", JSON(host.name)), ("id", JSON(Int64(host.id))), ("added", JSON(Time.rfc3339(host.added))),
        ("last_contact", instant(host.lastContact)), ("scope", JSON(fleet.scope(of: host.name).name)),
        ("repository", JSON(fleet.repository(of: host.name))), ("epoch", JSON(host.epoch)),
        ("keys", .array(keys)),
    ])
}
