/// A JSON value (RFC 8259).
///
/// Whole numbers without fraction and exponent stay exact: `integer` where they fit Int64, else `unsigned`
/// where they fit UInt64. Every other number is a `double`.
package enum JSON: Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    /// Above Int64.max.
    case unsigned(UInt64)
    case double(Double)
    case string(String)
    case array([JSON])
    case object(Object)

    /// A whole number in its only form.
    package init(_ value: UInt64) {
        if let small = Int64(exactly: value) { self = .integer(small) } else { self = .unsigned(value) }
    }
    package init(_ value: Int64) { self = .integer(value) }
    package init(_ value: Int) { self = .integer(Int64(value)) }
    package init(_ value: UInt32) { self = .integer(Int64(value)) }
    package init(_ value: Double) { self = .double(value) }
    package init(_ value: Bool) { self = .bool(value) }
    package init(_ value: String) { self = .string(value) }
    package init(_ values: [String]) { self = .array(values.map { .string($0) }) }
    package init(_ members: [(String, JSON)]) { self = .object(Object(members)) }

    /// Members in the order in which they were given or stand in the text.
    package struct Object: Sendable {
        package struct Member: Sendable {
            package var key: String
            package var value: JSON
            package init(key: String, value: JSON) {
                self.key = key
                self.value = value
            }
        }

        /// Also a key that a text repeats; the last one counts, as in Go.
        package private(set) var members: [Member]

        package init() { members = [] }
        package init(members: [Member]) { self.members = members }
        package init(_ members: [(String, JSON)]) {
            self.members = members.map { Member(key: $0.0, value: $0.1) }
        }

        package var keys: [String] { members.map(\.key) }

        /// The last value of `key`. Setting replaces it where it stands or appends; nil removes every one.
        package subscript(key: String) -> JSON? {
            get { members.last { $0.key == key }?.value }
            set {
                guard let newValue else {
                    members.removeAll { $0.key == key }
                    return
                }
                if let index = members.lastIndex(where: { $0.key == key }) {
                    members[index].value = newValue
                } else {
                    members.append(Member(key: key, value: newValue))
                }
            }
        }
    }
}

// MARK: Looking inside

/// Each accessor is nil when the value is of another kind or does not fit.
extension JSON {
    /// The member `key` of an object.
    package subscript(key: String) -> JSON? { object?[key] }

    /// The element `index` of an array.
    package subscript(index: Int) -> JSON? {
        guard let array, array.indices.contains(index) else { return nil }
        return array[index]
    }

    package var isNull: Bool { if case .null = self { true } else { false } }
    package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    package var string: String? { if case .string(let value) = self { value } else { nil } }
    package var array: [JSON]? { if case .array(let value) = self { value } else { nil } }
    package var object: Object? { if case .object(let value) = self { value } else { nil } }

    package var int64: Int64? { if case .integer(let value) = self { value } else { nil } }
    package var int: Int? { int64.flatMap { Int(exactly: $0) } }
    package var uint32: UInt32? { int64.flatMap { UInt32(exactly: $0) } }
    package var uint64: UInt64? {
        switch self {
        case .integer(let value): UInt64(exactly: value)
        case .unsigned(let value): value
        default: nil
        }
    }
    /// Any number, rounded to the nearest Double.
    package var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .unsigned(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }
    /// The strings of an array that holds nothing else.
    package var strings: [String]? {
        guard let array else { return nil }
        var result: [String] = []
        for element in array {
            guard let string = element.string else { return nil }
            result.append(string)
        }
        return result
    }
}

// MARK: Literals and comparison

extension JSON: Equatable {}
extension JSON.Object: Equatable {}
extension JSON.Object.Member: Equatable {}

extension JSON: ExpressibleByNilLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByFloatLiteral, ExpressibleByStringLiteral, ExpressibleByStringInterpolation,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    package init(nilLiteral: ()) { self = .null }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(floatLiteral value: Double) { self = .double(value) }
    package init(stringLiteral value: String) { self = .string(value) }
    package init(arrayLiteral elements: JSON...) { self = .array(elements) }
    package init(dictionaryLiteral elements: (String, JSON)...) { self = .object(Object(elements)) }
}
