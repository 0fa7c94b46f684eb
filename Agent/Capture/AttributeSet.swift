import Glibc
import Posix
import Wire

/// The extended attributes of one entry, as far as they are sent.
struct AttributeSet {
    private(set) var kept: [Entry.Attribute] = []
    /// What was left out, for the report.
    private(set) var problem: String?

    /// Bytes that are sent of one entry; far below the limit of a frame.
    private static let mostBytes = 512 << 10

    init(_ read: () throws(SystemCallError) -> [(name: [UInt8], value: [UInt8])]) {
        do throws(SystemCallError) {
            var total = 0
            for (name, value) in try read() {
                total += name.count + value.count
                if total > Self.mostBytes {
                    problem = "some of its extended attributes: too large"
                    break
                }
                kept.append(Entry.Attribute(name: name, value: value))
            }
        } catch {
            // Gone since its name was read: it was never there.
            if error.code != ENOENT { problem = "its extended attributes: \(error.reason)" }
        }
    }
}
