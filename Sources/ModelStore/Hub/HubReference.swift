// Tandem — Apache-2.0

/// A model on a Hugging Face hub as a user names it: `ORG/NAME`, with a revision and a choice among its files.
///
///     ORG/NAME                     the hub's main branch, files as ``HubPlan`` chooses
///     ORG/NAME@REVISION            a branch, tag, pull request (refs/pr/1) or commit
///     ORG/NAME:Q4_K_M              the GGUF file with that quantization
///     ORG/NAME:safetensors         the safetensors files, though there are GGUF files
///     ORG/NAME/path/file.gguf      that file (also ORG/NAME:path/file.gguf)
///
/// A revision and a choice go together, in either order. Addresses of the hub's pages, and `hf.co/ORG/NAME` and
/// `hf:ORG/NAME`, mean the same as `ORG/NAME`.
public struct HubReference: Sendable, Equatable {
    /// Which files of a repository are wanted.
    public enum Choice: Sendable, Equatable {
        case automatic
        case safetensors
        /// A GGUF file by its quantization, in upper case.
        case quantization(String)
        /// A GGUF file by its path in the repository.
        case file(String)
    }

    public var organization: String
    public var name: String
    public var revision: String
    public var choice: Choice

    /// The branch that is meant without a revision.
    public static let defaultRevision = "main"

    init(organization: String, name: String, revision: String = defaultRevision, choice: Choice = .automatic) {
        self.organization = organization
        self.name = name
        self.revision = revision
        self.choice = choice
    }

    /// `ORG/NAME`.
    public var repository: String { "\(organization)/\(name)" }

    /// The choice as it is written after a colon; null if it was left to us.
    var choiceText: String? {
        switch choice {
        case .automatic: nil
        case .safetensors: "safetensors"
        case .quantization(let label): label
        case .file(let path): path
        }
    }

    /// The name a model is served under: the repository, and the choice if one was made.
    var servedName: String {
        switch choice {
        case .automatic, .safetensors: return repository
        case .quantization(let label): return "\(repository):\(label)"
        case .file(let path):
            let file = path.split(separator: "/").last.map(String.init) ?? path
            return "\(repository):\(file.dropLast(file.lowercased().hasSuffix(".gguf") ? 5 : 0))"
        }
    }

    /// The reference for people.
    public var text: String {
        (revision == Self.defaultRevision ? repository : "\(repository)@\(revision)")
            + (choiceText.map { ":" + $0 } ?? "")
    }
}

// MARK: - Parsing

extension HubReference {
    /// Reads what a user wrote.
    ///
    /// - Parameters:
    ///   - text: what was written.
    ///   - endpoint: the hub in use, whose addresses are understood too; null for the usual one alone.
    /// - Returns: null if it is no name on a hub but a path, or a single word.
    /// - Throws: ``ModelStoreError/hub(_:)`` if it can only mean a hub and is wrong.
    static func parse(_ text: String, endpoint: HubEndpoint? = nil) throws(ModelStoreError) -> HubReference? {
        if let rest = withoutPrefix(text, endpoint: endpoint) {
            guard let reference = try parseAddress(rest) else {
                throw .hub(.invalidName(text, reason: "after the hub's name comes ORG/NAME"))
            }
            return reference
        }
        guard !text.hasPrefix("/"), !text.hasPrefix("."), !text.hasPrefix("~"), !text.contains("//") else { return nil }
        guard text.contains("/"), !text.contains("://") else { return nil }
        return try parseName(text)
    }

    /// What comes after a prefix that says that a hub is meant.
    private static func withoutPrefix(_ text: String, endpoint: HubEndpoint?) -> Substring? {
        var prefixes = ["https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/", "hf://", "hf:"]
        if let endpoint { prefixes.append(endpoint.base + "/") }
        let lowered = text.lowercased()
        guard let prefix = prefixes.first(where: { lowered.hasPrefix($0.lowercased()) }) else { return nil }
        return text.dropFirst(prefix.count)
    }

    /// A name, or the path of a page: `ORG/NAME/tree/REVISION`, `ORG/NAME/blob/REVISION/file.gguf`.
    private static func parseAddress(_ text: Substring) throws(ModelStoreError) -> HubReference? {
        var path = text.prefix { $0 != "?" && $0 != "#" }
        if path.hasPrefix("models/") { path = path.dropFirst(7) }
        while path.hasSuffix("/") { path = path.dropLast() }
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count >= 4, ["tree", "blob", "resolve"].contains(parts[2]) else {
            return try parseName(String(path))
        }
        let file = parts[4...].joined(separator: "/")
        let isFile = file.lowercased().hasSuffix(".gguf")
        return try make(
            organization: parts[0], name: parts[1], revision: String(parts[3]), choice: isFile ? file : nil,
            text: String(path))
    }

    private static func parseName(_ text: String) throws(ModelStoreError) -> HubReference? {
        // The organization and the name have neither @ nor colon.
        let head = text.prefix { $0 != "@" && $0 != ":" }
        var tail = text[head.endIndex...]
        let parts = head.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2 else { return nil }
        var choice = parts.count == 3 ? String(parts[2]) : nil
        // `models/file.gguf` is a path that does not exist, `a/b/c` too.
        if let choice, !choice.lowercased().hasSuffix(".gguf") { return nil }
        if parts.count == 2, tail.isEmpty, parts[1].lowercased().hasSuffix(".gguf") { return nil }

        var revision: String?
        while let mark = tail.first {
            let other: Character = mark == "@" ? ":" : "@"
            let value = tail.dropFirst().prefix { $0 != other }
            tail = tail[value.endIndex...]
            let isTaken = mark == "@" ? revision != nil : choice != nil
            guard !isTaken, !value.isEmpty else {
                throw .hub(
                    .invalidName(text, reason: "one revision after @ and one quantization or file after : may follow"))
            }
            if mark == ":" {
                choice = String(value)
            } else if value.lowercased().hasSuffix(".gguf"), let slash = value.firstIndex(of: "/"), choice == nil {
                revision = String(value[..<slash])
                choice = String(value[value.index(after: slash)...])
            } else {
                revision = String(value)
            }
        }
        return try make(organization: parts[0], name: parts[1], revision: revision, choice: choice, text: text)
    }

    private static func make(
        organization: Substring, name: Substring, revision: String?, choice: String?, text: String
    ) throws(ModelStoreError) -> HubReference {
        guard isName(organization), isName(name), organization.utf8.count + name.utf8.count < 192 else {
            throw .hub(
                .invalidName(
                    text,
                    reason: "ORG and NAME are made of letters, digits, -, _ and ., begin and end with none of - and ., "
                        + "and have neither -- nor .."))
        }
        if let revision, !isRevision(revision) {
            throw .hub(
                .invalidName(text, reason: "a revision is a branch, tag or commit of letters, digits and . _ - + /"))
        }
        var reference = HubReference(organization: String(organization), name: String(name))
        if let revision { reference.revision = revision }
        if let choice { reference.choice = try parseChoice(choice, text: text) }
        return reference
    }

    private static func parseChoice(_ choice: String, text: String) throws(ModelStoreError) -> Choice {
        let lowered = choice.lowercased()
        if lowered == "safetensors" { return .safetensors }
        if lowered == "latest" || lowered == "gguf" { return .automatic }
        if lowered.hasSuffix(".gguf") {
            guard HubFile.isSafePath(choice), choice.utf8.count <= 150 else {
                throw .hub(.invalidName(text, reason: "\(Printable.quoted(choice)) is no path of a file"))
            }
            return .file(choice)
        }
        guard choice.utf8.count <= 64, choice.utf8.allSatisfy({ isWordByte($0) || $0 == UInt8(ascii: ".") }) else {
            throw .hub(
                .invalidName(
                    text,
                    reason: "after : comes a quantization such as Q4_K_M, the path of a .gguf file, or safetensors"))
        }
        return .quantization(choice.uppercased())
    }

    /// The hub's rule (`validate_repo_id` of the package huggingface_hub) for each of the two parts.
    private static func isName(_ text: Substring) -> Bool {
        guard (1...96).contains(text.utf8.count), !text.contains("--"), !text.contains("..") else { return false }
        guard text.utf8.allSatisfy({ isWordByte($0) || $0 == UInt8(ascii: ".") }), !text.hasSuffix(".git") else {
            return false
        }
        return !["-", "."].contains { text.hasPrefix($0) || text.hasSuffix($0) }
    }

    static func isRevision(_ text: String) -> Bool {
        guard (1...128).contains(text.utf8.count), !text.contains(".."), !text.contains("//") else { return false }
        let marks = Array("._-+/".utf8)
        guard text.utf8.allSatisfy({ isWordByte($0) || marks.contains($0) }) else { return false }
        return !text.hasPrefix("/") && !text.hasPrefix("-") && !text.hasSuffix("/")
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
}
