import Glibc
import Posix
import SSH
import Testing

@Suite("Keys")
struct KeyTests {
    @Test func `a key comes back from its file`() throws {
        let scratch = try Scratch()
        let key = try KeyPair.generate()
        try key.save(to: "\(scratch.path)/key")
        #expect(try KeyPair.load("\(scratch.path)/key").publicKey == key.publicKey)
        #expect(try FileStatus(path: "\(scratch.path)/key").mode & 0o7777 == 0o600)
        #expect(try Directory.names(scratch.path) == [Array("key".utf8)])
    }

    @Test func `two keys differ`() throws {
        #expect(try KeyPair.generate().publicKey != KeyPair.generate().publicKey)
    }

    @Test func `OpenSSH reads our key and prints the same fingerprint`() throws {
        let scratch = try Scratch()
        let key = try KeyPair.generate()
        try key.save(to: "\(scratch.path)/key")
        let text = try ChildProcess.run(["ssh-keygen", "-y", "-f", "\(scratch.path)/key"])
        #expect(String(decoding: text.output, as: UTF8.self).hasPrefix(key.publicKey.openSSH))
        let print = try ChildProcess.run(["ssh-keygen", "-l", "-f", "\(scratch.path)/key"])
        #expect(
            String(decoding: print.output, as: UTF8.self).hasPrefix("256 \(key.publicKey.fingerprint.text) ")
        )
    }

    @Test func `we read OpenSSH's key`() throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/key"
        let made = try ChildProcess.run([
            "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a b", "-f", path,
        ])
        #expect(made.end == .exit(0))
        let key = try KeyPair.load(path)
        let line = String(decoding: try Files.read("\(path).pub"), as: UTF8.self)
        #expect(PublicKey(openSSH: line) == key.publicKey)
        #expect(line.hasPrefix(key.publicKey.openSSH + " a b"))
    }

    @Test func `a key that others can read is refused with the remedy`() throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/key"
        try KeyPair.generate().save(to: path)
        chmod(path, 0o640)
        let error = try #require(throws: SSHError.self) { try KeyPair.load(path) }
        #expect("\(error)".contains("mode 640"))
        #expect("\(error)".contains("chmod 600"))
    }

    @Test(arguments: [["-t", "ed25519", "-N", "secret"], ["-t", "rsa", "-b", "2048", "-N", ""]])
    func `a key with a passphrase or of another type is refused`(options: [String]) throws {
        let scratch = try Scratch()
        let path = "\(scratch.path)/key"
        #expect(try ChildProcess.run(["ssh-keygen", "-q", "-f", path] + options).end == .exit(0))
        let error = try #require(throws: SSHError.self) { try KeyPair.load(path) }
        #expect("\(error)".contains(path))
    }

    @Test func `a missing file and one that is no key are named`() throws {
        let scratch = try Scratch()
        #expect(throws: SSHError.keyFile(path: "/nowhere/key", "open: No such file or directory")) {
            try KeyPair.load("/nowhere/key")
        }
        for bytes in [[], [0], Array("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n".utf8), randomBytes(4096)] {
            try Files.writeAtomically(bytes, to: "\(scratch.path)/key")
            #expect(throws: SSHError.self) { try KeyPair.load("\(scratch.path)/key") }
        }
    }

    @Test func `texts of public keys and fingerprints are read strictly`() throws {
        let key = try KeyPair.generate().publicKey
        #expect(PublicKey(blob: key.blob) == key)
        #expect(PublicKey(openSSH: key.openSSH + " comment") == key)
        #expect(Fingerprint(text: key.fingerprint.text) == key.fingerprint)
        #expect(Fingerprint(bytes: key.fingerprint.bytes) == key.fingerprint)
        for text in ["", "ssh-ed25519", "ssh-rsa AAAA", "ssh-ed25519 AAAA", "ssh-ed25519 *" + key.openSSH] {
            #expect(PublicKey(openSSH: text) == nil)
        }
        for end in 0..<key.blob.count { #expect(PublicKey(blob: Array(key.blob[..<end])) == nil) }
        #expect(PublicKey(blob: key.blob + [0]) == nil)
        let text = key.fingerprint.text
        for bad in [
            "", "SHA256:", "MD5:00", String(text.dropLast()), text + "=", text + "A",
            "sha256" + text.dropFirst(6),
        ] {
            #expect(Fingerprint(text: bad) == nil)
        }
        #expect(Fingerprint(bytes: [1, 2]) == nil)
    }
}
