/// A part of a YAML file, with the line it starts on (from 1).
package struct YAMLNode: Sendable, Equatable {
    package indirect enum Content: Sendable, Equatable {
        /// Nothing behind the colon, `~` or `null`.
        case empty
        /// A scalar as it is written: `yes`, `010` and `1.50` stay those characters.
        case scalar(String)
        case sequence([YAMLNode])
        /// In the file's order; keys are unique.
        case mapping([Entry])
    }

    package struct Entry: Sendable, Equatable {
        package let key: String
        package let line: Int
        package let value: YAMLNode
    }

    package let line: Int
    package let content: Content

    package init(line: Int, content: Content) {
        self.line = line
        self.content = content
    }

    /// What the node is, for messages.
    var kind: String {
        switch content {
        case .empty: "nothing"
        case .scalar(let text): "`\(text)`"
        case .sequence: "a list"
        case .mapping: "a mapping"
        }
    }
}
