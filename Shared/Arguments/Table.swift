/// Lines in columns for people; scripts take `--json`.
package struct Table {
    package enum Side: Sendable { case left, right }

    private let headings: [String]
    private let sides: [Side]
    private var rows: [[String]] = []

    package init(_ columns: [(String, Side)]) {
        headings = columns.map(\.0)
        sides = columns.map(\.1)
    }

    package mutating func row(_ cells: [String]) { rows.append(cells) }

    package var isEmpty: Bool { rows.isEmpty }

    /// The headings and rows, two spaces between columns, each line ending in a newline.
    package var text: String {
        let all = [headings] + rows
        let widths = headings.indices.map { column in
            all.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        return all.map { cells in
            var line = ""
            for (column, cell) in cells.enumerated() {
                let space = String(repeating: " ", count: max(0, widths[column] - cell.count))
                line += sides[column] == .left ? cell + space : space + cell
                line += "  "
            }
            while line.hasSuffix(" ") { line.removeLast() }
            return line + "\n"
        }.joined()
    }
}
