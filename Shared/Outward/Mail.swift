import CLibCurl
import Glibc
import Posix

/// A mail as it goes over the wire (RFC 5322): text in UTF-8, its lines short, so that every server passes it on as it is.
enum Mail {
    static func text(_ message: AlarmMessage, _ mailbox: AlarmChannel.Mailbox) -> [UInt8] {
        let domain = mailbox.from.split(separator: "@").last.map(String.init) ?? "localhost"
        var lines = [
            "Date: \(date(Time.now()))",
            "From: Holdfast <\(mailbox.from)>",
            "To: \(mailbox.to.joined(separator: ",\r\n "))",
            "Subject: \(encodedWords(message.subject))",
            // The same when it is sent again.
            "Message-ID: <\(message.id)@\(domain)>",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: quoted-printable",
        ]
        if message.severity == .critical { lines += ["Importance: high", "X-Priority: 1"] }
        return Array((lines.joined(separator: "\r\n") + "\r\n\r\n" + quotedPrintable(message.text)).utf8)
    }

    static func send(_ message: AlarmMessage, _ mailbox: AlarmChannel.Mailbox, seconds: Double)
        throws(OutwardError)
    {
        let password = try mailbox.passwordFile.map { (file) throws(OutwardError) in try SecretFile.read(file)
        }
        var transfer = try Transfer.open(
            mailbox.server,
            place: mailbox.server,
            secrets: password.map { [$0] } ?? [],
            caFile: mailbox.caFile,
            seconds: seconds
        )
        let usage = mailbox.encryption == .required ? CURLUSESSL_ALL : CURLUSESSL_NONE
        try transfer.set(CURLOPT_USE_SSL, Int(usage.rawValue))
        if let user = mailbox.user, let password {
            try transfer.set(CURLOPT_USERNAME, user)
            try transfer.set(CURLOPT_PASSWORD, password)
        }
        try transfer.set(CURLOPT_MAIL_FROM, "<\(mailbox.from)>")
        try transfer.set(CURLOPT_MAIL_RCPT, list: mailbox.to.map { "<\($0)>" })
        let bytes = text(message, mailbox)
        try transfer.set(CURLOPT_UPLOAD, 1)
        try transfer.set(CURLOPT_INFILESIZE, bytes.count)
        transfer.upload(bytes)
        _ = try transfer.perform()
    }

    /// `Fri, 27 Nov 2026 19:02:12 +0000`.
    static func date(_ nanoseconds: Int64) -> String {
        let seconds = Int(nanoseconds / 1_000_000_000)
        let civil = Civil(seconds)
        let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return
            "\(days[max(0, seconds) / 86_400 % 7]), \(two(civil.day)) \(months[max(1, civil.month) - 1]) \(civil.year) "
            + "\(two(civil.hour)):\(two(civil.minute)):\(two(civil.second)) +0000"
    }

    /// Plain ASCII as it is; else words of RFC 2047, each at most 75 characters and of whole characters of the text.
    static func encodedWords(_ text: String) -> String {
        let line = plainLine(text)
        if line.unicodeScalars.allSatisfy(\.isASCII) && !line.contains("=?") { return line }
        var words: [String] = []
        var word = ""
        for scalar in line.unicodeScalars {
            var part = ""
            for byte in String(scalar).utf8 {
                let isPlain =
                    byte < 0x80 && (isLetterOrDigit(byte) || [0x2D, 0x2E, 0x2C, 0x3A].contains(byte))
                part +=
                    isPlain
                    ? String(UnicodeScalar(byte)) : byte == 0x20 ? "_" : "=\(hex([byte]).uppercased())"
            }
            if word.utf8.count + part.utf8.count > 60 {
                words.append(word)
                word = ""
            }
            word += part
        }
        return (words + [word]).map { "=?UTF-8?Q?\($0)?=" }.joined(separator: "\r\n ")
    }

    /// Quoted-printable (RFC 2045 §6.7): lines of at most 76 characters that end in CRLF.
    static func quotedPrintable(_ text: String) -> String {
        var result = ""
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            var column = 0
            let bytes = Array(line.utf8)
            for (index, byte) in bytes.enumerated() {
                // White space at a line's end would be lost; a dot at its start is SMTP's own, and libcurl's to care for.
                let isPlain =
                    (0x21...0x7E).contains(byte) && byte != 0x3D || byte == 0x20 && index + 1 < bytes.count
                let part = isPlain ? String(UnicodeScalar(byte)) : "=\(hex([byte]).uppercased())"
                if column + part.utf8.count > 75 {
                    result += "=\r\n"
                    column = 0
                }
                result += part
                column += part.utf8.count
            }
            result += "\r\n"
        }
        return result
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
    }
}
