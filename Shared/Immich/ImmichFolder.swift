/// The six folders of Immich's media location (`UPLOAD_LOCATION` in its compose file), by their names on disk.
package enum ImmichFolder: String, CaseIterable, Sendable {
    /// In byte order of the names, as a walk meets them.
    case backups
    case encodedVideo = "encoded-video"
    case library
    case profile
    case thumbs
    case upload

    /// The file that Immich keeps in each of the six and will not start without. Where it is missing, the disk
    /// behind the folder is not mounted or is another one.
    package static let marker = ".immich"

    /// What a capture takes of this folder.
    package func selection(everything: Bool) -> Selection {
        if everything { return self == .backups ? .finished : .whole }
        switch self {
        case .upload, .library, .profile: return .whole
        case .encodedVideo: return .motionVideos
        case .thumbs, .backups: return .marker
        }
    }

    /// Which entries below a folder are taken.
    package enum Selection: Sendable, Equatable {
        case whole
        /// All but files that are still being written (`*.tmp`).
        case finished
        /// Folders, the marker, and the videos that Immich took out of motion photos (`*-MP.mp4`): those are
        /// originals of hidden assets, everything else beside them can be made again.
        case motionVideos
        /// The marker alone.
        case marker

        /// Whether an entry belongs to the capture.
        ///
        /// - Parameters:
        ///   - name: Bytes of the entry's name.
        ///   - top: Whether it lies directly in one of the six folders.
        package func takes(_ name: [UInt8], isFolder: Bool, top: Bool) -> Bool {
            if top && !isFolder && name == Selection.markerBytes { return true }
            switch self {
            case .whole: return true
            case .finished: return isFolder || !ends(name, ".tmp")
            case .motionVideos: return isFolder || ends(name, "-MP.mp4")
            case .marker: return false
            }
        }

        private static let markerBytes = Array(ImmichFolder.marker.utf8)
    }
}

private func ends(_ name: [UInt8], _ suffix: StaticString) -> Bool {
    let count = suffix.utf8CodeUnitCount
    guard name.count >= count else { return false }
    return suffix.withUTF8Buffer { name.suffix(count).elementsEqual($0) }
}
