/// Why something did not go out. Places are scheme, host and port: a path or a query may hold a token, so no
/// description shows one; secrets that the other side repeats are struck out.
package enum OutwardError: Error, Equatable, CustomStringConvertible {
    /// libcurl is not installed or cannot be used.
    case library(String)
    /// A file with a secret or with certificates cannot be used.
    case file(path: String, reason: String)
    /// No answer came: the name is not known, nobody listens, the certificate is not good, the time was over.
    case transfer(place: String, reason: String)
    /// The other side answered that it does not take it.
    ///
    /// - status: Of HTTP or SMTP.
    /// - said: The answer's first line; may be empty.
    /// - retryAfter: Seconds that it asked to wait; 0 where it asked for none.
    case refused(place: String, status: Int, said: String, retryAfter: Int64)

    /// Whether trying the same again will hardly help: somebody has to change something.
    package var isPermanent: Bool {
        switch self {
        case .library, .file: true
        case .transfer: false
        case .refused(let place, let status, _, _):
            place.hasPrefix("smtp")
                ? status >= 500 : (300..<500).contains(status) && status != 408 && status != 429
        }
    }

    package var retryAfter: Int64 {
        if case .refused(_, _, _, let seconds) = self { return seconds }
        return 0
    }

    package var description: String {
        switch self {
        case .library(let reason): return "libcurl cannot be used (\(reason)): apt-get install libcurl4"
        case .file(let path, let reason): return "\(path) \(reason)"
        case .transfer(let place, let reason): return "\(place): \(reason)"
        case .refused(let place, let status, let said, _):
            let advice =
                switch status {
                case 300..<400: "; it sends elsewhere, which is not followed: give the address that is meant"
                case 401, 403, 535: "; is the token or password right?"
                case 404, 410: "; is the address right?"
                default: ""
                }
            return "\(place) refused it with \(status)\(said.isEmpty ? "" : ": \(said)")\(advice)"
        }
    }
}
