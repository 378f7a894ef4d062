// Tandem — Apache-2.0

/// The head of an answer: its status and what its headers say.
struct HubHead: Equatable {
    var status: Int
    private var headers: [String: String]

    init(status: Int, headers: [String: String] = [:]) {
        self.status = status
        self.headers = Dictionary(headers.map { ($0.key.lowercased(), $0.value) }) { $1 }
    }

    /// Reads the last of the heads in what curl dumped: those before it are of proxies and redirects.
    init(status: Int, dump: String) {
        self.init(status: status)
        // A carriage return and a line feed are one character.
        for line in dump.split(whereSeparator: { $0 == "\r\n" || $0 == "\n" }) {
            if line.hasPrefix("HTTP/") {
                headers = [:]
            } else if let colon = line.firstIndex(of: ":") {
                let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
                headers[line[..<colon].lowercased()] = String(value)
            }
        }
    }

    subscript(_ name: String) -> String? { headers[name.lowercased()] }

    /// The content that the hub says it sends: SHA-256 of large files, which are kept elsewhere.
    var linkedContent: HubFile.Content? {
        guard var tag = self["X-Linked-Etag"] else { return nil }
        if tag.hasPrefix("W/") { tag.removeFirst(2) }
        return HubFile.Content(digest: tag.filter { $0 != "\"" })
    }

    /// Seconds to wait before the next request: of `Retry-After`, or else of `RateLimit` (draft-ietf-httpapi-ratelimit-
    /// headers: `"api";r=0;t=55`), which stands in each answer and matters if nothing remains.
    var secondsToWait: Int? {
        if let text = self["Retry-After"], let seconds = Int(text), seconds >= 0 { return seconds }
        guard let text = self["RateLimit"] else { return nil }
        var values: [Substring: Int] = [:]
        for part in text.split(separator: ";") {
            let pair = part.split(separator: "=", maxSplits: 1).map { $0.drop { $0 == " " } }
            if pair.count == 2, let value = Int(pair[1]) { values[pair[0]] = value }
        }
        guard values["r"] == 0, let seconds = values["t"], seconds >= 0 else { return nil }
        return seconds
    }
}

/// What an answer other than success means. Codes and messages are those that the package huggingface_hub acts upon
/// (`hf_raise_for_status`).
enum HubVerdict: Equatable {
    case failed(HubError)
    /// Trying again may help.
    case retry

    /// - Parameters:
    ///   - head: the answer.
    ///   - what: what was asked for, for messages.
    static func of(_ head: HubHead, asking what: String, _ reference: HubReference, _ endpoint: HubEndpoint)
        -> HubVerdict
    {
        let repository = reference.repository
        let message = Printable.text(head["X-Error-Message"] ?? "")
        let missing = HubError.noRepository(repository, endpoint: endpoint.base, hasToken: endpoint.token != nil)
        switch (head["X-Error-Code"], head.status) {
        case ("RevisionNotFound", _):
            return .failed(.noRevision(repository, revision: reference.revision))
        case ("EntryNotFound", _):
            return .failed(.badAnswer(what, reason: "the hub lists it and does not have it"))
        case ("GatedRepo", _):
            return .failed(
                .gated(repository, page: endpoint.page(reference), hasToken: endpoint.token != nil))
        case ("RepoNotFound", _), (_, 404), (_, 410):
            return .failed(missing)
        case (_, 401):
            if endpoint.token != nil, message.hasPrefix("Invalid credentials") {
                return .failed(.tokenRefused(endpoint: endpoint.base))
            }
            return .failed(missing)
        case (_, 403):
            return .failed(.forbidden(repository, message: message))
        case (_, 408), (_, 425), (_, 429), (_, 500...599):
            return .retry
        default:
            let told = message.isEmpty ? "" : " (\(message))"
            return .failed(.badAnswer(what, reason: "the hub answered \(head.status)\(told)"))
        }
    }
}

/// How often, and after which pause, a request is sent again.
struct RetryPolicy: Equatable {
    var maximumAttempts = 5
    /// The longest pause that a hub may ask for.
    var maximumSeconds = 300

    enum Decision: Equatable {
        case wait(seconds: Int)
        case giveUp
        /// The hub asks for a longer pause than we make.
        case tooLong(seconds: Int)
    }

    /// - Parameters:
    ///   - failures: attempts that failed since the last progress, this one included.
    ///   - asked: the pause that the hub asks for.
    func decide(failures: Int, asked: Int?) -> Decision {
        if let asked, asked > maximumSeconds { return .tooLong(seconds: asked) }
        guard failures < maximumAttempts else { return .giveUp }
        return .wait(seconds: asked ?? min(16, 1 << min(failures - 1, 4)))
    }
}
