// Tandem — Apache-2.0

import ArgumentParser
import Glibc

/// Files that a flag names.
enum BoundedFile {
    /// Most bytes of a file of measurements; they have some ten thousands.
    private static let mostBytes = 1 << 24

    /// The whole of a file.
    ///
    /// - Parameters:
    ///   - flag: that names it, for errors.
    ///   - kind: what it should be, for errors.
    /// - Throws: `ValidationError` for one that cannot be read, or that is too large to be what it should be.
    static func bytes(_ path: String, flag: String, kind: String) throws -> [UInt8] {
        guard let file = fopen(path, "r") else {
            throw ValidationError("\(flag): \(path): \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 {
            bytes += buffer[..<count]
            guard bytes.count <= mostBytes else {
                throw ValidationError("\(flag): \(path): more than \(mostBytes >> 20) MiB; that is no \(kind)")
            }
        }
        guard ferror(file) == 0 else { throw ValidationError("\(flag): \(path): cannot be read") }
        return bytes
    }
}
