import Immich
package import Wire

extension FilePhase {
    /// Sends one folder of the disk as if it were a whole capture's files, whatever is in it.
    ///
    /// - Parameter hear: Told of every frame that is no `want`; throws to end it.
    package static func send(
        folder: String,
        over stream: FrameStream,
        hear: @escaping (CoordinatorMessage) throws -> Void
    ) throws {
        let root = FolderNode(parent: nil, name: [], content: .onDisk(.whole, top: false), path: folder)
        let progress = ProgressBox(show: { _ in }, always: {})
        try FilePhase(stream, root: root, progress: progress, hear: hear).run()
    }
}
