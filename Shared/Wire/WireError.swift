/// A peer that does not keep to the protocol, or went away.
package enum WireError: Error, Equatable, CustomStringConvertible {
    /// The connection ended, inside a frame or where one was awaited.
    case closed
    case malformed(String)
    case oversize(type: UInt8, length: Int)
    /// A frame of a type that has no place in the present state (protocol.md).
    case unexpected(type: UInt8, state: String)
    case version(theirs: UInt16, ours: UInt16)

    package var description: String {
        switch self {
        case .closed: "the connection was closed by the other side"
        case .malformed(let what): "malformed frame: \(what)"
        case .oversize(let type, let length): "frame of type \(type) with \(length) bytes, over the limit"
        case .unexpected(let type, let state): "frame of type \(type) is not allowed while \(state)"
        case .version(let theirs, let ours):
            "the other side speaks protocol version \(theirs), this program \(ours): "
                + "install the same Holdfast release on both"
        }
    }
}
