// Tandem — Apache-2.0

internal import Glibc

/// The text that tells a user how to talk to the server.
struct Announcement {
    /// What is said of one model.
    struct Model: Equatable {
        var name: String
        var engines: Int
        /// What an engine says of itself; null if none serves.
        var device: String?

        /// `2 engines, each cpu (…)`.
        var text: String {
            let engineText = engines == 1 ? "1 engine" : "\(engines) engines"
            guard let device else { return "no engine of \(engines) serves, see above; they are tried again" }
            return device.isEmpty ? engineText : "\(engineText), each \(device)"
        }
    }

    /// Never empty.
    var models: [Model]
    var host: String
    var port: UInt16
    var requiresKey: Bool
    /// Whether a shell knows it; else whoever copies the command puts it in.
    var keyIsInEnvironment = true
    /// Whether clients have to speak TLS.
    var isSecure = false
    /// The file with what they are shown.
    var certificate: String?
    var timeToReady: Duration

    var text: String {
        let seconds = Double(timeToReady.components.seconds) + Double(timeToReady.components.attoseconds) / 1e18
        let hundredths = Int((seconds * 100).rounded())
        let time = "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100) s"
        return """
            \(what); ready in \(time).
            \(list)
              endpoint  \(url)/v1  (OpenAI-compatible)
              try it    \(curl)

            Ctrl-C stops it.

            """
    }

    /// In one line.
    var summary: String { "\(what) at \(url)" }

    private var what: String {
        guard models.count == 1 else {
            let serving = models.count { $0.device != nil }
            return serving == models.count
                ? "\(models.count) models are served" : "\(serving) of \(models.count) models are served"
        }
        return models.map { "\($0.name) is served by \($0.text)" }.joined()
    }

    /// A line a model if there are several, between empty ones.
    private var list: String {
        guard models.count > 1 else { return "" }
        let width = models.map(\.name.count).max() ?? 0
        return "\n"
            + models.map { model in
                "  \(model.name)\(String(repeating: " ", count: width - model.name.count))  \(model.text)\n"
            }.joined()
    }

    /// How a client on this machine reaches the server.
    var url: String {
        let reachable =
            switch host {
            case "", "0.0.0.0": "127.0.0.1"
            case "::": "[::1]"
            default: host.contains(":") ? "[\(host)]" : host
            }
        return "\(isSecure ? "https" : "http")://\(reachable):\(port)"
    }

    private var curl: String {
        // The first is what requests without a model get: its name is left out where JSON or the shell would need it
        // quoted.
        let first = models.firstIndex { $0.device != nil } ?? 0
        let modelName = models.indices.contains(first) ? models[first].name : ""
        let model = Self.isPlain(modelName) ? "\"model\": \"\(modelName)\", " : ""
        let key =
            requiresKey ? " -H \"Authorization: Bearer \(keyIsInEnvironment ? "$TANDEM_API_KEY" : "YOUR_KEY")\"" : ""
        // Greedy and bounded: a small model that samples may ramble to the end of its context.
        let body =
            "{\(model)\"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}], "
            + "\"max_tokens\": 200, \"temperature\": 0, \"stream\": true}"
        // Enough for curl, whoever signed it.
        let trust = certificate.map { Self.isPlain($0) ? " --cacert \($0)" : "" } ?? ""
        return "curl -N\(trust) \(url)/v1/chat/completions\(key) -H \"Content-Type: application/json\" -d '\(body)'"
    }
}

extension Announcement {
    /// Whether a text needs no quotes, neither in JSON nor in a shell.
    private static func isPlain(_ text: String) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
                    UInt8(ascii: "/"), UInt8(ascii: ":"):
                    true
                default: false
                }
            }
    }
}

extension SupervisorOutput {
    /// Prints on standard output, or, what is about children, on standard error.
    public func print() {
        switch self {
        case .announcement(let text): Self.write(text, to: STDOUT_FILENO)
        case .line(_, let text): Self.write("tandem: \(text)\n", to: STDERR_FILENO)
        }
    }

    private static func write(_ text: String, to descriptor: Int32) {
        let bytes = Array(text.utf8)
        var start = 0
        while start < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress?.advanced(by: start), bytes.count - start)
            }
            if count < 0 && errno == EINTR { continue }
            // Nobody may read it; the server goes on.
            guard count > 0 else { return }
            start += count
        }
    }
}
