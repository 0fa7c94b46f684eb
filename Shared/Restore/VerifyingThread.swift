import Posix

/// The thread behind the one that receives and writes: it reads the files back, compares them and gives them their names,
/// in the order in which they were written.
final class VerifyingThread {
    enum Step: Sendable {
        /// A file of which all was written that there is.
        case file(FileWork)
        case link(LinkWork)
    }

    // Each waiting file is an open one.
    private let steps = StepQueue<Step>(capacity: 256)
    private var thread: Thread?

    init(_ target: RestoreTarget, _ state: RestoreState) throws {
        let steps = steps
        let verifier = try FileVerifier(target, state)
        thread = try Thread("restore-verify") {
            while let step = steps.next() {
                switch step {
                case .file(let work) where state.failure != nil: work.removeTemporary()
                case .file(let work): verifier.finish(work)
                case .link(let link) where state.failure == nil: verifier.link(link)
                case .link: break
                }
            }
        }
    }

    func submit(_ step: Step) { steps.add(step, weight: 1) }

    /// Waits until everything is done.
    func finish() {
        steps.close()
        join()
    }

    /// Ends without doing what waits. Under their temporary names files stay for a later try.
    ///
    /// - Parameter removing: They go, because the target is full or failing.
    func abandon(removing: Bool) {
        let dropped = steps.close(dropping: true)
        join()
        guard removing else { return }
        for case .file(let work) in dropped { work.removeTemporary() }
    }

    private func join() {
        // The body throws nothing.
        try? thread.take()?.join()
    }

    deinit { steps.close(dropping: true) }
}
