import Glibc

/// `text` as one line: whatever would break it or steer a terminal becomes `?`, a line's end a space. Names and
/// errors come from agents, and what one of them says must not look like more than one thing.
package func plainLine(_ text: String) -> String {
    var clean = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
        switch scalar.properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator:
            clean.append(scalar == "\n" || scalar == "\t" || scalar == "\r" ? " " : "?")
        // Turns of the writing direction and characters without a width.
        case .format: continue
        default: clean.append(scalar)
        }
    }
    return String(clean)
}

/// Whole lines of `text` from its start that are together at most `limit` bytes of UTF-8, with a line about the rest.
package func cut(_ text: String, bytes limit: Int) -> String {
    guard text.utf8.count > limit else { return text }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    func end(_ left: Int) -> String { "… and \(left) more lines: holdfast-coordinator status" }
    let room = limit - end(lines.count).utf8.count - 1
    var kept = ""
    var count = 0
    for line in lines {
        if kept.utf8.count + line.utf8.count + 1 > room { break }
        kept += line + "\n"
        count += 1
    }
    if count == 0, let first = lines.first {
        // One line alone is too long: its start says more than nothing.
        var start = ""
        for character in first {
            if start.utf8.count + String(character).utf8.count + 4 > room { break }
            start.append(character)
        }
        return "\(start)…\n\(end(lines.count - 1))"
    }
    return kept + end(lines.count - count)
}
