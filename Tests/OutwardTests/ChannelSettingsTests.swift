import Configuration
import Outward
import Posix
import TestSupport
import Testing

private func refusal(_ text: String) -> String {
    do { return "accepted: \(try channel(text))" } catch { return "\(error)" }
}

@Suite struct ChannelSettingsTests {
    @Test func `what is wrong is named with its line, and no secret`() {
        #expect(refusal("{}").contains("exactly one of"))
        #expect(
            refusal("ntfy: { url: 'https://a/b' }\nwebhook: { url: 'https://a/b' }").contains("here are 2")
        )
        let secret = refusal("webhook:\n  url: https://me:hunter2@/x\n")
        #expect(
            secret.contains("test.yaml:2") && secret.contains("webhook.url") && !secret.contains("hunter2")
        )
        #expect(refusal("ntfy: { url: 'https://ntfy.sh/' }").contains("must end in the topic"))
        #expect(refusal("ntfy: { url: 'ftp://ntfy.sh/x' }").contains("must be a URL"))
        #expect(
            refusal("ntfy: { url: 'https://ntfy.sh/x', tokenfile: /x }").contains(
                "did you mean `ntfy.token_file`"
            ) || refusal("ntfy: { url: 'https://ntfy.sh/x', tokenfile: /x }").contains("token_file")
        )
        #expect(refusal("gotify: { url: 'https://g' }").contains("`gotify.token_file` is missing"))
        #expect(refusal("discord: { url_file: relative }").contains("starts with /"))
        let mail = "from: a@b, to: [c@d]"
        #expect(refusal("email: { server: 'mail.example', \(mail) }").contains("smtps://mail.example:465"))
        #expect(refusal("email: { server: 'smtps://m', from: a@b }").contains("`email.to` is missing"))
        #expect(
            refusal("email: { server: 'smtps://m', from: a@b, to: ['x\\r\\ny@z'] }").contains(
                "must be addresses"
            )
        )
        #expect(refusal("email: { server: 'smtps://m', \(mail), user: x }").contains("together"))
        #expect(refusal("email: { server: 'smtps://m', \(mail), tls: none }").contains("smtps:// is TLS"))
        #expect(refusal("email: { server: 'smtp://m', \(mail), tls: maybe }").contains("required or none"))
    }

    @Test func `TLS is required unless the server is this machine`() throws {
        func encryption(_ server: String) throws -> AlarmChannel.Mailbox.Encryption? {
            guard case .email(let mailbox) = try channel("email: { server: '\(server)', from: a@b, to: c@d }")
            else {
                return nil
            }
            return mailbox.encryption
        }
        for server in [
            "smtp://mail.example:587", "smtps://127.0.0.1:465", "smtp://127.evil.example", "smtp://10.0.0.1",
        ] {
            #expect(try encryption(server) == .required, "\(server)")
        }
        for server in ["smtp://127.0.0.1:25", "smtp://localhost", "smtp://[::1]:25"] {
            #expect(try encryption(server) == AlarmChannel.Mailbox.Encryption.none, "\(server)")
        }
    }

    @Test func `a secret that everybody can read is refused`() throws {
        let scratch = try Scratch()
        let token = scratch.at("token")
        let ntfy = try channel("ntfy: { url: 'https://ntfy.sh/x', token_file: \(token) }")
        #expect(ntfy.problem()?.description == "\(token) cannot be read: No such file or directory")
        try Files.writeAtomically(Array("tk\n".utf8), to: token, mode: 0o644)
        #expect(ntfy.problem()?.description == "\(token) can be read by everybody here: chmod o-r it")
        try Files.writeAtomically(Array("\n\n".utf8), to: token)
        #expect(ntfy.problem() != nil)
        try Files.writeAtomically(Array("tk\n".utf8), to: token, mode: 0o640)
        #expect(ntfy.problem() == nil)
        let url = scratch.at("url")
        try Files.writeAtomically(Array("not a URL\n".utf8), to: url)
        let problem = try channel("discord: { url_file: \(url) }").problem()
        #expect(problem?.description.contains("does not begin with a URL") == true)
        #expect(problem?.description.contains("not a URL") == false)
    }

    @Test func `an address gives away its place alone`() throws {
        let address = try #require(WebAddress("https://hc-ping.com:8443/secret-uuid?create=1"))
        #expect("\(address)" == "https://hc-ping.com:8443")
        #expect(
            address.adding("start", parameter: "rid=7")
                == "https://hc-ping.com:8443/secret-uuid/start?create=1&rid=7"
        )
        #expect(address.adding(nil) == address.text)
        #expect(WebAddress("https://me:hunter2@hc.example/x").map { "\($0)" } == "https://hc.example")
        #expect(WebAddress("http://h")?.adding("fail", parameter: "rid=7") == "http://h/fail?rid=7")
        for text in [
            "h", "http://", "http://u@", "http://a@b@h", "http://h /", "http://h/\n", "gopher://h",
            "http://h/#x",
        ] {
            #expect(WebAddress(text) == nil, "\(text)")
        }
    }

    @Test func `lines are cut whole, and a single long one somewhere`() {
        #expect(cut("a\nb", bytes: 10) == "a\nb")
        let text = (1...100).map { "line \($0)" }.joined(separator: "\n")
        let short = cut(text, bytes: 200)
        #expect(short.utf8.count <= 200 && short.hasPrefix("line 1\nline 2\n"))
        let one = cut(String(repeating: "ä", count: 500), bytes: 200)
        #expect(one.utf8.count <= 200 && one.hasPrefix("ää"))
    }
}
