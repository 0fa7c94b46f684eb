import CMicroHTTPD
import Glibc
package import Posix

/// Answers `GET /metrics` over HTTP, through GNU libmicrohttpd. Owns the daemon, whose one thread it is that calls
/// `page`; one request after the other. Nothing can be changed or asked for through it.
package final class MetricsServer {
    /// What the daemon's thread works on.
    private final class Page: Sendable {
        let text: @Sendable () -> String
        init(_ text: @escaping @Sendable () -> String) { self.text = text }
    }

    private let daemon: OpaquePointer
    private let page: Unmanaged<Page>
    /// The port that it listens on.
    package let port: UInt16

    /// - Parameters:
    ///   - address: Numeric; a loopback address unless the network may read the figures.
    ///   - page: Gives the figures in Prometheus' text format. It may block.
    /// - Throws: `SystemCallError` when the port is taken.
    package init(address: String, port: UInt16, _ page: @escaping @Sendable () -> String)
        throws(SystemCallError)
    {
        let listener = try TCPListener(address: address, port: port)
        self.port = listener.port
        let held = Unmanaged.passRetained(Page(page))
        let socket = listener.release()
        guard let daemon = cmicrohttpd_start(socket, Self.answer, held.toOpaque()) else {
            let code = errno
            close(socket)
            held.release()
            throw SystemCallError("start the HTTP server on", errno: code, "\(address) port \(port)")
        }
        self.daemon = daemon
        self.page = held
    }

    deinit {
        // Waits for the answer under way.
        MHD_stop_daemon(daemon)
        page.release()
    }

    private static let answer: MHD_AccessHandlerCallback = {
        context,
        connection,
        url,
        method,
        _,
        _,
        size,
        state in
        // The first call has only the headers; answering a body before it came would close the connection on it.
        if let state, state.pointee == nil {
            state.pointee = context
            return .YES
        }
        if let size, size.pointee != 0 {
            size.pointee = 0
            return .YES
        }
        guard let context, let connection, let url, let method else { return .NO }
        let path = String(cString: url)
        let verb = String(cString: method)
        guard verb == "GET" || verb == "HEAD" else {
            return reply(connection, 405, "text/plain", "only GET and HEAD are answered\n")
        }
        guard path == "/metrics" else {
            return reply(connection, 404, "text/plain", "the figures are at /metrics\n")
        }
        let text = Unmanaged<Page>.fromOpaque(context).takeUnretainedValue().text()
        return reply(connection, 200, Exposition.contentType, text)
    }

    private static func reply(_ connection: OpaquePointer, _ status: UInt32, _ type: String, _ text: String)
        -> MHD_Result
    {
        var bytes = Array(text.utf8)
        guard let response = MHD_create_response_from_buffer(bytes.count, &bytes, .RESPMEM_MUST_COPY) else {
            return .NO
        }
        defer { MHD_destroy_response(response) }
        MHD_add_response_header(response, "Content-Type", type)
        if status == 405 { MHD_add_response_header(response, "Allow", "GET, HEAD") }
        return MHD_queue_response(connection, status, response)
    }
}
