import Glibc
package import Immich
import Posix

/// One run of PostgreSQL's dump program, streamed; nothing of it touches this machine's disks.
///
/// The program runs below a small shell whose stdin is a lifeline: it ends when this process does, however that
/// happens, and then the shell ends the program. Killing `docker exec` alone would leave what runs in the container
/// alive, with locks on every table.
struct DumpRun: ~Copyable {
    private let database: Database
    private let session: String
    private let child: ChildProcess
    private let output: FileDescriptor
    private let lifeline: FileDescriptor
    private let errors: Tail
    private let errorReader: Posix.Thread
    private let seconds: Int

    /// Starts the dump.
    ///
    /// - Parameters:
    ///   - session: `application_name` of its connections, by which what is left of them is found and ended.
    ///   - stall: Seconds without a byte after which it is given up.
    init(
        _ database: Database,
        _ program: DumpProgram,
        facts: Database.Facts,
        session: String,
        stall: Int = 1800
    )
        throws
    {
        let file = try database.locate(program, major: facts.postgresMajor)
        let variables = database.environment.merging(["PGAPPNAME": session]) { $1 }
        let out = try Self.pipe()
        let err = try Self.pipe()
        let life = try Self.pipe()
        // A lock that an upgrade holds is waited for, but not for ever: waiting blocks others behind it.
        let command = [file, "--clean", "--if-exists", "--lock-wait-timeout=300000"]
        let started = try Self.start(
            database,
            arguments: database.arguments(["sh", "-c", Self.script, "holdfast-dump"] + command, variables),
            environment: variables,
            input: life.read.raw,
            output: out.write.raw,
            error: err.write.raw
        )
        let tail = Tail()
        let reading = Pipe.readEnd(err).release()
        let reader = try Posix.Thread("dump stderr") {
            let end = FileDescriptor(owning: reading)
            let step = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 16)
            defer { step.deallocate() }
            while true {
                let got = try end.read(into: step)
                if got == 0 { return }
                tail.append(UnsafeRawBufferPointer(rebasing: step[..<got]))
            }
        }
        child = started
        output = Pipe.readEnd(out)
        lifeline = Pipe.writeEnd(life)
        errors = tail
        errorReader = reader
        self.database = database
        self.session = session
        seconds = stall
    }

    private static func pipe() throws(CaptureFailure) -> Pipe {
        do { return try Pipe() } catch {
            throw CaptureFailure(.dump, "the dump could not be started: \(error)")
        }
    }

    private static func start(
        _ database: Database,
        arguments: [String],
        environment: [String: String],
        input: Int32,
        output: Int32,
        error: Int32
    ) throws(CaptureFailure) -> ChildProcess {
        do {
            return try ChildProcess(
                arguments,
                environment: environment,
                input: .descriptor(input),
                output: .descriptor(output),
                error: .descriptor(error)
            )
        } catch { throw database.explain(error) }
    }

    /// `$@` is the program. In a container the server itself is process 1 and inherits whatever lost its parent; one
    /// that ended by a signal it takes for a crashed backend, and it throws out everybody. So the shell waits for all that
    /// it starts, and only the last of a line of children is signalled (`pg_dumpall` runs `pg_dump`): those above it
    /// see its end and go by themselves.
    private static let script =
        Database.findPrograms + """
            exec 3<&0
            "$@" </dev/null 3<&- &
            program=$!
            (
                read -r line <&3
                last=
                next=$program
                while [ -n "$next" ]; do
                    last=$next
                    next=
                    for file in /proc/[0-9]*/stat; do
                        read -r pid name state parent rest <"$file" || continue
                        [ "$parent" != "$last" ] || next=$pid
                    done
                done
                kill -TERM "$last"
            ) >/dev/null 2>&1 &
            watch=$!
            exec 3<&-
            wait "$program"
            status=$?
            kill "$watch" 2>/dev/null
            wait "$watch" 2>/dev/null
            exit "$status"
            """

    /// Waits up to `milliseconds` for output and reads once; nil when there was none, 0 at the end.
    func read(into buffer: UnsafeMutableRawBufferPointer, milliseconds: Int32) throws(CaptureFailure)
        -> Int?
    {
        var wait = pollfd(fd: output.raw, events: Int16(POLLIN), revents: 0)
        let ready = poll(&wait, 1, milliseconds)
        if ready == 0 || ready < 0 && errno == EINTR { return nil }
        do { return try output.read(into: buffer) } catch {
            throw CaptureFailure(.dump, "reading the dump failed: \(error)")
        }
    }

    var stallSeconds: Int { seconds }

    /// After the end of the output: the exit status must be 0.
    consuming func finish() throws {
        var end = try child.poll()
        for _ in 0..<300 where end == nil {
            Time.sleep(seconds: 0.1)
            end = try child.poll()
        }
        guard let end else {
            abandon()
            throw CaptureFailure(.dump, "the dump program closed its output but did not end")
        }
        try? errorReader.join()
        if end != .exit(0) {
            let said = database.redact(lastLines(errors.bytes))
            database.endSessions(named: session)
            throw CaptureFailure(
                .dump,
                "the dump program failed (\(end)): \(said.isEmpty ? "it said nothing" : said)"
            )
        }
        // Keeps the lifeline open up to here.
        try lifeline.close()
    }

    /// Ends the dump wherever it stands, in the container and in the server too.
    consuming func abandon() {
        let child = self.child
        try? lifeline.close()
        try? output.close()
        var end: ChildProcess.End?
        for _ in 0..<50 where end == nil {
            end = (try? child.poll()) ?? nil
            if end == nil { Time.sleep(seconds: 0.1) }
        }
        if end == nil {
            child.signalGroup(SIGKILL)
            _ = try? child.wait()
        }
        database.endSessions(named: session)
        errorReader.detach()
    }
}

/// The last 4 KiB of what was printed to stderr.
private final class Tail: @unchecked Sendable {
    // Written by one thread, read after it was joined.
    private(set) var bytes: [UInt8] = []
    func append(_ more: UnsafeRawBufferPointer) {
        bytes.append(contentsOf: more)
        if bytes.count > 8192 { bytes.removeFirst(bytes.count - 4096) }
    }
}

extension Database {
    /// The program's name, or its path where it must be of the server's major version or newer: on this machine
    /// several versions may be installed, in a container it is always fitting.
    package func locate(_ program: DumpProgram, major: Int) throws(CaptureFailure) -> String {
        guard case .local = place else { return program.rawValue }
        let root = "/usr/lib/postgresql"
        let installed = ((try? Directory.names(root)) ?? []).compactMap {
            Int(String(decoding: $0, as: UTF8.self))
        }
        for found in installed.sorted() where found >= major {
            let path = "\(root)/\(found)/bin/\(program.rawValue)"
            if access(path, X_OK) == 0 { return path }
        }
        if let result = try? Command.run([program.rawValue, "--version"]), result.succeeded {
            // `pg_dump (PostgreSQL) 15.18 (Debian …)`
            let words = String(decoding: result.output, as: UTF8.self).split(separator: " ")
            if words.count > 2, let own = Int(words[2].prefix { $0.isNumber }), own >= major {
                return program.rawValue
            }
        }
        throw CaptureFailure(
            .dump,
            "there is no \(program.rawValue) of version \(major) or newer on this machine, as \(shown) needs: "
                + "install postgresql-client-\(major)"
        )
    }
}
