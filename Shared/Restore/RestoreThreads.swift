import Posix

/// The threads behind the one that receives: they write small files, read all files back, compare them and give them
/// their names. Most of a small file's time is the kernel's, for its entries in folders, and one thread cannot ask for
/// more than a core of it.
final class RestoreThreads {
    enum Step: Sendable {
        /// A file of which all has come that there is.
        case file(FileWork)
        case link(LinkWork)

        /// What it takes while it waits: an open file, or up to so many bytes.
        fileprivate var weight: Int {
            switch self {
            case .file(let work): 1 + work.content.count / 8192
            case .link: 1
            }
        }
    }

    private final class Lane {
        let queue = StepQueue<Step>(capacity: RestoreThreads.mostWeight)
        var thread: Thread?

        func join() {
            // The body throws nothing.
            try? thread.take()?.join()
        }
        deinit { queue.close(dropping: true) }
    }

    private let lanes = (0..<RestoreThreads.count).map { _ in Lane() }

    private static let count = 2
    /// Of what waits for each thread.
    private static let mostWeight = 128

    init(_ target: RestoreTarget, _ state: RestoreState) throws {
        for lane in lanes {
            let verifier = try FileVerifier(target, state)
            let queue = lane.queue
            lane.thread = try Thread("restore-file") { Self.run(queue, verifier, state) }
        }
    }

    private static func run(_ queue: StepQueue<Step>, _ verifier: FileVerifier, _ state: RestoreState) {
        while let step = queue.next() {
            switch step {
            case .file(let work) where state.failure != nil: work.removeTemporary()
            case .file(let work): verifier.finish(work)
            case .link(let link) where state.failure == nil: verifier.link(link)
            case .link: break
            }
        }
    }

    /// Steps are done in any order, but a further name of a file after the file itself.
    func submit(_ step: Step) {
        let first: FirstName? =
            switch step {
            case .file(let work): work.first
            case .link(let link): link.first
            }
        // Names of one file wait behind one another.
        let index = first?.lane ?? lanes.indices.min { lanes[$0].queue.load < lanes[$1].queue.load } ?? 0
        first?.lane = index
        lanes[index].queue.add(step, weight: step.weight)
    }

    /// Waits until everything is done.
    func finish() {
        for lane in lanes { lane.queue.close() }
        for lane in lanes { lane.join() }
    }

    /// Ends without doing what waits. Under their temporary names files stay for a later try.
    ///
    /// - Parameter removing: They go, because the target is full or failing.
    func abandon(removing: Bool) {
        let dropped = lanes.flatMap { $0.queue.close(dropping: true) }
        for lane in lanes { lane.join() }
        guard removing else { return }
        for case .file(let work) in dropped { work.removeTemporary() }
    }
}
