// Tandem — Apache-2.0

import Testing

@testable import ModelStore

@Suite struct SHA1Tests {
    /// Examples of FIPS 180-4 and of NIST's validation suite.
    @Test(arguments: [
        ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
        (
            "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
                + "nopqrstu",
            "a49b2446a02c645bf419f995b67091253a04a259"
        ),
    ])
    func knownVectors(text: String, digest: String) {
        var sha = SHA1()
        Array(text.utf8).withUnsafeBytes { sha.update($0) }
        #expect(sha.hexDigest() == digest)
    }

    @Test func aMillionLettersInUnevenPieces() {
        var sha = SHA1()
        var left = 1_000_000
        var size = 1
        while left > 0 {
            let piece = [UInt8](repeating: UInt8(ascii: "a"), count: min(size, left))
            piece.withUnsafeBytes { sha.update($0) }
            left -= piece.count
            size = size % 1_000 + 7
        }
        #expect(sha.hexDigest() == "34aa973cd4c4daa4f61eeb2bdbad27316534016f")
    }

    /// Of `git hash-object`: the empty file, and the example of Chacon and Straub, "Pro Git", section 10.2.
    @Test(arguments: [
        ("", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        ("what is up, doc?", "bd9dbf5aae1a3862dd1526723246b20206e5fc37"),
    ])
    func namesOfGit(text: String, digest: String) throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write(text, to: "file")
        #expect(try Files.gitBlob(of: path, progress: { _ in }) == digest)
    }

    /// Every length around the block and padding boundaries, whole against byte by byte.
    @Test func piecesDoNotMatter() {
        for length in 0...200 {
            let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ 7) }
            var whole = SHA1()
            bytes.withUnsafeBytes { whole.update($0) }
            var single = SHA1()
            for byte in bytes { withUnsafeBytes(of: byte) { single.update($0) } }
            #expect(whole.hexDigest() == single.hexDigest(), "length \(length)")
        }
    }
}
