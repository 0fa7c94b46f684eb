package import Glibc
import Posix

/// The recording layer of `Tests/FaultLayer`: every step by which the coordinator or the agent changes what lasts,
/// and every message they exchange, gets a number, and one of them may be made to go wrong. Programs that are
/// started with `environment` obey `order`, also while they run already.
package final class FaultLayer {
    /// What is counted. In the order of the layer's own list.
    package enum Kind: String, CaseIterable, Sendable {
        case create, write, truncate, sync, rename, link, unlink, mkdir
        /// A COMMIT, or a change of the catalogue outside a transaction.
        case commit
        case send, receive
        /// Of a file that is there.
        case open

        fileprivate var bit: UInt32 { 1 << UInt32(Self.allCases.firstIndex(of: self) ?? 0) }

        /// Changes of files and folders.
        package static let files: [Kind] = [
            .create, .write, .truncate, .sync, .rename, .link, .unlink, .mkdir,
        ]
        /// Everything that lasts.
        package static let durable = files + [.commit]
        package static let messages: [Kind] = [.send, .receive]
    }

    package struct Roles: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }
        package static let session = Roles(rawValue: 1)
        package static let serve = Roles(rawValue: 2)
        package static let agent = Roles(rawValue: 4)
        /// The admin's commands.
        package static let command = Roles(rawValue: 8)
    }

    package enum Action: Sendable {
        case nothing
        case kill
        case stop
        /// With an errno; a commit loses its connection instead.
        case fail(Int32)
        /// The order's `victim` is killed, and nobody else.
        case killOther
    }

    /// What is to happen at which step.
    package struct Order: Sendable {
        package var roles: Roles
        package var kinds: [Kind]
        package var action = Action.nothing
        /// From 1 on.
        package var at = 0
        /// When the step is done instead of before it.
        package var after = false
        /// At every later step too.
        package var allLater = false
        /// A write puts its first half down; what goes on with the rest fails if `allLater` is set.
        package var short = false
        /// A process that is killed first.
        package var victim: pid_t = 0
        /// When the first pack is begun, the monotonic clock jumps by so many seconds.
        package var jump = 0

        package init(_ roles: Roles, _ kinds: [Kind], _ action: Action = .nothing, at: Int = 0) {
            self.roles = roles
            self.kinds = kinds
            self.action = action
            self.at = at
        }
    }

    package struct Step: Sendable, CustomStringConvertible {
        package let number: Int
        package let pid: pid_t
        package let kind: Kind
        package let bytes: Int
        package let path: String
        package var description: String { "\(number) \(kind.rawValue) \(path)" }
    }

    /// For whoever is to obey.
    package let environment: [String: String?]
    private let folder: String

    /// - Parameter folders: Files below them count.
    package init(folders: [String]) throws {
        folder = "/tmp/holdfast-faults-\(randomHex(4))"
        try Files.makeDirectories(folder, mode: 0o755)
        let library = "\(folder)/layer.so"
        try Self.build(to: library)
        for name in ["control", "log"] {
            let file = try FileDescriptor(open: "\(folder)/\(name)", O_WRONLY | O_CREAT)
            try file.writeAll([UInt8](repeating: 0, count: name == "control" ? 4096 : 0))
            // The programs may give up being root.
            fchmod(file.raw, 0o666)
        }
        environment = [
            "LD_PRELOAD": library, "HOLDFAST_FAULT_CONTROL": "\(folder)/control",
            "HOLDFAST_FAULT_LOG": "\(folder)/log",
            "HOLDFAST_FAULT_FOLDERS": folders.joined(separator: ":"),
        ]
    }

    deinit { try? Files.removeTree(folder) }

    /// Begins to count from 1 again, with `order` from now on.
    package func set(_ order: Order) throws {
        var bytes: [UInt8] = []
        func put(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
        }
        let (action, code): (UInt32, Int32) =
            switch order.action {
            case .nothing: (0, 0)
            case .kill: (1, 0)
            case .stop: (2, 0)
            case .fail(let code): (3, code)
            case .killOther: (4, 0)
            }
        let flags: UInt32 = (order.after ? 1 : 0) | (order.allLater ? 2 : 0) | (order.short ? 4 : 0)
        // Counting stops while the rest is exchanged.
        try write([UInt8](repeating: 0, count: 64))
        truncate("\(folder)/log", 0)
        put(action)
        put(code)
        put(flags)
        put(order.roles.rawValue)
        put(order.kinds.reduce(0) { $0 | $1.bit })
        put(order.victim)
        put(Int64(order.at))
        put(Int64(order.jump) * 1_000_000_000)
        try write(bytes + [UInt8](repeating: 0, count: 64 - bytes.count))
    }

    /// Nothing is counted any more.
    package func clear() throws { try set(Order([], [])) }

    private func write(_ bytes: [UInt8]) throws {
        let file = try FileDescriptor(open: "\(folder)/control", O_WRONLY)
        try bytes.withUnsafeBytes { try file.pwriteAll($0, at: 0) }
    }

    private func number<I: FixedWidthInteger>(at offset: Int, as type: I.Type) -> I {
        guard let bytes = try? Files.read("\(folder)/control") else { return 0 }
        return bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: type) }
    }

    /// Steps since `set`.
    package var count: Int { Int(number(at: 40, as: Int64.self)) }
    /// The process at whose step the order was carried out, nil while it was not.
    package var fired: pid_t? {
        let pid = number(at: 56, as: Int32.self)
        return pid == 0 ? nil : pid
    }

    /// The steps since `set`, in the order of their numbers.
    package func steps() throws -> [Step] {
        String(decoding: try Files.read("\(folder)/log"), as: UTF8.self).split(separator: "\n")
            .compactMap { line in
                let words = line.split(separator: " ", maxSplits: 5)
                guard words.count == 6, words[4] == "0", let number = Int(words[0]),
                    let pid = pid_t(words[1]),
                    let kind = Kind(rawValue: String(words[2])), let bytes = Int(words[3])
                else { return nil }
                return Step(number: number, pid: pid, kind: kind, bytes: bytes, path: String(words[5]))
            }.sorted { $0.number < $1.number }
    }

    /// Compiles the layer, with the compiler that the Swift toolchain brings or any other.
    private static func build(to library: String) throws {
        let source = Files.parent(Files.parent(#filePath)) + "/FaultLayer/layer.c"
        var reasons: [String] = []
        for compiler in ["clang", "cc", "gcc"] {
            do {
                _ = try output(of: [compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"])
                return
            } catch { reasons.append("\(compiler): \(error)") }
        }
        throw ProgramFailed(description: "the recording layer was not built: \(reasons)")
    }
}
