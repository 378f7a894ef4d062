// Tandem — Apache-2.0

/// Why a model could not be had from a Hugging Face hub. Texts from the network are made printable before they come here.
public enum HubError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What was written names no model.
    case invalidName(String, reason: String)
    /// A variable of the environment is wrong; its value is told only where it is no secret.
    case invalidSetting(String, reason: String)
    /// The hub knows no such repository, or does not show it to us.
    case noRepository(String, endpoint: String, hasToken: Bool)
    case noRevision(String, revision: String)
    /// The model's terms must be accepted first.
    case gated(String, page: String, hasToken: Bool)
    /// The hub does not know the token.
    case tokenRefused(endpoint: String)
    case forbidden(String, message: String)
    /// No connection, or none that can be trusted.
    case unreachable(endpoint: String, reason: String)
    /// The hub could not answer, several times.
    case unavailable(String, status: Int, attempts: Int)
    /// The hub asks to wait for longer than we do.
    case rateLimited(endpoint: String, seconds: Int, hasToken: Bool)
    /// An answer that makes no sense, or an unexpected one.
    case badAnswer(String, reason: String)
    /// Nothing in it can be served.
    case notServable(String, reason: String)
    /// The choice fits no file, or several.
    case noSuchChoice(String, choice: String, choices: [String])
    case severalChoices(String, choice: String?, choices: [String])
    /// What arrived is not what the hub lists.
    case changed(String, file: String)
    /// The network may not be used and the cache does not have it.
    case offline(String)
    /// A signal asked to stop; what has arrived is kept.
    case stopped(String, signal: Int32)

    public var description: String {
        switch self {
        case .invalidName(let name, let reason):
            return "\(Printable.quoted(name)) names no model on a hub: \(reason)"
        case .invalidSetting(let variable, let reason):
            return "\(variable): \(reason)"
        case .noRepository(let repository, let endpoint, let hasToken):
            let remedy =
                hasToken
                ? "or the token in HF_TOKEN may not see it"
                : "or it is private: then set HF_TOKEN to a token that may read it"
            return
                "\(endpoint) has no model \(repository), \(remedy). Nor is there a file or directory of that name here"
        case .noRevision(let repository, let revision):
            return "\(repository) has no revision \(Printable.quoted(revision)): give a branch, a tag or a commit"
        case .gated(let repository, let page, let hasToken):
            return hasToken
                ? "\(repository) asks to accept its terms first: open \(page), accept them with the account that the "
                    + "token in HF_TOKEN belongs to, and check that the token may read gated repositories"
                : "\(repository) asks to accept its terms first: open \(page), accept them, and set HF_TOKEN to a token "
                    + "of that account"
        case .tokenRefused(let endpoint):
            return "\(endpoint) does not accept the token in HF_TOKEN: it is mistyped, expired or of another hub"
        case .forbidden(let repository, let message):
            return "\(repository) may not be read with what HF_TOKEN holds\(message.isEmpty ? "" : ": \(message)")"
        case .unreachable(let endpoint, let reason):
            return
                "\(endpoint) cannot be reached: \(reason). Check the network or proxy (https_proxy), or give the path "
                + "of a local model"
        case .unavailable(let what, let status, let attempts):
            return "\(what): the hub answered \(status) after \(attempts) attempts; try again later"
        case .rateLimited(let endpoint, let seconds, let hasToken):
            return "\(endpoint) asks to wait for \(seconds) s before the next request"
                + (hasToken ? "" : "; with a token in HF_TOKEN more requests are allowed")
        case .badAnswer(let what, let reason):
            return "\(what): \(reason)"
        case .notServable(let repository, let reason):
            return "\(repository) cannot be served: \(reason)"
        case .noSuchChoice(let repository, let choice, let choices):
            return choices.isEmpty
                ? "\(repository) has no \(Printable.quoted(choice)), and no other GGUF file that can be served; if it has "
                    + "safetensors files, name it as \(repository) alone"
                : "\(repository) has no \(Printable.quoted(choice)). It has:\(Self.list(choices))"
        case .severalChoices(let repository, let choice, let choices):
            let found = choice.map { "several files for \(Printable.quoted($0))" } ?? "several GGUF files"
            return "\(repository) has \(found); name one as \(repository)/FILE or by its quantization as "
                + "\(repository):QUANTIZATION:\(Self.list(choices))"
        case .changed(let repository, let file):
            return
                "\(repository): the hub sends another \(Printable.text(file)) than it lists; it was changed just now, "
                + "try again"
        case .offline(let reference):
            return "\(reference) is not in the cache, or not whole, and HF_HUB_OFFLINE forbids to fetch it"
        case .stopped(let repository, let signal):
            return "stopped by signal \(signal); the next pull of \(repository) goes on where this one ended"
        }
    }

    private static func list(_ choices: [String]) -> String {
        let most = 40
        let shown = choices.prefix(most).map { "\n  " + Printable.text($0) }.joined()
        return choices.count > most ? shown + "\n  and \(choices.count - most) more" : shown
    }
}
