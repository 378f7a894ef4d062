// Tandem — Apache-2.0

/// An address of HTTP, split where it matters for who may see what.
struct HubAddress: Equatable {
    var isEncrypted: Bool
    /// Host in lower case and port.
    var host: String
    var port: Int
    /// All of it.
    var text: String

    /// - Returns: null if it is no address of HTTP, or holds a user's name, a control character, a backslash or one beyond
    ///   ASCII. Quotation marks and spaces, which servers put into addresses and which do not belong there, are encoded.
    init?(_ given: String) {
        guard given.utf8.count <= 8192, given.utf8.allSatisfy({ (0x20...0x7e).contains($0) && $0 != 0x5c }) else {
            return nil
        }
        var text = ""
        for character in given {
            switch character {
            case "\"": text += "%22"
            case " ": text += "%20"
            default: text.append(character)
            }
        }
        let lowered = text.lowercased()
        let schemeLength: Int
        if lowered.hasPrefix("https://") {
            isEncrypted = true
            schemeLength = 8
        } else if lowered.hasPrefix("http://") {
            isEncrypted = false
            schemeLength = 7
        } else {
            return nil
        }
        let authority = lowered.dropFirst(schemeLength).prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard !authority.isEmpty, authority.utf8.allSatisfy(Self.isOfAuthority) else { return nil }
        var host = authority
        var port = isEncrypted ? 443 : 80
        // The colons of an IPv6 address are inside brackets.
        if let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") {
            host = authority[..<colon]
            guard let number = UInt16(authority[authority.index(after: colon)...]), number > 0 else { return nil }
            port = Int(number)
        }
        guard !host.isEmpty else { return nil }
        self.host = String(host)
        self.port = port
        self.text = text
    }

    /// Letters, digits and `-._:[]`.
    private static func isOfAuthority(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: ":"), UInt8(ascii: "["), UInt8(ascii: "]"):
            true
        default: false
        }
    }

    /// Whether both are served by the same server: scheme, host and port are the same.
    func hasSameOrigin(as other: HubAddress) -> Bool {
        isEncrypted == other.isEncrypted && host == other.host && port == other.port
    }
}

/// The hub in use and how it is spoken to.
struct HubEndpoint: Equatable {
    /// Address without a slash at its end.
    var base: String
    var address: HubAddress
    /// Sent to this hub and to no other host.
    var token: String?
    /// Whether the network must not be used.
    var isOffline: Bool

    static let standardBase = "https://huggingface.co"

    /// Reads `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`, which have the meaning that the package huggingface_hub
    /// gives them (its documentation, "Environment variables").
    init(environment: [String: String]) throws(ModelStoreError) {
        var base = environment["HF_ENDPOINT"].flatMap { $0.isEmpty ? nil : $0 } ?? Self.standardBase
        while base.hasSuffix("/") { base.removeLast() }
        guard let address = HubAddress(base), address.text == base, !base.contains("?"), !base.contains("#") else {
            // An address with a user's name may have a password, too.
            let shown = base.contains("@") ? "an address with a user's name" : Printable.quoted(base)
            throw .hub(
                .invalidSetting("HF_ENDPOINT", reason: "\(shown) is no address such as \(Self.standardBase)"))
        }
        self.base = base
        self.address = address
        let token = String((environment["HF_TOKEN"] ?? "").filter { !$0.isNewline && $0 != " " && $0 != "\t" })
        guard token.utf8.count <= 4096, token.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw .hub(.invalidSetting("HF_TOKEN", reason: "it holds characters that no token has"))
        }
        self.token = token.isEmpty ? nil : token
        isOffline = ["1", "on", "yes", "true"].contains((environment["HF_HUB_OFFLINE"] ?? "").lowercased())
    }

    /// What the hub knows of a repository at a revision.
    func revisionAddress(_ reference: HubReference) -> String {
        "\(base)/api/models/\(reference.repository)/revision/\(Self.encoded(reference.revision, keepingSlashes: false))"
    }

    /// The list of files at a commit; `query` is that of a later page.
    func treeAddress(_ reference: HubReference, commit: String, query: String?) -> String {
        "\(base)/api/models/\(reference.repository)/tree/\(commit)?\(query ?? "recursive=true")"
    }

    /// A file's content, or the way to it.
    func fileAddress(_ reference: HubReference, commit: String, path: String) -> String {
        "\(base)/\(reference.repository)/resolve/\(commit)/\(Self.encoded(path, keepingSlashes: true))"
    }

    /// The page for people.
    func page(_ reference: HubReference) -> String { "\(base)/\(reference.repository)" }

    /// Percent-encoding of all but unreserved characters (RFC 3986, section 2.3).
    static func encoded(_ text: String, keepingSlashes: Bool) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                bytes.append(byte)
            case UInt8(ascii: "/") where keepingSlashes:
                bytes.append(byte)
            default:
                bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// What to do with an answer that points elsewhere.
enum HubRedirect: Equatable {
    /// The same server: ask there, with the token.
    case sameServer(String)
    /// Another server: the content is there; the token stays here.
    case otherServer(String)
    case refused(reason: String)

    /// - Parameters:
    ///   - location: the full address that was given.
    ///   - endpoint: the hub that gave it.
    static func decide(_ location: String, from endpoint: HubEndpoint) -> HubRedirect {
        guard let address = HubAddress(location) else {
            return .refused(reason: "the hub points to \(Printable.quoted(location)), which is no address of HTTP")
        }
        if endpoint.address.isEncrypted && !address.isEncrypted {
            return .refused(
                reason: "the hub points to \(Printable.text(address.host)) without encryption, which is not followed")
        }
        return address.hasSameOrigin(as: endpoint.address) ? .sameServer(address.text) : .otherServer(address.text)
    }
}
