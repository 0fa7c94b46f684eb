package import Posix

/// A folder for one test; it goes, with all in it, when this value does.
package struct Scratch: ~Copyable {
    /// Absolute, short, without a `/` at its end.
    package let path: String

    package init() throws(SystemCallError) {
        path = "/tmp/holdfast-\(randomHex(6))"
        try Files.makeDirectories(path)
    }

    deinit { try? Files.removeTree(path) }

    /// The path of `name` in here, which need not exist.
    package func at(_ name: String) -> String { "\(path)/\(name)" }
}
