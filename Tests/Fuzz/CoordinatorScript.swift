import Capture
import Glibc
import Posix
import TestSupport
import Wire

/// The agent's files' part against a coordinator that answers with what a mutator made of its answers.
struct Sendings {
    private let folder: String

    /// Makes a library of some hundred small files below `folder`.
    init(folder: String) throws {
        self.folder = folder
        var random = SplitMix(7)
        for number in 0..<12 {
            let place = "\(folder)/\(number % 4)/\(number)"
            try Files.makeDirectories(place)
            for file in 0..<random.below(12) {
                let output = try FileDescriptor(open: "\(place)/\(file)", O_WRONLY | O_CREAT | O_TRUNC)
                try output.writeAll(random.bytes(random.below(2000)))
            }
        }
    }

    func run(seed: UInt64) -> (frames: Int, outcome: String) {
        var random = SplitMix(seed)
        var mutator = FrameMutator(rate: random.pick([0, 3, 10, 40]))
        var answers: [Frame] = []
        var frames = 0
        let channel = Script(
            seed: random.next(),
            more: {
                if mutator.isClosed || answers.isEmpty { return nil }
                frames += 1
                return mutator.bytes(answers.removeFirst(), &random)
            },
            hear: { frame in
                guard
                    let message = try? frame.body.withUnsafeBytes({
                        try AgentMessage(type: frame.type, body: $0)
                    }),
                    case .list(let entries, _) = message
                else { return }
                var wanted: [Wanted] = []
                for (index, entry) in entries.enumerated() where entry.kind == .file && !random.once(in: 4) {
                    let offset = random.once(in: 6) ? random.next() >> UInt64(random.below(64)) : 0
                    wanted.append(Wanted(index: UInt32(index), offset: offset))
                }
                answers.append(Frame(CoordinatorMessage.want(wanted)))
            }
        )
        do {
            try FilePhase.send(folder: folder, over: FrameStream(channel)) { message in
                throw WireError.unexpected(type: message.type, state: "sending")
            }
            return (frames, "all sent")
        } catch { return (frames, classOf(error)) }
    }
}
