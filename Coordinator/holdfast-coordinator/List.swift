import Arguments
import Catalogue
import Fleet
import JSON
import Posix
import Repository
import Sessions

/// `ls HOST [PATH]`: what a folder of a snapshot holds.
func list(_ arguments: inout ArgumentReader, _ settings: Settings) throws -> ExitCode {
    let wanted = try arguments.option("--snapshot")
    let name = try arguments.required("HOST")
    let path = arguments.argument() ?? ""
    try arguments.finish()
    let fleet = try settings.fleet()
    return try fleet.reading(name) { catalogue, host, repository in
        let chosen = try catalogue.choose(wanted, of: host)
        chosen.warnOfKind()
        let reader = try BlobReader(repository, repository.loadIndex())
        let nodes = try find(path, in: repository.snapshot(chosen.id).tree, reader)
        if settings.json {
            printJSON([
                "snapshot": JSON(chosen.id), "path": JSON(path), "entries": .array(nodes.map(describe)),
            ])
            return .done
        }
        var table = Table([
            ("MODE", .left), ("OWNER", .right), ("SIZE", .right), ("CHANGED", .left), ("NAME", .left),
        ])
        for node in nodes {
            let suffix =
                node.kind == .directory ? "/" : node.kind == .symlink ? " -> \(escaped(node.linkTarget))" : ""
            table.row([
                String(node.permissions, radix: 8), "\(node.uid):\(node.gid)",
                node.kind == .file ? Human.bytes(node.size) : "–", Time.local(node.mtime.nanoseconds),
                escaped(node.name) + suffix,
            ])
        }
        put(nodes.isEmpty ? "nothing in there\n" : table.text)
        return .done
    }
}

/// The entries of the folder at `path`, or the entry itself when it is no folder.
private func find(_ path: String, in root: BlobID, _ reader: BlobReader) throws -> [Node] {
    var nodes = try Tree(parsing: reader.read(root, .tree)).nodes
    for part in path.split(separator: "/") where part != "." {
        guard let node = nodes.first(where: { escaped($0.name) == part || $0.name == Array(part.utf8) })
        else {
            throw CommandFailure(.failed, "the snapshot holds nothing at \(path) (no \(part) there)")
        }
        guard let subtree = node.subtree else { return [node] }
        nodes = try Tree(parsing: reader.read(subtree, .tree)).nodes
    }
    return nodes
}

private func describe(_ node: Node) -> JSON {
    JSON([
        ("name", JSON(escaped(node.name))), ("type", JSON(node.kind.text)),
        ("mode", JSON(String(node.permissions, radix: 8))), ("uid", JSON(node.uid)), ("gid", JSON(node.gid)),
        ("size", JSON(node.size)), ("mtime", instant(node.mtime.nanoseconds)),
        ("target", node.linkTarget.isEmpty ? .null : JSON(escaped(node.linkTarget))),
    ])
}
