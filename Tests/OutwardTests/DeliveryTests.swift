import Configuration
import JSON
import Outward
import Posix
import TestSupport
import Testing

/// The channel in these lines of YAML.
func channel(_ text: String) throws -> AlarmChannel {
    let document = try YAMLNode.parse(Array(text.utf8), file: "test.yaml")
    return try MappingReader.read(document, file: "test.yaml") { (reader) throws(ConfigurationError) in
        try AlarmChannel(reader)
    }
}

func message(
    severity: Severity? = .critical,
    subject: String = "Holdfast: critical: lisbon",
    text: String = "CRITICAL lisbon: old"
)
    -> AlarmMessage
{
    AlarmMessage(
        id: "0b7e",
        alarm: "test",
        severity: severity,
        subject: subject,
        text: text,
        created: 1_700_000_000_000_000_000,
        findings: [["host": "lisbon"]]
    )
}

/// Why it was not delivered; nil when it was.
func failure(_ channel: AlarmChannel, _ message: AlarmMessage = message(), seconds: Double = 30)
    -> OutwardError?
{
    do throws(OutwardError) { try channel.deliver(message, seconds: seconds) } catch { return error }
    return nil
}

@Suite struct DeliveryTests {
    @Test func `a webhook is JSON, signed with the secret`() throws {
        let server = try OutwardServer(.http)
        let secret = try server.file("secret", "open sesame")
        let hook = try channel(
            "webhook: { url: 'http://127.0.0.1:\(server.port)/hook?x=1', secret_file: \(secret) }"
        )
        #expect(failure(hook) == nil)
        let request = try #require(server.requests.first)
        #expect(request["path"]?.string == "/hook?x=1" && request["method"]?.string == "POST")
        let body = try #require(request["body"]?.string)
        let json = try JSON(parsing: body)
        #expect(json["severity"]?.string == "critical" && json["findings"]?[0]?["host"]?.string == "lisbon")
        #expect(json["created"]?.string == "2023-11-14T22:13:20Z" && json["id"]?.string == "0b7e")
        let mark = try ChildProcess.run(
            ["openssl", "dgst", "-sha256", "-hmac", "open sesame"],
            input: Array(body.utf8)
        )
        let digits = String(decoding: mark.output, as: UTF8.self).split(separator: " ").last ?? ""
        #expect(request["headers"]?["x-holdfast-signature"]?.string == "sha256=\(digits.dropLast())")
    }

    @Test func `ntfy gets a title, a priority and at most 4,096 bytes`() throws {
        let server = try OutwardServer(.http)
        let token = try server.file("token", "tk_abcdefgh")
        let ntfy = try channel("ntfy: { url: 'http://127.0.0.1:\(server.port)/topic', token_file: \(token) }")
        let lines = (1...200).map { "CRITICAL host-\($0): the newest dump is too old" }.joined(
            separator: "\n"
        )
        #expect(failure(ntfy, message(text: lines)) == nil)
        #expect(failure(ntfy, message(severity: nil, subject: "Über vorbei")) == nil)
        let request = try #require(server.requests.first)
        #expect(request["headers"]?["authorization"]?.string == "Bearer tk_abcdefgh")
        #expect(request["headers"]?["priority"]?.string == "5")
        let body = request["body"]?.string ?? ""
        #expect(body.utf8.count <= 4096 && body.utf8.count > 3900)
        let told = body.split(separator: "\n")
        #expect(told.dropLast().elementsEqual(lines.split(separator: "\n").prefix(told.count - 1)))
        #expect(told.last == "… and \(200 - told.count + 1) more lines: holdfast-coordinator status")
        #expect(server.requests.last?["headers"]?["title"]?.string == "=?UTF-8?Q?=C3=9Cber_vorbei?=")
    }

    @Test func `Gotify and Discord get what they understand`() throws {
        let server = try OutwardServer(.http)
        let token = try server.file("token", "AbCdEfGh.123")
        let gotify = try channel(
            "gotify: { url: 'http://127.0.0.1:\(server.port)/g/', token_file: \(token) }"
        )
        #expect(failure(gotify) == nil)
        let url = try server.file("url", "http://127.0.0.1:\(server.port)/api/webhooks/1/verysecrettoken")
        let discord = try channel("discord: { url_file: \(url) }")
        #expect(failure(discord, message(text: String(repeating: "@everyone ä\n", count: 500))) == nil)
        let requests = server.requests
        #expect(requests[0]["path"]?.string == "/g/message")
        #expect(requests[0]["headers"]?["x-gotify-key"]?.string == "AbCdEfGh.123")
        #expect(try JSON(parsing: requests[0]["body"]?.string ?? "")["priority"]?.int == 8)
        let body = try JSON(parsing: requests[1]["body"]?.string ?? "")
        #expect(body["content"]?.string.map { $0.count <= 2000 && $0.count > 1500 } == true)
        #expect(body["allowed_mentions"]?["parse"]?.array?.isEmpty == true)
    }

    @Test func `a refusal is told with its reason and without the token`() throws {
        let server = try OutwardServer(.http)
        let url = try server.file("url", "http://127.0.0.1:\(server.port)/api/webhooks/1/verysecrettoken")
        let discord = try channel("discord: { url_file: \(url) }")
        try server.answer(#"{"status": 404, "body": "no /api/webhooks/1/verysecrettoken here\u0007"}"#)
        let error = try #require(failure(discord))
        #expect(
            error.description.contains("http://127.0.0.1:\(server.port) refused it with 404: no *** here?")
        )
        #expect(error.isPermanent)
        try server.answer(#"{"status": 429, "body": "{\"message\": \"slow\", \"retry_after\": 64.57}"}"#)
        #expect(failure(discord)?.retryAfter == 65)
        try server.answer(#"{"status": 503, "headers": {"Retry-After": "120"}}"#)
        let later = try #require(failure(discord))
        #expect(later.retryAfter == 120 && !later.isPermanent)
    }

    @Test func `a redirect is not followed, an endless answer is cut, a server that hangs is left`() throws {
        let server = try OutwardServer(.http)
        let other = try OutwardServer(.http)
        let token = try server.file("token", "tk_abcdefgh")
        let hook = try channel("ntfy: { url: 'http://127.0.0.1:\(server.port)/t', token_file: \(token) }")
        try server.answer(#"{"status": 307, "headers": {"Location": "http://127.0.0.1:\#(other.port)/"}}"#)
        #expect(failure(hook)?.description.contains("not followed") == true)
        #expect(other.requests.isEmpty)
        try server.answer(#"{"flood": true}"#)
        #expect(failure(hook) == nil)
        try server.answer(#"{"hang": true}"#)
        let start = Time.monotonic()
        let hanging = try #require(failure(hook, seconds: 1))
        #expect(hanging.description.contains("timed out") && !hanging.isPermanent)
        #expect(Time.monotonic() - start < 20_000_000_000)
        server.stop()
        #expect(failure(hook)?.description.contains("Failed to connect") == true)
    }

    @Test func `a certificate that nobody vouches for is refused`() throws {
        let scratch = try Scratch()
        let known = try TestCertificates(in: scratch.path)
        let other = try TestCertificates(in: scratch.path, name: "other")
        let server = try OutwardServer(.https(known))
        let url = "https://127.0.0.1:\(server.port)/hook"
        #expect(failure(try channel("webhook: { url: '\(url)', ca_file: \(known.authority) }")) == nil)
        for yaml in ["webhook: { url: '\(url)' }", "webhook: { url: '\(url)', ca_file: \(other.authority) }"]
        {
            let error = try #require(failure(try channel(yaml)))
            #expect(error.description.contains("certificate"), "\(error)")
        }
        #expect(server.requests.count == 1)
        // A name that the certificate does not have.
        let named = try channel(
            "webhook: { url: 'https://127.0.0.2:\(server.port)/', ca_file: \(known.authority) }"
        )
        #expect(failure(named) != nil)
        #expect(server.requests.count == 1)
    }
}

@Suite struct MailTests {
    private func mailbox(_ server: OutwardServer, _ scheme: String, _ more: String) throws -> AlarmChannel {
        try channel(
            "email: { server: '\(scheme)://127.0.0.1:\(server.port)', from: holdfast@example.org, "
                + "to: [me@example.org, you@example.org], \(more) }"
        )
    }

    @Test func `a mail comes whole over STARTTLS and over TLS, with the password`() throws {
        let scratch = try Scratch()
        let certificates = try TestCertificates(in: scratch.path)
        for kind in ["smtp", "smtps"] {
            let server = try OutwardServer(
                kind == "smtp"
                    ? .startTLS(certificates, user: "holdfast", password: "mail secret")
                    : .smtps(certificates, user: "holdfast", password: "mail secret")
            )
            let password = try server.file("password", "mail secret")
            let tls = kind == "smtp" ? "tls: required, " : ""
            let good = try mailbox(
                server,
                kind,
                "\(tls)user: holdfast, password_file: \(password), ca_file: \(certificates.authority)"
            )
            let text = "CRITICAL lisbon: der Wächter = müde \n.\n..\n\(String(repeating: "long ", count: 60))"
            #expect(
                failure(
                    good,
                    message(
                        subject: "Holdfast: kritisch: \(String(repeating: "schön ", count: 20))",
                        text: text
                    )
                ) == nil
            )
            let mail = try #require(server.mails.first)
            #expect(mail["tls"]?.bool == true && mail["user"]?.string == "holdfast")
            #expect(mail["to"]?.strings == ["me@example.org", "you@example.org"])
            #expect(
                mail["subject"]?.string == "Holdfast: kritisch: \(String(repeating: "schön ", count: 20))"
            )
            #expect(mail["text"]?.string == text + "\n")
            #expect(mail["headers"]?["message-id"]?.string == "<0b7e@example.org>")
            #expect(mail["raw"]?.string?.split(separator: "\r\n").allSatisfy { $0.utf8.count <= 78 } == true)

            let wrong = try server.file("wrong", "not the secret")
            let refused = try #require(
                failure(
                    try mailbox(
                        server,
                        kind,
                        "\(tls)user: holdfast, password_file: \(wrong), ca_file: \(certificates.authority)"
                    )
                )
            )
            #expect(refused.description.contains("535") && refused.isPermanent, "\(refused)")
            #expect(!refused.description.contains("not the secret"))
            let stranger = try mailbox(server, kind, "\(tls)user: holdfast, password_file: \(password)")
            #expect(failure(stranger)?.description.contains("certificate") == true)
            #expect(server.mails.count == 1)
        }
    }

    @Test func `a server without TLS gets nothing unless that is said`() throws {
        let server = try OutwardServer(.smtp)
        let demanding = try #require(failure(try mailbox(server, "smtp", "tls: required")))
        #expect(
            demanding.description.contains("STARTTLS") || demanding.description.contains("SSL"),
            "\(demanding)"
        )
        #expect(server.mails.isEmpty)
        #expect(failure(try mailbox(server, "smtp", "tls: none")) == nil)
        // On this machine itself it need not be said.
        #expect(failure(try mailbox(server, "smtp", "")) == nil)
        #expect(server.mails.count == 2 && server.mails[0]["tls"]?.bool == false)
        try server.answer("451 try again later")
        let later = try #require(failure(try mailbox(server, "smtp", "")))
        #expect(later.description.contains("refused it with 451: try again later"), "\(later)")
        #expect(!later.isPermanent)
    }

    @Test func `a subject cannot become a header`() throws {
        let server = try OutwardServer(.smtp)
        let mail = try mailbox(server, "smtp", "")
        #expect(failure(mail, message(subject: "lisbon\r\nBcc: all@example.org\u{202E}")) == nil)
        #expect(server.mails[0]["headers"]?["bcc"] == nil)
        #expect(
            server.mails[0]["subject"]?.string?.hasPrefix("lisbon  Bcc") == true
                || server.mails[0]["subject"]?.string?.hasPrefix("lisbon Bcc") == true
        )
    }
}
