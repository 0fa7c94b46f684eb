import Glibc
import Posix

/// A new ext4 of its own on a loop device, for one tool: a file system that others have filled is slower at new files, and
/// who came later would pay for it. Needs root.
final class OwnDisk {
    private let image: String
    private let device: String
    private let place: String

    /// Mounts a file system of `gigabytes` at the new folder `place`; its image lies beside it and takes what is written.
    init(at place: String, gigabytes: Int) throws {
        self.place = place
        image = place + ".disk"
        try Files.makeDirectories(place, mode: 0o755)
        try run(["truncate", "-s", "\(gigabytes)G", image])
        // Everything that mkfs may leave for later would be done while something is measured.
        let whole = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
        try run(["mkfs.ext4", "-q", "-E", whole, image])
        let device = try run(["losetup", "--find", "--show", "--direct-io=on", image])
        self.device = String(device.prefix { $0 != "\n" })
        do { try run(["mount", self.device, place]) } catch {
            _ = try? run(["losetup", "--detach", self.device])
            throw error
        }
        try run(["chmod", "755", place])
    }

    deinit {
        _ = try? run(["umount", "--lazy", place])
        _ = try? run(["losetup", "--detach", device])
        try? Files.remove(image)
    }
}
