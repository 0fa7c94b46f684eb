import CLibCurl
import JSON
import Posix

/// Requests over HTTP.
package enum HTTP {
    /// Sends `body` with POST, or asks with GET when there is none, and gives the answer's body, at most 64 KiB.
    ///
    /// - Parameters:
    ///   - url: What is really asked for; it lies at `address`, which is what messages show.
    ///   - headers: Whole lines, without line ends in them.
    ///   - secrets: What no message may show, beside the path of `address`.
    ///   - seconds: For all of it.
    /// - Throws: `refused` for every status but 200 to 299.
    @discardableResult
    package static func send(
        _ body: [UInt8]?,
        to url: String,
        at address: WebAddress,
        headers: [String] = [],
        secrets: [String] = [],
        caFile: String? = nil,
        seconds: Double = 45
    ) throws(OutwardError) -> [UInt8] {
        var transfer = try Transfer.open(
            url,
            place: address.place,
            secrets: secrets + address.secrets,
            caFile: caFile,
            seconds: seconds
        )
        if let body {
            try transfer.set(CURLOPT_POST, 1)
            try transfer.set(CURLOPT_POSTFIELDSIZE, body.count)
            transfer.upload(body)
        }
        // libcurl would ask before larger bodies, and many servers never say that they may come.
        try transfer.set(CURLOPT_HTTPHEADER, list: headers + ["Expect:"])
        let answer = try transfer.perform()
        if (200..<300).contains(answer.status) { return answer.body }
        // Discord says it in its body.
        let json = try? JSON(parsing: answer.body)
        let wait =
            answer.retryAfter > 0
            ? answer.retryAfter
            : Int64((json?["retry_after"]?.double ?? 0).rounded(.up).clamped(to: 0...86_400))
        let said = json.flatMap {
            $0["message"]?.string ?? $0["error"]?.string ?? $0["errorDescription"]?.string
        }
        throw .refused(
            place: address.place,
            status: answer.status,
            said: transfer.clean(said.map { Array($0.utf8) } ?? answer.body),
            retryAfter: wait
        )
    }
}

extension Double {
    fileprivate func clamped(to range: ClosedRange<Double>) -> Double {
        isFinite ? min(range.upperBound, max(range.lowerBound, self)) : range.lowerBound
    }
}
