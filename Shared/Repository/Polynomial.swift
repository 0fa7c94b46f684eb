import Posix

/// Polynomials over GF(2) as bits of a word. Stock restic demands an irreducible one of degree 53 in `config`
/// and cuts its own files with it; our chunker uses none.
package enum Polynomial {
    /// A random irreducible polynomial of degree 53.
    package static func random() -> UInt64 {
        while true {
            var candidate: UInt64 = 0
            for byte in randomBytes(8) { candidate = candidate << 8 | UInt64(byte) }
            candidate &= (1 << 54) - 1
            candidate |= 1 << 53 | 1
            if isIrreducible(candidate) { return candidate }
        }
    }

    /// Ben-Or's test: f of degree n is irreducible when gcd(x^(2^i) − x, f) = 1 for i = 1 … n/2.
    package static func isIrreducible(_ f: UInt64) -> Bool {
        let degree = degree(f)
        guard degree >= 1, degree <= 61 else { return false }
        if degree == 1 { return true }
        // x itself, then x^2, x^4, …
        var power: UInt64 = 2
        for _ in 1...degree / 2 {
            power = square(power, modulo: f)
            if gcd(f, power ^ 2) != 1 { return false }
        }
        return true
    }

    package static func degree(_ f: UInt64) -> Int { 63 - f.leadingZeroBitCount }

    private static func square(_ a: UInt64, modulo f: UInt64) -> UInt64 {
        let degree = degree(f)
        var result: UInt64 = 0
        // Horner's scheme from the top bit of `a`: multiply by x, reduce, add.
        for bit in stride(from: degree - 1, through: 0, by: -1) {
            result <<= 1
            if result >> UInt64(degree) & 1 != 0 { result ^= f }
            if a >> UInt64(bit) & 1 != 0 { result ^= a }
        }
        return result
    }

    private static func gcd(_ a: UInt64, _ b: UInt64) -> UInt64 {
        var a = a
        var b = b
        while b != 0 {
            while a != 0, degree(a) >= degree(b) { a ^= b << UInt64(degree(a) - degree(b)) }
            (a, b) = (b, a)
        }
        return a
    }
}
