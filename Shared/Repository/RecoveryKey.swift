import JSON
import Posix

/// What the fleet's recovery passphrase becomes by a costly scrypt. With it every new repository gets a key
/// that stock restic opens with the passphrase, although the passphrase itself is kept nowhere.
///
/// It opens every repository that has such a key, as the password files beside it do: keep its file at mode
/// 600 too.
package struct RecoveryKey: Equatable, Sendable {
    let salt: [UInt8]
    let cost: ScryptCost
    /// The 64 bytes that scrypt gave.
    let derived: [UInt8]

    /// Costs about a third of a second and 128 MiB for the default cost.
    package static func derive(passphrase: String, cost: ScryptCost = .costly) throws -> RecoveryKey {
        let salt = randomBytes(64)
        let derived = try scrypt(Array(passphrase.utf8), salt: salt, cost)
        return RecoveryKey(salt: salt, cost: cost, derived: derived)
    }

    /// Whether `passphrase` is the one that this was derived from; as costly as `derive`.
    package func matches(passphrase: String) throws -> Bool {
        try scrypt(Array(passphrase.utf8), salt: salt, cost) == derived
    }

    private init(salt: [UInt8], cost: ScryptCost, derived: [UInt8]) {
        self.salt = salt
        self.cost = cost
        self.derived = derived
    }

    /// For the coordinator's file: a JSON object with `N`, `r`, `p`, `salt` and `derived` (base64).
    package func encoded() -> [UInt8] {
        JSON([
            ("N", JSON(cost.n)), ("r", JSON(cost.r)), ("p", JSON(cost.p)),
            ("salt", JSON(Base64.encode(salt))), ("derived", JSON(Base64.encode(derived))),
        ]).encoded(pretty: true)
    }

    package init(decoding bytes: [UInt8]) throws {
        let json = try JSON(parsing: bytes)
        guard let n = json["N"]?.int, let r = json["r"]?.int, let p = json["p"]?.int,
            let salt = json["salt"]?.string.flatMap(Base64.decode), salt.count == 64,
            let derived = json["derived"]?.string.flatMap(Base64.decode), derived.count == 64,
            n > 0, r > 0, p > 0, ScryptCost(n: n, r: r, p: p).isAllowed
        else { throw RepositoryError.invalid("this is no recovery key") }
        self.init(salt: salt, cost: ScryptCost(n: n, r: r, p: p), derived: derived)
    }
}

/// Secrets for people and for machines.
package enum Passphrase {
    // Lower case without l and o, digits without 0 and 1: 32 signs, five bits each.
    private static let letters = Array("abcdefghijkmnpqrstuvwxyz23456789".utf8)

    /// Five groups of five signs, 125 random bits, such as `k3mfp-x7qaz-…`.
    package static func generate() -> String {
        let signs = randomBytes(25).map { letters[Int($0 & 31)] }
        let groups = stride(from: 0, to: 25, by: 5).map {
            String(decoding: signs[$0..<$0 + 5], as: UTF8.self)
        }
        return groups.joined(separator: "-")
    }

    /// A random password for a file: 64 hexadecimal digits.
    package static func machinePassword() -> String { randomHex(32) }
}
