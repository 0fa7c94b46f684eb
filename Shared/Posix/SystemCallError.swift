import CLinux
import Glibc

/// A system call that failed: which call, on what, and why.
package struct SystemCallError: Error, Equatable, CustomStringConvertible {
    /// Name of the call as in its manual page, `openat` for one.
    package let call: String
    package let code: Int32
    /// What the call was about, escaped for display; nil when there is no name for it.
    package let subject: String?

    package init(_ call: String, errno code: Int32, _ subject: String? = nil) {
        self.call = call
        self.code = code
        self.subject = subject
    }

    /// The reason alone: `No space left on device`.
    package var reason: String { describeErrno(code) }

    package var description: String {
        guard let subject else { return "\(call): \(reason)" }
        return "\(call) \(subject): \(reason)"
    }
}

/// The C library's sentence for an errno value.
package func describeErrno(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard let base = buffer.baseAddress, clinux_strerror(code, base, buffer.count) == 0 else {
            return "error \(code)"
        }
        return String(cString: base)
    }
}

/// Repeats `call` while a signal interrupts it; any other failure (-1) is thrown.
package func retryingOnInterrupt<I: FixedWidthInteger>(
    _ name: String,
    _ subject: @autoclosure () -> String? = nil,
    _ call: () -> I
) throws(SystemCallError) -> I {
    while true {
        let result = call()
        if result != -1 { return result }
        let code = errno
        if code != EINTR { throw SystemCallError(name, errno: code, subject()) }
    }
}

/// Shows bytes of a name: UTF-8 as it is, control characters, backslashes and invalid bytes as `\xNN`.
package func escaped(_ bytes: some Collection<UInt8>) -> String {
    var result = ""
    for part in String(decoding: bytes, as: UTF8.self).unicodeScalars.first(where: { $0 == "\u{FFFD}" })
        == nil
        ? [Array(bytes)] : bytes.map({ [$0] })
    {
        if part.count == 1, let byte = part.first, byte >= 0x80 {
            result += hexEscape(byte)
            continue
        }
        for scalar in String(decoding: part, as: UTF8.self).unicodeScalars {
            if scalar.value < 0x20 || scalar.value == 0x7F || scalar == "\\" {
                result += hexEscape(UInt8(scalar.value))
            } else {
                result.unicodeScalars.append(scalar)
            }
        }
    }
    return result
}

private func hexEscape(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16)
    return "\\x" + (digits.count == 1 ? "0" + digits : digits)
}
