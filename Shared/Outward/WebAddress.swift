/// An `http://` or `https://` URL. Its path and query often hold a token, so only `place` is ever shown.
package struct WebAddress: Sendable, Equatable, CustomStringConvertible {
    /// The whole of it: a secret.
    package let text: String
    /// Scheme, host and port: `https://ntfy.example:8443`.
    package let place: String
    /// From the `/` behind the host on, query included; may be empty.
    let path: String

    /// Nil unless it is one, without white space and without a user or password in it.
    package init?(_ text: String) {
        guard let scheme = ["https://", "http://"].first(where: { text.hasPrefix($0) }),
            text.unicodeScalars.allSatisfy({ $0.isASCII && $0.value > 0x20 && $0.value != 0x7F })
        else { return nil }
        let rest = text.dropFirst(scheme.count)
        let host = rest.prefix { !"/?#".contains($0) }
        guard !host.isEmpty, !host.contains("@"), !text.contains("#") else { return nil }
        self.text = text
        place = scheme + host
        path = String(rest.dropFirst(host.count))
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

    /// What no message may show: the path, when it is one, and its longer parts.
    var secrets: [String] {
        let parts = path.split(whereSeparator: { "/?&=".contains($0) }).map(String.init).filter {
            $0.count >= 8
        }
        return (path.count > 1 ? [path] : []) + parts
    }
}
