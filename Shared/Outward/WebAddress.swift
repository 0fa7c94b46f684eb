/// An `http://` or `https://` URL. Its path and query often hold a token, and before the host may stand a user and a
/// password, so only `place` is ever shown.
package struct WebAddress: Sendable, Equatable, CustomStringConvertible {
    /// The whole of it: a secret.
    package let text: String
    /// Scheme, host and port: `https://ntfy.example:8443`.
    package let place: String
    /// From the `/` behind the host on, query included; may be empty.
    let path: String
    /// What stands before the host's `@`; may be empty.
    private let login: String

    /// Nil unless it is one, in ASCII and without white space.
    package init?(_ text: String) {
        guard let scheme = ["https://", "http://"].first(where: { text.hasPrefix($0) }),
            text.unicodeScalars.allSatisfy({ $0.isASCII && $0.value > 0x20 && $0.value != 0x7F })
        else { return nil }
        let rest = text.dropFirst(scheme.count)
        let authority = rest.prefix { !"/?#".contains($0) }
        let parts = authority.split(separator: "@", omittingEmptySubsequences: false)
        guard let host = parts.last, !host.isEmpty, parts.count <= 2, !text.contains("#") else { return nil }
        self.text = text
        place = scheme + host
        path = String(rest.dropFirst(authority.count))
        login = parts.count == 2 ? String(parts[0]) : ""
    }

    /// The place alone, so that one that is interpolated gives nothing away.
    package var description: String { place }

    /// The address with `word` as one more part of its path, and `parameter` in its query.
    package func adding(_ word: String?, parameter: String? = nil) -> String {
        var parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).map(
            String.init
        )
        if let word {
            while parts[0].hasSuffix("/") { parts[0].removeLast() }
            parts[0] += "/\(word)"
        }
        if let parameter {
            if parts.count == 1 { parts.append(parameter) } else { parts[1] += "&\(parameter)" }
        }
        return parts.joined(separator: "?")
    }

    /// What no message may show: the path, when it is one, its longer parts, and the login.
    var secrets: [String] {
        let parts = path.split(whereSeparator: { "/?&=".contains($0) }).map(String.init).filter {
            $0.count >= 8
        }
        return (path.count > 1 ? [path] : []) + parts + login.split(separator: ":").map(String.init)
    }
}
