import Posix

/// Why a capture can't go on: what happened, on what, and what to do. Never holds a secret.
package struct CaptureFailure: Error, Equatable, CustomStringConvertible {
    package enum Kind: Sendable {
        /// Docker, containers or settings: Immich was not found.
        case discovery
        case dump
        /// One of Immich's folders is missing or lacks its marker.
        case folders
        /// SIGTERM.
        case stopped
    }

    package let kind: Kind
    package let description: String

    package init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }
}

/// Text that may travel in a frame and stand in a log: no control characters, at most `limit` bytes.
func clean(_ text: String, limit: Int = 4000) -> String {
    var result = ""
    var bytes = 0
    for scalar in text.unicodeScalars {
        bytes += UTF8.width(scalar)
        if bytes > limit { break }
        let isControl = scalar.value < 0x20 && scalar != "\n" || scalar.value == 0x7F
        result.unicodeScalars.append(isControl ? " " : scalar)
    }
    return result
}

/// The last lines of what a program printed to stderr, for a message.
func lastLines(_ bytes: some Collection<UInt8>, _ count: Int = 5) -> String {
    let lines = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline)
        .map { $0.drop { $0 == " " } }.filter { !$0.isEmpty }
    return clean(lines.suffix(count).joined(separator: "; "))
}
