import Immich
import Wire

/// Where in a snapshot's tree a folder lies; the agent may describe these places and no others.
enum Place: Equatable {
    /// Holds `immich`, `deployment` and nothing else.
    case root(CaptureKind)
    /// An UPLOAD_LOCATION: exactly Immich's six folders.
    case uploadLocation
    /// An UPLOAD_LOCATION without a library: `backups` alone, for the dump.
    case dumpLocation
    /// The `backups` in there, empty until the dump is put there.
    case dumpFolder
    /// One of the six; its marker must be there.
    case immichFolder(String)
    /// Anything below, free in shape.
    case inside

    /// The place of the folder `name` in this one; nil when it may not be there.
    func child(_ name: [UInt8]) -> Place? {
        let text = String(decoding: name, as: UTF8.self)
        switch self {
        case .root(let kind):
            if text == "immich" { return kind == .full ? .uploadLocation : .dumpLocation }
            return text == "deployment" ? .inside : nil
        case .uploadLocation:
            return ImmichFolder.allCases.contains { $0.rawValue == text } ? .immichFolder(text) : nil
        case .dumpLocation: return text == ImmichFolder.backups.rawValue ? .dumpFolder : nil
        case .dumpFolder: return nil
        case .immichFolder, .inside: return .inside
        }
    }

    /// Whether the dump belongs here.
    var holdsDump: Bool { self == .dumpFolder || self == .immichFolder(ImmichFolder.backups.rawValue) }

    /// What is wrong with a folder of these entries at this place; nil when all is well.
    func fault(_ entries: some Collection<(name: [UInt8], isDirectory: Bool)>) -> String? {
        func has(_ name: String, directory: Bool) -> Bool {
            entries.contains { $0.name == Array(name.utf8) && $0.isDirectory == directory }
        }
        switch self {
        case .root: return has("immich", directory: true) ? nil : "the snapshot's root lacks immich/"
        case .uploadLocation:
            let missing = ImmichFolder.allCases.filter { !has($0.rawValue, directory: true) }
            return missing.isEmpty
                ? nil : "immich/ lacks the folders \(missing.map { $0.rawValue }.joined(separator: ", "))"
        case .immichFolder(let name):
            return has(ImmichFolder.marker, directory: false)
                ? nil
                : "the marker immich/\(name)/\(ImmichFolder.marker) is missing: the folder is not mounted or not Immich's; "
                    + "mount it and start the backup again"
        case .dumpLocation:
            return entries.count == 1 && has(ImmichFolder.backups.rawValue, directory: true)
                ? nil : "a capture of the database alone has more, or less, than backups/ in immich/"
        case .dumpFolder:
            return entries.isEmpty
                ? nil : "a capture of the database alone brings files of its own in backups/"
        case .inside: return nil
        }
    }
}
