import JSON
import Posix

/// A password that shall open a repository.
package enum NewKey: Sendable {
    case password(String, cost: ScryptCost = .cheap)
    /// The fleet's recovery passphrase, by what was derived from it.
    case recovery(RecoveryKey)
}

/// One file of `keys/`: the master key, sealed with what scrypt makes of a password (restic's format).
package struct KeyFile {
    package let cost: ScryptCost
    package let salt: [UInt8]
    /// The sealed JSON of the master key.
    let data: [UInt8]

    /// Reads the JSON; `reason` says why it cannot be tried.
    package init(parsing text: [UInt8]) throws(Unreadable) {
        let json: JSON
        do { json = try JSON(parsing: text) } catch { throw Unreadable(reason: "\(error)") }
        guard let kdf = json["kdf"]?.string else { throw Unreadable(reason: "it names no key derivation") }
        guard kdf == "scrypt" else {
            throw Unreadable(reason: "its key derivation \(escaped(kdf.utf8)) is not known")
        }
        guard let n = json["N"]?.int, let r = json["r"]?.int, let p = json["p"]?.int, n > 0, r > 0, p > 0,
            n <= 1 << 30, r <= 1 << 20, p <= 1 << 20, ScryptCost(n: n, r: r, p: p).isAllowed
        else { throw Unreadable(reason: "its scrypt parameters are outside what is allowed") }
        guard let salt = json["salt"]?.string.flatMap(Base64.decode), salt.count == 64 else {
            throw Unreadable(reason: "its salt is not 64 bytes")
        }
        guard let data = json["data"]?.string.flatMap(Base64.decode) else {
            throw Unreadable(reason: "it holds no sealed key")
        }
        cost = ScryptCost(n: n, r: r, p: p)
        self.salt = salt
        self.data = data
    }

    package struct Unreadable: Error { package let reason: String }

    /// The master key, or nil when the password is another one.
    package func open(_ password: [UInt8]) throws -> MasterKey? {
        try open(derived: scrypt(password, salt: salt, cost))
    }

    /// As above, with what scrypt made of the password already.
    package func open(derived: [UInt8]) throws -> MasterKey? {
        guard let user = try? MasterKey(derived: derived),
            let plain = try Sealer(user).open(data)
        else { return nil }
        let json = try JSON(parsing: plain)
        guard let encrypt = json["encrypt"]?.string.flatMap(Base64.decode),
            let k = json["mac"]?["k"]?.string.flatMap(Base64.decode),
            let r = json["mac"]?["r"]?.string.flatMap(Base64.decode)
        else { throw RepositoryError.invalid("the key opened but holds no master key") }
        return try MasterKey(encrypt: encrypt, k: k, r: r)
    }

    /// The bytes of a new key file for `master`.
    static func make(_ key: NewKey, master: MasterKey) throws -> [UInt8] {
        let salt: [UInt8]
        let cost: ScryptCost
        let derived: [UInt8]
        switch key {
        case .password(let password, let chosen):
            salt = randomBytes(64)
            cost = chosen
            derived = try scrypt(Array(password.utf8), salt: salt, cost)
        case .recovery(let recovery): (salt, cost, derived) = (recovery.salt, recovery.cost, recovery.derived)
        }
        let plain = JSON([
            (
                "mac",
                JSON([
                    ("k", JSON(Base64.encode(master.k))), ("r", JSON(Base64.encode(master.r))),
                ])
            ), ("encrypt", JSON(Base64.encode(master.encrypt))),
        ]).encoded()
        let sealed = try Sealer(MasterKey(derived: derived)).seal(plain)
        return JSON([
            ("created", JSON(Time.rfc3339(Time.now()))), ("username", "holdfast"),
            ("hostname", JSON(Host.name)), ("kdf", "scrypt"), ("N", JSON(cost.n)), ("r", JSON(cost.r)),
            ("p", JSON(cost.p)), ("salt", JSON(Base64.encode(salt))), ("data", JSON(Base64.encode(sealed))),
        ]).encoded()
    }
}
