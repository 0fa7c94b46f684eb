/// A command line that does not fit the command: exit status 64 and the usage.
package enum UsageError: Error, Equatable, CustomStringConvertible {
    case missingCommand
    case unknownCommand(String)
    case unknownOption(String)
    case missingValue(option: String)
    case missingArgument(String)
    case surplus(String)
    case invalid(what: String, value: String, reason: String)

    package var description: String {
        switch self {
        case .missingCommand: "no command given"
        case .unknownCommand(let name): "there is no command \(name)"
        case .unknownOption(let name): "there is no option \(name) here"
        case .missingValue(let option): "\(option) needs a value"
        case .missingArgument(let name): "\(name) is missing"
        case .surplus(let argument): "\(argument) is one argument too many"
        case .invalid(let what, let value, let reason): "\(what) \(value): \(reason)"
        }
    }
}

/// Takes a command line apart: options may stand anywhere, `--name value` or `--name=value`; `--` ends them.
package struct ArgumentReader {
    private var rest: [String]

    package init(_ arguments: [String]) { rest = arguments }

    /// Whether `--help` or `-h` is among the options.
    package var asksForHelp: Bool { options().contains { rest[$0] == "--help" || rest[$0] == "-h" } }

    private func options() -> [Int] {
        let end = rest.firstIndex(of: "--") ?? rest.count
        return (0..<end).filter { rest[$0].hasPrefix("-") && rest[$0] != "-" }
    }

    /// Takes `name` out when it is there.
    package mutating func flag(_ name: String) -> Bool {
        guard let index = options().first(where: { rest[$0] == name }) else { return false }
        rest.remove(at: index)
        return true
    }

    /// Takes `name` and its value out when they are there.
    package mutating func option(_ name: String) throws(UsageError) -> String? {
        for index in options() {
            if rest[index].hasPrefix(name + "=") {
                return String(rest.remove(at: index).dropFirst(name.count + 1))
            }
            if rest[index] == name {
                guard index + 1 < rest.count, rest[index + 1] != "--" else {
                    throw .missingValue(option: name)
                }
                rest.remove(at: index)
                return rest.remove(at: index)
            }
        }
        return nil
    }

    /// Takes all values of an option that may be given several times.
    package mutating func options(_ name: String) throws(UsageError) -> [String] {
        var values: [String] = []
        while let value = try option(name) { values.append(value) }
        return values
    }

    /// Takes the next argument that is no option.
    package mutating func argument() -> String? {
        let end = rest.firstIndex(of: "--") ?? rest.count
        if let index = (0..<end).first(where: { !rest[$0].hasPrefix("-") || rest[$0] == "-" }) {
            return rest.remove(at: index)
        }
        guard end + 1 < rest.count else { return nil }
        return rest.remove(at: end + 1)
    }

    package mutating func required(_ name: String) throws(UsageError) -> String {
        guard let value = argument() else { throw .missingArgument(name) }
        return value
    }

    /// Throws when anything is left that nobody took.
    package mutating func finish() throws(UsageError) {
        if let index = options().first { throw .unknownOption(rest[index]) }
        if let surplus = argument() { throw .surplus(surplus) }
    }
}
