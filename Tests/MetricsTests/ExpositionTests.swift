import Glibc
import Metrics
import Posix
import TestSupport
import Testing

@Suite struct ExpositionTests {
    @Test func `what stands in a label or a help is spelled so that Prometheus reads it back`() {
        var page = Exposition()
        page.add(
            "holdfast_test_bytes",
            "A line\nend and a \\ in it",
            .gauge,
            [([("host", "a\"b\\c\nd")], 1), ([], 0.25)]
        )
        #expect(
            page.text == """
                # HELP holdfast_test_bytes A line\\nend and a \\\\ in it
                # TYPE holdfast_test_bytes gauge
                holdfast_test_bytes{host="a\\"b\\\\c\\nd"} 1
                holdfast_test_bytes 0.25

                """
        )
    }

    @Test func `a moment and a size keep every digit, and what is not a number says so`() {
        var page = Exposition()
        page.add(
            "holdfast_x",
            "x",
            .gauge,
            [1_795_806_000, 4_503_599_627_370_497, .nan, .infinity, -0.5].map { ([], $0) }
        )
        let values = page.text.split(separator: "\n").dropFirst(2).map { $0.split(separator: " ")[1] }
        #expect(values == ["1795806000", "4503599627370497", "NaN", "+Inf", "-0.5"])
    }

    @Test func `a family without samples is not there at all`() {
        var page = Exposition()
        page.add("holdfast_x", "x", .gauge, [])
        #expect(page.text.isEmpty)
    }
}

@Suite struct MetricsServerTests {
    private func curl(_ port: UInt16, _ arguments: String...) throws -> String {
        let run = try ChildProcess.run(["curl", "-s", "-i", "--max-time", "20"] + arguments)
        return String(decoding: run.output, as: UTF8.self)
    }

    @Test func `it answers GET and HEAD of its one page and refuses all else`() throws {
        let server = try MetricsServer(address: "127.0.0.1", port: 0) { "holdfast_up 1\n" }
        let place = "http://127.0.0.1:\(server.port)"
        let page = try curl(server.port, place + "/metrics")
        #expect(page.hasPrefix("HTTP/1.1 200") && page.hasSuffix("\r\n\r\nholdfast_up 1\n"))
        #expect(page.contains("Content-Type: text/plain; version=0.0.4"))
        #expect(try curl(server.port, "-I", place + "/metrics").hasPrefix("HTTP/1.1 200"))
        #expect(try curl(server.port, place + "/").hasPrefix("HTTP/1.1 404"))
        #expect(try curl(server.port, place + "/metrics/../x").hasPrefix("HTTP/1.1 404"))
        #expect(try curl(server.port, "-d", "body", place + "/metrics").hasPrefix("HTTP/1.1 405"))
        #expect(try curl(server.port, "-X", "DELETE", place + "/metrics").hasPrefix("HTTP/1.1 405"))
    }

    @Test func `a peer that says nothing or nonsense does not keep others from the page`() throws {
        let server = try MetricsServer(address: "127.0.0.1", port: 0) { "x 1\n" }
        let nonsense = try ChildProcess(
            [
                "/bin/bash", "-c",
                "exec 3<>/dev/tcp/127.0.0.1/\(server.port); printf 'nonsense' >&3; sleep 30",
            ],
            output: .nothing,
            error: .nothing
        )
        defer {
            kill(nonsense.pid, SIGKILL)
            waitpid(nonsense.pid, nil, 0)
        }
        #expect(try curl(server.port, "http://127.0.0.1:\(server.port)/metrics").hasSuffix("x 1\n"))
    }

    @Test func `a port that is taken is named`() throws {
        let server = try MetricsServer(address: "127.0.0.1", port: 0) { "" }
        #expect(throws: SystemCallError.self) {
            try MetricsServer(address: "127.0.0.1", port: server.port) { "" }
        }
    }
}
