/// A name or address with a TCP port, as in `nas.example:2222` or `[::]:2222`.
package struct Endpoint: Sendable, Equatable, CustomStringConvertible {
    /// Without brackets.
    package let host: String
    package let port: UInt16

    /// Where a coordinator listens unless told otherwise.
    package static let defaultPort: UInt16 = 2222

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// Reads `host`, `host:port`, `[v6]` and `[v6]:port`; nil for anything else, a bare IPv6 address with its
    /// several colons included.
    package init?(_ text: String) {
        let host: Substring
        let rest: Substring
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            host = text[text.index(after: text.startIndex)..<end]
            rest = text[text.index(after: end)...]
            guard host.allSatisfy({ $0.isHexDigit || ":.%".contains($0) || $0.isLetter }) else { return nil }
        } else {
            let colon = text.firstIndex(of: ":") ?? text.endIndex
            host = text[..<colon]
            rest = text[colon...]
            guard host.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-._".contains($0)) }) else {
                return nil
            }
        }
        guard !host.isEmpty else { return nil }
        if rest.isEmpty {
            self.init(host: String(host), port: Self.defaultPort)
        } else {
            guard rest.hasPrefix(":"), let port = UInt16(rest.dropFirst()), port > 0 else { return nil }
            self.init(host: String(host), port: port)
        }
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
