/// Watches a plain dump go by and tells in the end whether it is whole.
///
/// A dump that was cut inside a COPY block loads without an error and leaves tables empty, so the closing line is
/// demanded, and nothing may follow it but the line that ends psql's restricted mode.
package struct DumpTail: Sendable {
    /// Why a dump is not whole.
    package enum Problem: Error, Equatable, Sendable, CustomStringConvertible {
        case tooShort(bytes: UInt64)
        case noOpening(DumpProgram)
        case noClosing(DumpProgram, lastLine: String)

        package var description: String {
            switch self {
            case .tooShort(let bytes):
                "the dump is only \(bytes) bytes long, less than \(DumpTail.minimum)"
            case .noOpening(let program):
                "the dump does not begin with the line '\(program.opening)'"
            case .noClosing(let program, let line):
                "the dump lacks its closing line '\(program.closing)'; its last line is '\(line)'"
            }
        }
    }

    /// Bytes below which no dump of Immich can be whole.
    package static let minimum: UInt64 = 1024
    private static let kept = 4096

    package let program: DumpProgram
    /// Bytes seen so far.
    package private(set) var count: UInt64 = 0
    private var head: [UInt8] = []
    private var tail: [UInt8] = []

    package init(_ program: DumpProgram) { self.program = program }

    /// Takes the next bytes; costs next to nothing, whatever their number.
    package mutating func add(_ bytes: UnsafeRawBufferPointer) {
        count += UInt64(bytes.count)
        if head.count < 512 { head.append(contentsOf: bytes.prefix(512 - head.count)) }
        if bytes.count >= Self.kept {
            tail.removeAll(keepingCapacity: true)
            tail.append(contentsOf: bytes.suffix(Self.kept))
        } else {
            tail.append(contentsOf: bytes)
            if tail.count > 2 * Self.kept { tail.removeFirst(tail.count - Self.kept) }
        }
    }

    /// Call it when all bytes were seen.
    package func check() throws(Problem) {
        if count < Self.minimum { throw .tooShort(bytes: count) }
        // The first line is `--`; some versions put settings or psql's restriction before it.
        guard lines(head).prefix(8).contains(where: { $0.elementsEqual(program.opening.utf8) }) else {
            throw .noOpening(program)
        }
        let last = lines(tail).reversed().first { line in
            !line.isEmpty && !line.elementsEqual("--".utf8) && !line.starts(with: "\\unrestrict ".utf8)
        }
        guard let last, last.elementsEqual(program.closing.utf8) else {
            // Rows of the database are nobody's business in a log.
            let shown = last.map {
                $0.starts(with: "--".utf8) ? String(decoding: $0, as: UTF8.self) : "(data)"
            }
            throw .noClosing(program, lastLine: shown ?? "")
        }
    }

    private func lines(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        bytes.split(separator: 0x0A, omittingEmptySubsequences: false)
            .map { $0.last == 0x0D ? $0.dropLast() : $0 }
    }
}
