/// Which paths of a snapshot are wanted: everything, or what lies at or below some paths.
struct Selection {
    /// Names from the root down.
    let includes: [[[UInt8]]]

    /// How much of a directory is wanted.
    enum Scope {
        case all
        /// Numbers of the includes that lead further down.
        case towards([Int])
    }

    /// - Parameter paths: Bytes as in a snapshot, `/` between names; empty names do not count. None, or one
    ///   without a name, is everything.
    init(_ paths: [[UInt8]]) {
        let split = paths.map { path in path.split(separator: 0x2F).map { Array($0) } }
        includes = split.contains(where: \.isEmpty) ? [] : split
    }

    var root: Scope { includes.isEmpty ? .all : .towards(Array(includes.indices)) }

    /// What is wanted of the entry `name` at `depth` in a directory of which `scope` is wanted; nil for nothing.
    ///
    /// - Parameter reached: Gets the number of each include that ends here.
    func scope(of name: [UInt8], at depth: Int, in scope: Scope, reached: (Int) -> Void = { _ in }) -> Scope?
    {
        guard case .towards(let numbers) = scope else { return .all }
        var further: [Int] = []
        var all = false
        for number in numbers where includes[number][depth] == name {
            if includes[number].count == depth + 1 {
                reached(number)
                all = true
            } else {
                further.append(number)
            }
        }
        // The includes below one that is wanted whole are reached by looking on; what is wanted stays all.
        return all ? .all : further.isEmpty ? nil : .towards(further)
    }
}
