import Digest
import JSON
import Posix

extension AlarmChannel {
    /// Sends `message` and returns when the other side has taken it. Blocks, at most `seconds`.
    package func deliver(_ message: AlarmMessage, seconds: Double = 45) throws(OutwardError) {
        switch self {
        case .email(let mailbox): try Mail.send(message, mailbox, seconds: seconds)
        case .webhook(let web): try web.post(Self.webhookBody(message), seconds: seconds)
        case .ntfy(let web): try Self.ntfy(message, web, seconds)
        case .gotify(let web): try Self.gotify(message, web, seconds)
        case .discord(let file): try Self.discord(message, file, seconds)
        }
    }

    /// What the generic webhook gets, as JSON.
    static func webhookBody(_ message: AlarmMessage) -> JSON {
        JSON([
            ("version", 1), ("id", JSON(message.id)), ("alarm", JSON(message.alarm)),
            ("severity", message.severity.map { JSON($0.rawValue) } ?? .null),
            ("subject", JSON(message.subject)),
            ("text", JSON(message.text)), ("created", JSON(Time.rfc3339(message.created))),
            ("findings", message.findings),
        ])
    }

    /// The title and priority are headers, the body is the text. ntfy makes a file of what is longer than 4,096 bytes.
    private static func ntfy(_ message: AlarmMessage, _ web: Web, _ seconds: Double) throws(OutwardError) {
        let token = try web.secret()
        // In one header, and so in one line.
        let title = Mail.encodedWords(cut(message.subject, bytes: 200)).replacing("\r\n", with: "")
        let (priority, tag) =
            switch message.severity {
            case .critical: (5, "rotating_light")
            case .warning: (4, "warning")
            case nil: (3, "white_check_mark")
            }
        var headers = [
            "Title: \(title)", "Priority: \(priority)", "Tags: \(tag)",
            "Content-Type: text/plain; charset=utf-8",
        ]
        if let token { headers.append("Authorization: Bearer \(token)") }
        try HTTP.send(
            Array(cut(message.text, bytes: 4096).utf8),
            to: web.address.text,
            at: web.address,
            headers: headers,
            secrets: token.map { [$0] } ?? [],
            caFile: web.caFile,
            seconds: seconds
        )
    }

    private static func gotify(_ message: AlarmMessage, _ web: Web, _ seconds: Double) throws(OutwardError) {
        let token = try web.secret() ?? ""
        let priority =
            switch message.severity {
            case .critical: 8
            case .warning: 5
            case nil: 3
            }
        let body = JSON([
            ("title", JSON(message.subject)), ("message", JSON(cut(message.text, bytes: 32 << 10))),
            ("priority", JSON(priority)),
        ])
        try HTTP.send(
            Array(body.text().utf8),
            to: web.address.adding("message"),
            at: web.address,
            headers: ["Content-Type: application/json", "X-Gotify-Key: \(token)"],
            secrets: [token],
            caFile: web.caFile,
            seconds: seconds
        )
    }

    private static func discord(_ message: AlarmMessage, _ file: String, _ seconds: Double)
        throws(OutwardError)
    {
        let address = try Self.address(inFile: file)
        // 2,000 characters; bytes are never fewer. Nobody is mentioned, whatever a host's error says.
        let body = JSON([
            ("content", JSON(cut("**\(message.subject)**\n\(message.text)", bytes: 2000))),
            ("allowed_mentions", JSON([("parse", [])])),
        ])
        try HTTP.send(
            Array(body.text().utf8),
            to: address.text,
            at: address,
            headers: ["Content-Type: application/json"],
            seconds: seconds
        )
    }
}

extension AlarmChannel.Web {
    fileprivate func secret() throws(OutwardError) -> String? {
        guard let secretFile else { return nil }
        return try SecretFile.read(secretFile)
    }

    /// Posts JSON, signed where there is a secret.
    fileprivate func post(_ json: JSON, seconds: Double) throws(OutwardError) {
        let body = Array(json.text().utf8)
        let secret = try secret()
        var headers = ["Content-Type: application/json"]
        if let secret {
            do {
                let mark = try HMACSHA256.authenticate(body, key: Array(secret.utf8))
                headers.append("X-Holdfast-Signature: sha256=\(hex(mark))")
            } catch { throw .library(error.description) }
        }
        try HTTP.send(
            body,
            to: address.text,
            at: address,
            headers: headers,
            secrets: secret.map { [$0] } ?? [],
            caFile: caFile,
            seconds: seconds
        )
    }
}
