import Glibc
import JSON
import Posix
import Testing

import Repository

@Suite("Sealing")
struct CryptoTests {
    private func key(_ example: JSON) throws -> MasterKey {
        func field(_ name: String) throws -> [UInt8] {
            try #require(example[name]?.string.flatMap { Posix.bytes(hex: $0) })
        }
        return try MasterKey(
            encrypt: field("encrypt_key"),
            k: field("mac_k"),
            r: field("mac_r_raw")
        )
    }

    private func sealed(_ key: MasterKey, _ plain: [UInt8], iv: [UInt8]) throws -> [UInt8] {
        let sealer = try Sealer(key)
        var output = [UInt8](repeating: 0, count: plain.count + 32)
        let size = try plain.withUnsafeBytes { plain in
            try output.withUnsafeMutableBytes { try sealer.seal(plain, iv: iv, into: $0) }
        }
        #expect(size == output.count)
        return output
    }

    @Test func `the worked example comes out byte by byte`() throws {
        let example = try #require(try Vectors.load()["aead_worked_example"])
        func bytes(_ name: String) throws -> [UInt8] {
            try #require(example[name]?.string.flatMap { Posix.bytes(hex: $0) })
        }
        let key = try key(example)
        #expect(try sealed(key, bytes("plaintext"), iv: bytes("iv")) == bytes("sealed"))
        #expect(try sealed(key, [], iv: bytes("iv")) == bytes("empty_plaintext_sealed"))
        #expect(
            try sealed(key, bytes("counter_wrap_plaintext"), iv: bytes("counter_wrap_iv"))
                == bytes("counter_wrap_sealed")
        )
        #expect(try Sealer(key).open(bytes("sealed")) == bytes("plaintext"))
    }

    @Test func `any flipped bit, a zero IV and a short text do not open`() throws {
        let key = try MasterKey.random()
        let sealer = try Sealer(key)
        let text = Array("what nobody may change".utf8)
        let sealed = try sealer.seal(text)
        #expect(try sealer.open(sealed) == text)
        for index in sealed.indices {
            var changed = sealed
            changed[index] ^= 0x10
            #expect(try sealer.open(changed) == nil)
        }
        #expect(try sealer.open([UInt8](repeating: 0, count: 64)) == nil)
        #expect(try sealer.open([1, 2, 3]) == nil)
        let zeroed = try self.sealed(key, text, iv: [UInt8](repeating: 0, count: 16))
        #expect(try sealer.open(zeroed) == nil)
    }

    @Test func `keys of zeros are refused`() {
        #expect(throws: RepositoryError.self) {
            try MasterKey(encrypt: [UInt8](repeating: 0, count: 32), k: randomBytes(16), r: randomBytes(16))
        }
        #expect(throws: RepositoryError.self) {
            try MasterKey(encrypt: randomBytes(32), k: [UInt8](repeating: 0, count: 16), r: randomBytes(16))
        }
    }

    @Test func `HKDF gives RFC 5869's first and third test case`() throws {
        let key = [UInt8](repeating: 0x0B, count: 22)
        let first = try hkdfSHA256(
            key: key,
            salt: Array(0...12),
            info: Array(0xF0...0xF9),
            count: 42
        )
        #expect(
            hex(first)
                == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        )
        let third = try hkdfSHA256(key: key, salt: [], info: [], count: 42)
        #expect(
            hex(third)
                == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        )
    }

    @Test(arguments: Vectors.repositories)
    func `stock key files open with scrypt's figures from the vectors`(name: String) throws {
        let keys = try #require(try Vectors.load()["repos"]?[name]?["keys"]?.array)
        for vector in keys {
            let file = try KeyFile(parsing: Array(try #require(vector["file_text"]?.string).utf8))
            let password = Array(try #require(vector["password"]?.string).utf8)
            let derived = try scrypt(password, salt: file.salt, file.cost)
            #expect(hex(derived) == vector["scrypt_output_64"]?.string)
            let master = try #require(try file.open(derived: derived))
            #expect(hex(master.encrypt) == vector["master_encrypt_key"]?.string)
            #expect(hex(master.k) == vector["master_mac_k"]?.string)
            #expect(hex(master.r) == vector["master_mac_r_stored"]?.string)
            #expect(try file.open(Array("something else".utf8)) == nil)
        }
    }

    @Test func `base64 goes both ways and refuses rubbish`() {
        for count in 0..<70 {
            let bytes = noise(count, seed: 7)
            #expect(Base64.decode(Base64.encode(bytes)) == bytes)
        }
        #expect(Base64.encode(Array("restic".utf8)) == "cmVzdGlj")
        for text in ["a", "ab=c", "====", "ab==abcd", "ab\n=", "a+-/"] { #expect(Base64.decode(text) == nil) }
    }

    @Test func `random polynomials are irreducible and reducible ones are found out`() {
        #expect(Polynomial.isIrreducible(0x28_613a_b4d4_9f77))
        #expect(Polynomial.isIrreducible(0b111))
        #expect(!Polynomial.isIrreducible(0b101))
        // The product of two irreducible ones of degree 2 and 3.
        #expect(!Polynomial.isIrreducible(0b110001))
        let random = Polynomial.random()
        #expect(Polynomial.degree(random) == 53 && random & 1 == 1)
    }

    @Test func `an id is 64 digits and orders as its bytes`() throws {
        let text = "00ff" + String(repeating: "a1", count: 30)
        let id = try #require(BlobID(hex: text))
        #expect(id.hex == text)
        #expect(BlobID(hex: text.uppercased()) == id)
        #expect(BlobID(hex: text.dropLast()) == nil)
        #expect(BlobID(hex: "x" + text.dropFirst()) == nil)
        #expect(try #require(BlobID(bytes: id.bytes)) == id)
        #expect(id < (try #require(BlobID(hex: "01" + text.dropFirst(2)))))
        var digits: [UInt8] = []
        id.appendHex(to: &digits)
        #expect(String(decoding: digits, as: UTF8.self) == text)
    }
}

@Suite("Opening and making repositories")
struct CryptoRepositoryTests {
    @Test(arguments: Vectors.repositories)
    func `stock repositories open with each password and not with another`(name: String) throws {
        let scratch = try ScratchFolder()
        let path = try scratch.unpack(name)
        for password in Vectors.passwords {
            let repository = try Repository.open(at: path, password: password)
            let plain = try #require(try Vectors.load()["repos"]?[name]?["config"]?["plaintext"]?.string)
            #expect(String(decoding: repository.config.encoded(), as: UTF8.self) == plain)
        }
        #expect {
            try Repository.open(at: path, password: "wrong")
        } throws: { error in
            if case .wrongPassword(_, 2, _)? = error as? RepositoryError { true } else { false }
        }
    }

    @Test(arguments: Vectors.repositories)
    func `stock snapshots and index files read as their JSON`(name: String) throws {
        let scratch = try ScratchFolder()
        let repository = try Repository.open(at: scratch.unpack(name), password: Vectors.passwords[0])
        let vector = try #require(try Vectors.load()["repos"]?[name])
        for (folder, list) in [(Repository.Folder.snapshots, "snapshots"), (.index, "index_files")] {
            let expected = try #require(vector[list]?.array)
            #expect(try repository.list(folder).count == expected.count)
            for file in expected {
                let id = try #require(file["id"]?.string.flatMap { BlobID(hex: $0) })
                #expect(
                    String(decoding: try repository.read(folder, id), as: UTF8.self) == file["json"]?.string
                )
            }
        }
    }

    @Test func `what we make opens here and in restic, with the password and the recovery passphrase`() throws
    {
        let scratch = try ScratchFolder()
        let path = "\(scratch.path)/made"
        let passphrase = Passphrase.generate()
        let password = Passphrase.machinePassword()
        let derived = try RecoveryKey.derive(passphrase: passphrase, cost: ScryptCost(n: 4096, r: 8, p: 1))
        let recovery = try RecoveryKey(decoding: derived.encoded())
        #expect(recovery == derived)
        #expect(try recovery.matches(passphrase: passphrase))
        let made = try Repository.create(at: path, keys: [.password(password), .recovery(recovery)])
        for opened in [
            try Repository.open(at: path, password: password),
            try Repository.open(at: path, password: passphrase),
            try Repository.open(at: path + "/", recovery: recovery),
        ] { #expect(opened.config == made.config) }
        #expect(try made.hasKey(recovery))
        for secret in [password, passphrase] {
            let text = try restic(path, password: secret, ["check", "--read-data"])
            #expect(text.contains("no errors were found"))
        }
        #expect(try FileStatus(path: "\(path)/config").mode & 0o777 == 0o600)
        #expect(try FileStatus(path: "\(path)/data/ff").mode & 0o777 == 0o700)
    }

    /// The recovery key takes 128 MiB and half a second, and lies before the host's own as often as behind it.
    @Test func `opening tries the keys that cost least first`() throws {
        let scratch = try ScratchFolder()
        for number in 0..<6 {
            let costly = try RecoveryKey.derive(passphrase: "on paper", cost: ScryptCost(n: 4096, r: 8, p: 1))
            let path = "\(scratch.path)/\(number)"
            _ = try Repository.create(at: path, keys: [.recovery(costly), .password("own")])
            var tried: [Int] = []
            _ = try Repository.open(at: path) {
                tried.append($0.cost.n)
                return try $0.open(Array("own".utf8))
            }
            #expect(tried == [ScryptCost.cheap.n])
        }
    }

    @Test func `only an empty folder or the rest of an unfinished making is taken`() throws {
        let scratch = try ScratchFolder()
        let path = "\(scratch.path)/repository"
        try Files.makeDirectories(path)
        try Files.writeAtomically([1], to: "\(path)/photo.jpg")
        #expect(throws: RepositoryError.folderInUse(path: path, found: "photo.jpg")) {
            try Repository.create(at: path, keys: [.password("a")])
        }
        try Files.remove("\(path)/photo.jpg")
        _ = try Repository.create(at: path, keys: [.password("a")])
        #expect(throws: RepositoryError.alreadyThere(path: path)) {
            try Repository.create(at: path, keys: [.password("b")])
        }
        // Killed before its config: the old key must not be found by whoever opens what comes next.
        try Files.remove("\(path)/config")
        let made = try Repository.create(at: path, keys: [.password("b")])
        #expect(try made.list(.keys).count == 1)
        try restic(path, password: "b", ["check"])
        // A repository that lost its config is not an unfinished one.
        try Files.remove("\(path)/config")
        try Files.writeAtomically([1], to: "\(path)/data/00/something")
        #expect(throws: RepositoryError.folderInUse(path: path, found: "\(path)/data/00/something")) {
            try Repository.create(at: path, keys: [.password("c")])
        }
    }

    @Test func `what is wrong with a repository is named`() throws {
        let scratch = try ScratchFolder()
        let path = "\(scratch.path)/repository"
        #expect(throws: RepositoryError.noRepository(path: path)) {
            try Repository.open(at: path, password: "a")
        }
        let made = try Repository.create(at: path, keys: [.password("a")])
        // A foreign key file is no error while another one opens.
        let foreign = Array(#"{"kdf":"argon2","data":"","salt":""}"#.utf8)
        try made.write(foreign, named: BlobID.hash(of: foreign), in: .keys)
        _ = try Repository.open(at: path, password: "a")
        #expect {
            try Repository.open(at: path, password: "b")
        } throws: { "\($0)".contains("argon2 is not known") && "\($0)".contains("wrong password") }

        let config = try Files.read("\(path)/config")
        for (version, text) in [(1, "version 1"), (3, "version 3")] {
            let other = Array(#"{"version":\#(version),"id":"\#(made.config.id)"}"#.utf8)
            try Files.writeAtomically(try Sealer(made.master).seal(other), to: "\(path)/config")
            #expect {
                try Repository.open(at: path, password: "a")
            } throws: { "\($0)".contains(text) }
        }
        try Files.writeAtomically(config.dropLast() + [config[config.count - 1] ^ 1], to: "\(path)/config")
        #expect {
            try Repository.open(at: path, password: "a")
        } throws: { "\($0)".contains("\(path)/config is damaged") }
    }

    @Test func `a twenty-first key is refused`() throws {
        let scratch = try ScratchFolder()
        let made = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let cost = ScryptCost(n: 2, r: 1, p: 1)
        for number in 1..<20 { _ = try made.addKey(.password("\(number)", cost: cost)) }
        _ = try Repository.open(at: made.path, password: "19")
        #expect(throws: RepositoryError.self) { try made.addKey(.password("20", cost: cost)) }
    }

    @Test func `a changed, empty or foreign small file is named`() throws {
        let scratch = try ScratchFolder()
        let made = try Repository.create(at: "\(scratch.path)/r", keys: [.password("a")])
        let text = Array(#"{"some":"snapshot"}"#.utf8)
        let id = try made.write(text, to: .snapshots)
        #expect(try made.read(.snapshots, id) == text)
        #expect(try made.list(.snapshots) == [id])
        let file = made.filePath(.snapshots, id)
        var bytes = try Files.read(file)
        bytes[20] ^= 1
        try Files.writeAtomically(bytes, to: file)
        #expect { try made.read(.snapshots, id) } throws: { "\($0)".contains("\(file) is damaged") }
        try Files.writeAtomically([], to: file)
        #expect { try made.read(.snapshots, id) } throws: { "\($0)".contains("it is empty") }
        // Sealed by somebody else, under a right name.
        let foreign = try Sealer(MasterKey.random()).seal(text)
        let other = try BlobID.hash(of: foreign)
        try made.write(foreign, named: other, in: .snapshots)
        #expect { try made.read(.snapshots, other) } throws: { "\($0)".contains("does not open") }
    }
}
