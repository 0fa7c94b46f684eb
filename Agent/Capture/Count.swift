import Glibc
import Immich
import Posix
import Synchronization
import Wire

/// Counts what a capture takes at most, on a thread of its own, beside the walk; for progress only.
final class Counting: Sendable {
    private let result = Mutex<(files: UInt64, bytes: UInt64)?>(nil)
    private let stop = StopFlag()

    /// Begins to count below `places`.
    init(_ places: MediaPlaces, everything: Bool) {
        guard let thread = try? Posix.Thread("count", { [self] in try run(places, everything) }) else {
            return
        }
        thread.detach()
    }

    /// Nil until everything was counted, and after it was taken once.
    func take() -> (files: UInt64, bytes: UInt64)? {
        result.withLock { value in
            defer { value = nil }
            return value
        }
    }

    func cancel() { stop.set() }

    private func run(_ places: MediaPlaces, _ everything: Bool) throws {
        var total: (files: UInt64, bytes: UInt64) = (0, 0)
        for place in places.places {
            let found = count(place, everything: everything, stop: stop)
            total.files += found.files
            total.bytes += found.bytes
        }
        if !stop.isSet { result.withLock { $0 = total } }
    }
}

/// Counts files and bytes of one of Immich's folders, as far as they can be read.
package func count(_ place: MediaPlaces.Place, everything: Bool, stop: StopFlag) -> (
    files: UInt64, bytes: UInt64
) {
    let top = FolderNode(
        parent: nil,
        name: Array(place.folder.rawValue.utf8),
        content: .onDisk(place.folder.selection(everything: everything), top: true),
        path: place.path,
        overlays: place.overlays
    )
    var walk = Walk(top, describesFully: false)
    var total: (files: UInt64, bytes: UInt64) = (0, 0)
    while !stop.isSet, let step = walk.next(maximum: 4096) {
        guard case .list(_, let entries, _, _) = step else { continue }
        for entry in entries where entry.kind == .file {
            total.files += 1
            total.bytes += entry.size
        }
        walk.skipped.removeAll()
        walk.notes.removeAll()
    }
    return total
}
