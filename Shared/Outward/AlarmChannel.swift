package import Configuration
import JSON
import Posix

/// A way to reach a person. Secrets are named by file and read when they are needed, so that a changed one counts at once.
package enum AlarmChannel: Sendable, Equatable {
    case email(Mailbox)
    /// `secret` signs what is sent: `X-Holdfast-Signature: sha256=` and HMAC-SHA-256 of the body.
    case webhook(Web)
    /// The address ends in the topic.
    case ntfy(Web)
    case gotify(Web)
    /// The whole address is the secret, and stands in a file.
    case discord(urlFile: String)

    /// A server that takes HTTP.
    package struct Web: Sendable, Equatable {
        package var address: WebAddress
        /// File of a token or key; nil for none.
        package var secretFile: String?
        /// File of certificates to trust instead of the system's.
        package var caFile: String?
    }

    /// A mail server and who writes to whom.
    package struct Mailbox: Sendable, Equatable {
        package enum Encryption: String, Sendable { case required, none }

        /// `smtps://mail.example:465` for TLS from the start, `smtp://mail.example:587` for STARTTLS.
        package var server: String
        package var encryption: Encryption
        package var from: String
        package var to: [String]
        package var user: String?
        package var passwordFile: String?
        package var caFile: String?
    }

    /// The word for it in the configuration.
    package var kind: String {
        switch self {
        case .email: "email"
        case .webhook: "webhook"
        case .ntfy: "ntfy"
        case .gotify: "gotify"
        case .discord: "discord"
        }
    }

    /// Where it goes, without a secret.
    package var place: String {
        switch self {
        case .email(let mailbox): "\(mailbox.server) to \(mailbox.to.joined(separator: ", "))"
        case .webhook(let web), .ntfy(let web), .gotify(let web): web.address.place
        case .discord: "discord"
        }
    }

    /// What is wrong with the files that it needs; nil when all of them can be used.
    package func problem() -> OutwardError? {
        do throws(OutwardError) {
            var secret: String?
            var certificates: String?
            switch self {
            case .email(let mailbox): (secret, certificates) = (mailbox.passwordFile, mailbox.caFile)
            case .webhook(let web), .ntfy(let web), .gotify(let web):
                (secret, certificates) = (web.secretFile, web.caFile)
            case .discord(let file): _ = try Self.address(inFile: file)
            }
            if let secret { _ = try SecretFile.read(secret) }
            if let certificates, !Files.exists(certificates) {
                throw .file(path: certificates, reason: "is missing")
            }
        } catch { return error }
        return nil
    }

    static func address(inFile path: String) throws(OutwardError) -> WebAddress {
        guard let address = WebAddress(try SecretFile.read(path)) else {
            throw .file(
                path: path,
                reason: "does not begin with a URL like https://discord.com/api/webhooks/…"
            )
        }
        return address
    }
}

extension AlarmChannel {
    private static let kinds = ["email", "webhook", "ntfy", "gotify", "discord"]

    /// Takes the one channel out of `reader` that it holds.
    package init(_ reader: MappingReader) throws(ConfigurationError) {
        var found: [AlarmChannel] = []
        try reader.mapping("email") { (mail) throws(ConfigurationError) in
            found.append(try .init(email: mail))
        }
        try reader.mapping("webhook") { (web) throws(ConfigurationError) in
            found.append(.webhook(try Web(web, secret: "secret_file")))
        }
        try reader.mapping("ntfy") { (web) throws(ConfigurationError) in
            let settings = try Web(web, secret: "token_file")
            guard settings.address.path.count > 1, !settings.address.path.hasSuffix("/") else {
                throw web.error("url", "must end in the topic, like https://ntfy.example/holdfast")
            }
            found.append(.ntfy(settings))
        }
        try reader.mapping("gotify") { (web) throws(ConfigurationError) in
            let settings = try Web(web, secret: "token_file")
            _ = try web.required("token_file", settings.secretFile)
            found.append(.gotify(settings))
        }
        try reader.mapping("discord") { (web) throws(ConfigurationError) in
            found.append(.discord(urlFile: try web.required("url_file", web.file("url_file"))))
        }
        guard found.count == 1, let only = found.first else {
            throw ConfigurationError(
                file: reader.file,
                line: reader.line,
                "an alarm needs exactly one of \(Self.kinds.map { "`\($0):`" }.joined(separator: ", ")), and here "
                    + "\(found.isEmpty ? "is none" : "are \(found.count)"): give each channel a name of its own"
            )
        }
        self = only
    }

    private init(email reader: MappingReader) throws(ConfigurationError) {
        let server = try reader.required(
            "server",
            try reader.value("server", expected: "like smtps://mail.example:465 or smtp://mail.example:587") {
                MailServer($0)
            }
        )
        func mailAddress(_ text: String) -> String? {
            let parts = text.split(separator: "@", omittingEmptySubsequences: false)
            let isPlain = text.unicodeScalars.allSatisfy {
                $0.isASCII && $0.value > 0x20 && !"<>,;:\"\\()\u{7F}".unicodeScalars.contains($0)
            }
            return parts.count == 2 && parts.allSatisfy { !$0.isEmpty } && isPlain ? text : nil
        }
        let from = try reader.required(
            "from",
            try reader.value("from", expected: "an address like holdfast@example.org", mailAddress)
        )
        let to = try reader.strings("to")
        _ = try reader.required("to", to.first)
        for text in to where mailAddress(text) == nil {
            throw reader.error("to", "must be addresses like me@example.org, not `\(plainLine(text))`")
        }
        let user = try reader.string("user")
        let passwordFile = try reader.file("password_file")
        if (user == nil) != (passwordFile == nil) {
            throw reader.error(
                user == nil ? "password_file" : "user",
                "needs `user` and `password_file` together"
            )
        }
        let encryption = try reader.value("tls", expected: "required or none") {
            Mailbox.Encryption(rawValue: $0)
        }
        if encryption == Mailbox.Encryption.none && server.isTLS {
            throw reader.error("tls", "is none, but smtps:// is TLS: say smtp:// or leave `tls` out")
        }
        self = .email(
            Mailbox(
                server: server.text,
                encryption: encryption ?? (server.isLoopback && !server.isTLS ? .none : .required),
                from: from,
                to: to,
                user: user,
                passwordFile: passwordFile,
                caFile: try reader.file("ca_file")
            )
        )
    }
}

extension AlarmChannel.Web {
    fileprivate init(_ reader: MappingReader, secret: String) throws(ConfigurationError) {
        address = try reader.required("url", try reader.webAddress("url"))
        secretFile = try reader.file(secret)
        caFile = try reader.file("ca_file")
    }
}

extension MappingReader {
    /// An HTTP URL. A wrong one is not quoted: it may hold a token.
    package func webAddress(_ key: String) throws(ConfigurationError) -> WebAddress? {
        guard let text = try string(key) else { return nil }
        if let address = WebAddress(text) { return address }
        throw error(key, "must be a URL like https://host/path")
    }

    fileprivate func file(_ key: String) throws(ConfigurationError) -> String? {
        try value(key, expected: "a file's path that starts with /") { $0.hasPrefix("/") ? $0 : nil }
    }
}

/// `smtp://host:port` or `smtps://host:port`.
private struct MailServer {
    let text: String
    let isTLS: Bool
    let isLoopback: Bool

    init?(_ text: String) {
        guard let scheme = ["smtps://", "smtp://"].first(where: { text.hasPrefix($0) }) else { return nil }
        var rest = String(text.dropFirst(scheme.count))
        if rest.hasSuffix("/") { rest.removeLast() }
        // A port that is not said is libcurl's: 465 or 25.
        guard let endpoint = Endpoint(rest) else { return nil }
        self.text = scheme + rest
        isTLS = scheme == "smtps://"
        // By its number; a name that begins like one may be anywhere.
        let isNumber = endpoint.host.allSatisfy { $0.isNumber || $0 == "." }
        isLoopback =
            ["localhost", "::1"].contains(endpoint.host) || isNumber && endpoint.host.hasPrefix("127.")
    }
}
