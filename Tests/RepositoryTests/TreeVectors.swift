import JSON
import Testing

extension Vectors {
    /// The facts about one of the two repositories that stock restic made.
    static func repository(_ name: String) throws -> JSON { try #require(try load()["repos"]?[name]) }

    static func list(_ name: String) throws -> [JSON] { try #require(try load()[name]?.array) }
}
