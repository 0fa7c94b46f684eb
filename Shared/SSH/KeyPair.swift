import CLibSSH
import Glibc
package import Posix

/// An ed25519 key with its private half: the agent's own, or the coordinator's host key.
package final class KeyPair: @unchecked Sendable {
    // Never written after `init`; libssh only reads it.
    let handle: ssh_key
    package let publicKey: PublicKey

    /// Takes over `handle`.
    private init(_ handle: ssh_key) throws(SSHError) {
        guard let publicKey = PublicKey(handle: handle) else {
            ssh_key_free(handle)
            throw .library("the key is not of type ed25519")
        }
        self.handle = handle
        self.publicKey = publicKey
    }

    deinit { ssh_key_free(handle) }

    /// Makes a new key.
    package static func generate() throws(SSHError) -> KeyPair {
        var key: ssh_key?
        guard ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &key) == SSH_OK, let key else {
            throw .library("cannot make a key")
        }
        return try KeyPair(key)
    }

    /// Reads a key that `save` or `ssh-keygen -t ed25519 -N ''` wrote.
    ///
    /// - Throws: `SSHError.keyFile` when the file is missing, can be read by others than its owner, is no key,
    ///   or has a passphrase.
    package static func load(_ path: String) throws(SSHError) -> KeyPair {
        let text: [UInt8]
        do {
            let file = try FileDescriptor(open: path, O_RDONLY)
            let status = try file.status()
            guard status.mode & 0o077 == 0 else {
                let mode = String(status.mode & 0o7777, radix: 8)
                throw SSHError.keyFile(
                    path: path,
                    "others can read this private key (mode \(mode)); `chmod 600` it, and if they may have done "
                        + "so, replace it"
                )
            }
            text = try file.readToEnd(limit: 64 << 10)
        } catch let error as SystemCallError {
            throw .keyFile(path: path, "\(error.call): \(error.reason)")
        } catch { throw error as? SSHError ?? .keyFile(path: path, "\(error)") }
        // Without a callback and a passphrase, libssh answers a locked key with an error and no prompt.
        var key: ssh_key?
        let code = (text + [0]).withUnsafeBytes {
            ssh_pki_import_privkey_base64(
                $0.assumingMemoryBound(to: CChar.self).baseAddress,
                nil,
                nil,
                nil,
                &key
            )
        }
        guard code == SSH_OK, let key else {
            throw .keyFile(
                path: path,
                "not a private key without a passphrase in OpenSSH's format; put the right file back from a copy"
            )
        }
        do throws(SSHError) { return try KeyPair(key) } catch {
            throw .keyFile(path: path, "not an ed25519 key")
        }
    }

    /// Writes the key in OpenSSH's format, mode 600, so that it is there whole or not at all.
    package func save(to path: String) throws(SystemCallError) {
        var text: UnsafeMutablePointer<CChar>?
        guard ssh_pki_export_privkey_base64(handle, nil, nil, nil, &text) == SSH_OK, let text else {
            throw SystemCallError("export the key", errno: ENOMEM, path)
        }
        let length = strlen(text)
        defer {
            explicit_bzero(text, length)
            ssh_string_free_char(text)
        }
        let bytes = [UInt8](UnsafeRawBufferPointer(start: text, count: length))
        try Files.writeAtomically(bytes, to: path, mode: 0o600)
    }
}
