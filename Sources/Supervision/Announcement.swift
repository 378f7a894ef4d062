// Tandem — Apache-2.0

internal import Glibc

/// The text that tells a user how to talk to the server.
struct Announcement {
    var modelName: String
    var engines: Int
    var device: String
    var host: String
    var port: UInt16
    var requiresKey: Bool
    var timeToReady: Duration

    var text: String {
        let seconds = Double(timeToReady.components.seconds) + Double(timeToReady.components.attoseconds) / 1e18
        let hundredths = Int((seconds * 100).rounded())
        let time = "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100) s"
        let engineText = engines == 1 ? "1 engine" : "\(engines) engines"
        let deviceText = device.isEmpty ? "" : ", each \(device)"
        return """
            \(modelName) is served by \(engineText)\(deviceText); ready in \(time).

              endpoint  \(url)/v1  (OpenAI-compatible)
              try it    \(curl)

            Ctrl-C stops it.

            """
    }

    /// How a client on this machine reaches the server.
    var url: String {
        let reachable =
            switch host {
            case "", "0.0.0.0": "127.0.0.1"
            case "::": "[::1]"
            default: host.contains(":") ? "[\(host)]" : host
            }
        return "http://\(reachable):\(port)"
    }

    private var curl: String {
        // A name that needs quoting for JSON or the shell is left out: the server has one model.
        let isPlain = modelName.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
                UInt8(ascii: "/"), UInt8(ascii: ":"):
                true
            default: false
            }
        }
        let model = isPlain && !modelName.isEmpty ? "\"model\": \"\(modelName)\", " : ""
        let key = requiresKey ? " -H \"Authorization: Bearer $TANDEM_API_KEY\"" : ""
        // Greedy and bounded: a small model that samples may ramble to the end of its context.
        let body =
            "{\(model)\"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}], "
            + "\"max_tokens\": 200, \"temperature\": 0, \"stream\": true}"
        return "curl -N \(url)/v1/chat/completions\(key) -H \"Content-Type: application/json\" -d '\(body)'"
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
