import Glibc
package import Immich
import Posix

/// Where Immich's six folders lie on this machine.
package struct MediaPlaces: Equatable, Sendable {
    package struct Place: Equatable, Sendable {
        package let folder: ImmichFolder
        /// On this machine, behind mounts and symbolic links.
        package var path: String
        /// Mounts of Immich's container below this folder: they hide what the host has there.
        package var overlays: [Overlay] = []
    }

    package struct Overlay: Equatable, Sendable {
        /// Below the folder, one name or more.
        package var components: [[UInt8]]
        /// On this machine.
        package var path: String
    }

    /// Immich's media location as its container sees it, or on this machine where there is no container.
    package let location: String
    /// The same on this machine; nil when only folders below it are mounted.
    package let base: String?
    /// In byte order of the folders' names.
    package let places: [Place]

    /// Folders below `path` on this machine, each followed through symbolic links.
    package init(uploadLocation path: String) {
        location = path
        base = path
        places = ImmichFolder.allCases.map { Place(folder: $0, path: resolved("\(path)/\($0.rawValue)")) }
    }

    /// Finds the folders through the mounts of Immich's server.
    ///
    /// - Parameter known: What the database holds as the media location.
    package init(server: Container, known: String?) throws(CaptureFailure) {
        let mounts = server.mounts.filter { !$0.source.isEmpty }
        func isMounted(_ path: String) -> Bool {
            mounts.contains { covers($0.destination, path) || covers(path, $0.destination) }
        }
        // The image of newer releases always has a volume at /data, used or not.
        let old = "/usr/src/app/upload"
        let location = trimmed(
            server.environment["IMMICH_MEDIA_LOCATION"] ?? known.flatMap { isMounted($0) ? $0 : nil }
                ?? (mounts.contains { covers(old, $0.destination) } ? old : "/data")
        )
        self.location = location
        base = hostPath(location, mounts)
        var found: [Place] = []
        for folder in ImmichFolder.allCases {
            let inside = "\(location)/\(folder.rawValue)"
            guard let path = followed(inside, mounts, depth: 0) else {
                throw CaptureFailure(
                    .folders,
                    "\(inside) of container '\(server.name)' lies on no mount, so it is lost with the container and "
                        + "cannot be read from here: mount a folder of the host there, or set 'upload_location:' in "
                        + "agent.yaml"
                )
            }
            var place = Place(folder: folder, path: path)
            for mount in mounts where covers(inside, mount.destination) && mount.destination != inside {
                let rest = mount.destination.dropFirst(inside.utf8.count)
                place.overlays.append(
                    Overlay(components: rest.split(separator: "/").map { Array($0.utf8) }, path: mount.source)
                )
            }
            found.append(place)
        }
        places = found
    }

    /// Every folder must be there and hold its marker; an empty folder without one is a disk that is not mounted.
    package func check() throws(CaptureFailure) {
        for place in places { try place.check() }
    }
}

extension MediaPlaces.Place {
    package func check() throws(CaptureFailure) {
        let folder: FileDescriptor
        do { folder = try FileDescriptor(open: path, O_RDONLY | O_DIRECTORY) } catch {
            let advice =
                switch error.code {
                case ENOENT: "is its disk mounted, and has Immich started with it?"
                case EACCES, EPERM: "let the agent run as root, or as a user that may read it"
                default: "look at its disk"
                }
            throw CaptureFailure(
                .folders,
                "Immich's folder '\(self.folder.rawValue)' cannot be read: \(path): \(error.reason); \(advice)"
            )
        }
        do { _ = try FileStatus(at: folder.raw, Array(ImmichFolder.marker.utf8)) } catch {
            if error.code == ENOENT {
                throw CaptureFailure(
                    .folders,
                    "Immich's folder '\(self.folder.rawValue)' at \(path) lacks its marker '\(ImmichFolder.marker)': the "
                        + "disk that belongs there is not mounted, or it is the wrong folder; if Immich uses it as it "
                        + "is, start Immich once, which writes the marker"
                )
            }
            throw CaptureFailure(
                .folders,
                "the marker of Immich's folder '\(self.folder.rawValue)' cannot be read: \(path)/"
                    + "\(ImmichFolder.marker): \(error.reason)"
            )
        }
    }
}

/// Whether `path` is `folder` or below it.
private func covers(_ folder: String, _ path: String) -> Bool {
    folder == "/" || path == folder || path.hasPrefix(trimmed(folder) + "/")
}

private func trimmed(_ path: String) -> String {
    var result = path
    while result.utf8.count > 1 && result.hasSuffix("/") { result.removeLast() }
    return result
}

/// A path in the container as one on the host; nil when no mount holds it. The longest destination wins.
func hostPath(_ path: String, _ mounts: [Container.Mount]) -> String? {
    let fitting = mounts.filter { !$0.source.isEmpty && covers($0.destination, path) }
    guard let mount = fitting.max(by: { $0.destination.utf8.count < $1.destination.utf8.count }) else {
        return nil
    }
    let destination = trimmed(mount.destination)
    return mount.source + (destination == "/" ? path : String(path.dropFirst(destination.utf8.count)))
}

/// Follows a symbolic link at the end of `path` as the container would, and where the container has nothing, as the
/// host does.
private func followed(_ path: String, _ mounts: [Container.Mount], depth: Int) -> String? {
    guard let host = hostPath(path, mounts) else { return nil }
    guard depth < 40, (try? FileStatus(path: host, follow: false))?.kind == .symlink,
        let raw = try? Files.linkTarget(at: AT_FDCWD, Array(host.utf8)),
        let target = String(validating: raw, as: UTF8.self)
    else { return resolved(host) }
    let inside = target.hasPrefix("/") ? target : normalized("\(Files.parent(path))/\(target)")
    return followed(inside, mounts, depth: depth + 1) ?? resolved(host)
}

/// Takes `.` and `..` out of an absolute path.
private func normalized(_ path: String) -> String {
    var parts: [Substring] = []
    for part in path.split(separator: "/") {
        if part == ".." { _ = parts.popLast() } else if part != "." { parts.append(part) }
    }
    return "/" + parts.joined(separator: "/")
}

/// realpath(3), or the path itself when it leads nowhere.
private func resolved(_ path: String) -> String {
    guard let real = realpath(path, nil) else { return path }
    defer { free(real) }
    return String(cString: real)
}
