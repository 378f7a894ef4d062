// Tandem — Apache-2.0

/// A file in a repository.
struct HubFile: Equatable {
    /// How the hub names a content.
    enum Content: Equatable, Hashable {
        /// SHA-256, of files that git keeps elsewhere (LFS).
        case sha256(String)
        /// The SHA-1 by which git itself names a file.
        case gitBlob(String)

        /// 64 or 40 lower-case hexadecimal digits.
        var digest: String {
            switch self {
            case .sha256(let digest), .gitBlob(let digest): digest
            }
        }

        /// A digest by its length; null if it is none.
        init?(digest: String) {
            guard digest.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else { return nil }
            switch digest.utf8.count {
            case 64: self = .sha256(digest)
            case 40: self = .gitBlob(digest)
            default: return nil
            }
        }
    }

    /// Where it lies in the repository; see ``isSafePath(_:)``.
    var path: String
    var byteCount: UInt64
    var content: Content

    /// The name without directories.
    var fileName: String { String(path.split(separator: "/").last ?? "") }

    /// Whether a path stays below the directory that it is relative to, and can be shown.
    static func isSafePath(_ path: String) -> Bool {
        guard (1...1024).contains(path.utf8.count), !path.contains("\\") else { return false }
        guard path.unicodeScalars.allSatisfy(Printable.isPlain) else { return false }
        return path.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { part in
            !part.isEmpty && part != "." && part != ".." && part.utf8.count <= 255
        }
    }
}
