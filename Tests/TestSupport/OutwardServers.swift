package import Glibc
package import JSON
import Posix

/// A certificate authority of a test's own and a certificate of it for 127.0.0.1 and localhost, made by openssl(1).
package struct TestCertificates: Sendable {
    /// The authority's certificate.
    package let authority: String
    package let certificate: String
    package let key: String

    /// - Parameter folder: Where the files go; the names begin with `name`.
    package init(in folder: String, name: String = "test") throws {
        let base = "\(folder)/\(name)"
        authority = "\(base)-ca.pem"
        certificate = "\(base).pem"
        key = "\(base).key"
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        try Self.openssl(
            [
                "req", "-x509", "-subj", "/CN=Holdfast test \(name)", "-days", "2", "-keyout",
                "\(base)-ca.key", "-out", authority,
            ]
                + curve
        )
        try Self.openssl(["req", "-subj", "/CN=localhost", "-keyout", key, "-out", "\(base).csr"] + curve)
        try Files.writeAtomically(
            Array("subjectAltName=IP:127.0.0.1,DNS:localhost\n".utf8),
            to: "\(base).ext"
        )
        try Self.openssl([
            "x509", "-req", "-in", "\(base).csr", "-CA", authority, "-CAkey", "\(base)-ca.key",
            "-CAcreateserial",
            "-days", "2", "-extfile", "\(base).ext", "-out", certificate,
        ])
    }

    private static func openssl(_ arguments: [String]) throws {
        let run = try ChildProcess.run(["openssl"] + arguments)
        guard run.end == .exit(0) else {
            throw PostgresServer.Missing(
                description: "openssl: \(String(decoding: run.error, as: UTF8.self))"
            )
        }
    }
}

/// A server of `Tests/Fixtures/outward`, in a process and a folder of its own, that writes down what it is given.
package final class OutwardServer {
    package enum Kind: Sendable {
        case http
        case https(TestCertificates)
        case smtp
        /// With STARTTLS, without which it takes nothing.
        case startTLS(TestCertificates, user: String? = nil, password: String? = nil)
        case smtps(TestCertificates, user: String? = nil, password: String? = nil)
    }

    package let folder: String
    package private(set) var port = 0
    private let kind: Kind
    private var process: pid_t?

    package init(_ kind: Kind) throws {
        self.kind = kind
        folder = "/tmp/holdfast-out-\(randomHex(4))"
        try Files.makeDirectories(folder)
        try start()
    }

    deinit {
        stop()
        try? Files.removeTree(folder)
    }

    /// Starts it, after `stop` on the port that it had.
    package func start() throws {
        let scripts = Files.parent(Files.parent(#filePath)) + "/Fixtures/outward"
        func login(_ certificates: TestCertificates, _ user: String?, _ password: String?) -> [String] {
            [certificates.certificate, certificates.key] + [user, password].compactMap { $0 }
        }
        let arguments =
            switch kind {
            case .http: ["\(scripts)/http-server", folder, "\(port)"]
            case .https(let certificates):
                ["\(scripts)/http-server", folder, "\(port)", certificates.certificate, certificates.key]
            case .smtp: ["\(scripts)/smtp-server", folder, "plain"]
            case .startTLS(let certificates, let user, let password):
                ["\(scripts)/smtp-server", folder, "starttls"] + login(certificates, user, password)
            case .smtps(let certificates, let user, let password):
                ["\(scripts)/smtp-server", folder, "tls"] + login(certificates, user, password)
            }
        try Files.remove(folder + "/port")
        let log = try FileDescriptor(open: folder + "/log", O_WRONLY | O_CREAT | O_APPEND, mode: 0o600)
        process = try ChildProcess(
            // Debian's, which has Debian's aiosmtpd.
            ["/usr/bin/python3"] + arguments,
            output: .descriptor(log.raw),
            error: .descriptor(log.raw)
        ).pid
        for _ in 0..<1500 {
            if let text = try? Files.read(folder + "/port"),
                let number = Int(String(decoding: text, as: UTF8.self))
            {
                port = number
                return
            }
            Time.sleep(seconds: 0.02)
        }
        let said = (try? Files.read(folder + "/log")) ?? []
        throw PostgresServer.Missing(description: "no test server: \(String(decoding: said, as: UTF8.self))")
    }

    package func stop() {
        guard let pid = process else { return }
        process = nil
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
    }

    /// What it answers from now on; nil for its usual.
    package func answer(_ text: String?) throws {
        guard let text else { return try Files.remove(folder + "/answer") }
        try Files.writeAtomically(Array(text.utf8), to: folder + "/answer")
    }

    /// The HTTP requests so far, in order.
    package var requests: [JSON] { lines("requests") }

    /// The mails so far, in order.
    package var mails: [JSON] { lines("mails") }

    private func lines(_ name: String) -> [JSON] {
        let text = (try? Files.read("\(folder)/\(name)")) ?? []
        // The last one may not be whole yet.
        return text.split(separator: 0x0A).compactMap { try? JSON(parsing: Array($0)) }
    }

    /// Writes a file that only its owner may read, and gives its path.
    package func file(_ name: String, _ text: String, mode: mode_t = 0o600) throws -> String {
        let path = "\(folder)/\(name)"
        try Files.writeAtomically(Array("\(text)\n".utf8), to: path, mode: mode)
        return path
    }
}
