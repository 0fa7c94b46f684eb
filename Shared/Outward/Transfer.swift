import CLibCurl
import Posix

/// One exchange with an HTTP or SMTP server through libcurl: an easy handle with its lists, freed at the end. It
/// blocks its thread, at most as long as it was allowed.
///
/// Certificates are always verified, redirects never followed, and no more than 64 KiB of an answer are kept.
struct Transfer: ~Copyable {
    struct Answer {
        /// Of HTTP, or the last one of SMTP.
        var status: Int
        var body: [UInt8]
        /// Seconds; 0 when it named none.
        var retryAfter: Int64
    }

    private static let bodyLimit = 64 << 10

    private let handle: UnsafeMutableRawPointer
    private var lists: [UnsafeMutablePointer<curl_slist>]
    /// What the callbacks read and write.
    private let exchange: Exchange
    private let place: String
    private let secrets: [String]

    private init(_ handle: UnsafeMutableRawPointer, place: String, secrets: [String]) {
        self.handle = handle
        self.place = place
        // What is shorter would strike out words.
        self.secrets = secrets.filter { $0.utf8.count >= 4 }.sorted { $0.utf8.count > $1.utf8.count }
        lists = []
        exchange = Exchange()
    }

    /// A transfer with everything set that is the same for all.
    ///
    /// - Parameters:
    ///   - place: Scheme, host and port, for messages.
    ///   - secrets: What no message may show.
    ///   - caFile: Certificates of the authorities to trust instead of the system's.
    ///   - seconds: For all of it; a third of it, at most 15, for the connection.
    static func open(_ url: String, place: String, secrets: [String], caFile: String?, seconds: Double)
        throws(OutwardError) -> Transfer
    {
        if let reason = ccurl_load() { throw .library(String(cString: reason)) }
        guard let handle = ccurl_easy_init() else { throw .library("out of memory") }
        let transfer = Transfer(handle, place: place, secrets: secrets)
        try transfer.configure(url, caFile, seconds)
        return transfer
    }

    private func configure(_ url: String, _ caFile: String?, _ seconds: Double) throws(OutwardError) {
        try set(CURLOPT_URL, url)
        try set(CURLOPT_PROTOCOLS_STR, place.hasPrefix("smtp") ? "smtp,smtps" : "http,https")
        try set(CURLOPT_USERAGENT, "holdfast")
        // Threads and signals do not go together.
        try set(CURLOPT_NOSIGNAL, 1)
        try set(CURLOPT_TIMEOUT_MS, Int(seconds * 1000))
        try set(CURLOPT_CONNECTTIMEOUT_MS, Int(min(15, seconds / 3) * 1000))
        try set(CURLOPT_FOLLOWLOCATION, 0)
        try set(CURLOPT_SSL_VERIFYPEER, 1)
        try set(CURLOPT_SSL_VERIFYHOST, 2)
        try set(CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2))
        if let caFile {
            guard Files.exists(caFile) else { throw .file(path: caFile, reason: "is missing") }
            try set(CURLOPT_CAINFO, caFile)
            // Else the system's folder of certificates would count too.
            try set(CURLOPT_CAPATH, nil)
        }
        try check(ccurl_set_pointer(handle, CURLOPT_ERRORBUFFER, exchange.errorText))
        let context = Unmanaged.passUnretained(exchange).toOpaque()
        try check(ccurl_set_callback(handle, CURLOPT_WRITEFUNCTION, takeBody))
        try check(ccurl_set_pointer(handle, CURLOPT_WRITEDATA, context))
        try check(ccurl_set_callback(handle, CURLOPT_HEADERFUNCTION, takeHead))
        try check(ccurl_set_pointer(handle, CURLOPT_HEADERDATA, context))
        try check(ccurl_set_callback(handle, CURLOPT_READFUNCTION, giveBody))
        try check(ccurl_set_pointer(handle, CURLOPT_READDATA, context))
    }

    deinit {
        ccurl_easy_cleanup(handle)
        for list in lists { ccurl_slist_free_all(list) }
    }

    func set(_ option: CURLoption, _ value: Int) throws(OutwardError) {
        try check(ccurl_set_long(handle, option, value))
    }

    /// libcurl keeps a copy; nil is its NULL.
    func set(_ option: CURLoption, _ value: String?) throws(OutwardError) {
        try check(ccurl_set_text(handle, option, value))
    }

    mutating func set(_ option: CURLoption, list texts: [String]) throws(OutwardError) {
        var list: UnsafeMutablePointer<curl_slist>?
        for text in texts {
            guard let longer = ccurl_slist_append(list, text) else {
                ccurl_slist_free_all(list)
                throw .library("out of memory")
            }
            list = longer
        }
        guard let list else { return }
        lists.append(list)
        try check(ccurl_set_pointer(handle, option, list))
    }

    /// What the other side is given: the body of a POST, or a mail.
    func upload(_ bytes: [UInt8]) { exchange.outgoing = bytes }

    /// Does it.
    ///
    /// - Throws: `transfer` without an answer; every answer is given back, also a refusal of HTTP.
    func perform() throws(OutwardError) -> Answer {
        let code = ccurl_easy_perform(handle)
        let status = ccurl_get_long(handle, CURLINFO_RESPONSE_CODE)
        if code != CURLE_OK && !exchange.isFull {
            // SMTP's own refusals are errors of libcurl, whose sentence leaves out what the server said.
            if place.hasPrefix("smtp") && status >= 400 {
                throw .refused(place: place, status: status, said: clean(exchange.refusal), retryAfter: 0)
            }
            var sentence = String(cString: exchange.errorText)
            if sentence.isEmpty {
                sentence = ccurl_easy_strerror(code).map { String(cString: $0) } ?? "failed"
            }
            throw .transfer(place: place, reason: clean(Array(sentence.utf8)))
        }
        return Answer(
            status: status,
            body: exchange.incoming,
            retryAfter: Int64(ccurl_get_offset(handle, CURLINFO_RETRY_AFTER))
        )
    }

    /// The first line of what somebody else said, without control characters and secrets, at most 200 characters.
    func clean(_ bytes: [UInt8]) -> String {
        let text = String(decoding: bytes.prefix(4096), as: UTF8.self)
        var line = plainLine(String(text.split(whereSeparator: \.isNewline).first ?? ""))
        for secret in secrets { line = line.replacing(secret, with: "***") }
        return line.count > 200 ? "\(line.prefix(199))…" : line
    }

    private func check(_ code: CURLcode) throws(OutwardError) {
        guard code != CURLE_OK else { return }
        throw .library(ccurl_easy_strerror(code).map { String(cString: $0) } ?? "an option was not taken")
    }

    fileprivate final class Exchange {
        var outgoing: [UInt8] = []
        var sent = 0
        var incoming: [UInt8] = []
        /// The line of SMTP that counts: the last refusal, without its number.
        var refusal: [UInt8] = []
        var isFull = false
        /// libcurl writes its sentence in here.
        let errorText: UnsafeMutablePointer<CChar>

        init() {
            errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
            errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
        }
        deinit { errorText.deallocate() }

        func takeHead(_ line: UnsafeRawBufferPointer) {
            // What comes after it is the answer to QUIT.
            guard let first = line.first, first == UInt8(ascii: "4") || first == UInt8(ascii: "5") else {
                return
            }
            refusal = Array(line.dropFirst(4).prefix(1024))
        }

        func take(_ bytes: UnsafeRawBufferPointer) -> Int {
            let room = Transfer.bodyLimit - incoming.count
            incoming.append(contentsOf: bytes.prefix(room))
            isFull = bytes.count > room
            // Another number than that of the bytes ends the transfer.
            return isFull ? 0 : bytes.count
        }
    }
}

private func exchange(_ context: UnsafeMutableRawPointer?) -> Transfer.Exchange? {
    context.map { Unmanaged<Transfer.Exchange>.fromOpaque($0).takeUnretainedValue() }
}

private func takeBody(
    _ bytes: UnsafeMutablePointer<CChar>?,
    _ size: Int,
    _ count: Int,
    _ context: UnsafeMutableRawPointer?
)
    -> Int
{
    exchange(context)?.take(UnsafeRawBufferPointer(start: bytes, count: size * count)) ?? 0
}

private func takeHead(
    _ bytes: UnsafeMutablePointer<CChar>?,
    _ size: Int,
    _ count: Int,
    _ context: UnsafeMutableRawPointer?
)
    -> Int
{
    let line = UnsafeRawBufferPointer(start: bytes, count: size * count)
    exchange(context)?.takeHead(line)
    return line.count
}

private func giveBody(
    _ bytes: UnsafeMutablePointer<CChar>?,
    _ size: Int,
    _ count: Int,
    _ context: UnsafeMutableRawPointer?
)
    -> Int
{
    guard let exchange = exchange(context), let bytes else { return 0 }
    let part = exchange.outgoing[exchange.sent...].prefix(size * count)
    UnsafeMutableRawBufferPointer(start: bytes, count: part.count).copyBytes(from: part)
    exchange.sent += part.count
    return part.count
}
