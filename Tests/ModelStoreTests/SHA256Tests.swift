// Tandem — Apache-2.0

import ModelStore
import Testing

@Suite struct SHA256Tests {
    /// Examples of FIPS 180-4 and of NIST's validation suite.
    @Test(arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        (
            "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
                + "nopqrstu",
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
        ),
    ])
    func knownVectors(text: String, digest: String) {
        var sha = SHA256()
        Array(text.utf8).withUnsafeBytes { sha.update($0) }
        #expect(sha.hexDigest() == digest)
    }

    @Test func aMillionLettersInUnevenPieces() {
        var sha = SHA256()
        var left = 1_000_000
        var size = 1
        while left > 0 {
            let piece = [UInt8](repeating: UInt8(ascii: "a"), count: min(size, left))
            piece.withUnsafeBytes { sha.update($0) }
            left -= piece.count
            size = size % 1_000 + 7
        }
        #expect(sha.hexDigest() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }

    /// Every length around the block and padding boundaries, whole against byte by byte.
    @Test func piecesDoNotMatter() {
        for length in 0...200 {
            let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ 7) }
            var whole = SHA256()
            bytes.withUnsafeBytes { whole.update($0) }
            var single = SHA256()
            for byte in bytes { withUnsafeBytes(of: byte) { single.update($0) } }
            #expect(whole.digest() == single.digest(), "length \(length)")
            #expect(whole.digest().count == 32)
        }
    }
}
