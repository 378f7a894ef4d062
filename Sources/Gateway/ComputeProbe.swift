// Tandem — Apache-2.0

import HTTPCore
import JSON
import NIOCore

/// Asks a server for what it can only answer by computing: one token, or, of one that generates nothing, an embedding.
///
/// That it answers `/health` proves nothing: a server may say so while its device hangs, or while it computes elsewhere.
struct ComputeProbe {
    struct Question: Equatable {
        var path: String
        var body: [UInt8]
    }

    enum Verdict: Equatable {
        case computes
        /// Another question may suit it.
        case unsuited(String)
        case fails(String)
    }

    /// In the order in which they are asked, until one suits.
    static func questions(model: String?) -> [Question] {
        func question(_ path: String, _ write: (inout JSONWriter) -> Void) -> Question {
            var writer = JSONWriter()
            writer.beginObject()
            if let model { writer.member("model", model) }
            write(&writer)
            writer.endObject()
            return Question(path: path, body: writer.bytes)
        }
        return [
            question("/v1/completions") { writer in
                writer.member("prompt", "Hello")
                writer.member("max_tokens", 1)
                writer.member("temperature", 0)
            },
            question("/v1/chat/completions") { writer in
                writer.key("messages")
                writer.beginArray()
                writer.beginObject()
                writer.member("role", "user")
                writer.member("content", "Hello")
                writer.endObject()
                writer.endArray()
                writer.member("max_tokens", 1)
                writer.member("temperature", 0)
            },
            question("/v1/embeddings") { writer in writer.member("input", "Hello") },
        ]
    }

    /// Bytes of an answer's body that a reason quotes.
    private static let quotedBytes = 200

    static func verdict(on question: Question, status: Int, body: ByteBuffer) -> Verdict {
        let answer = try? JSONParser.parse(
            body.readableBytesView, limits: JSONLimits(maximumDepth: 32, maximumValues: 1 << 18))
        func quoted() -> String {
            let fields = answer?.object
            let message = fields?["error"]?.object?["message"]?.string ?? fields?["message"]?.string
            let text = message ?? String(decoding: body.readableBytesView.prefix(quotedBytes), as: UTF8.self)
            let line = text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
            return line.isEmpty ? "" : ": \(line.prefix(quotedBytes))"
        }
        switch status {
        case 200:
            let fields = answer?.object
            let list = fields?["choices"]?.array ?? fields?["data"]?.array ?? []
            guard fields?["error"]?.object == nil, let first = list.first?.object else {
                return .fails("POST \(question.path) answered without a result\(quoted())")
            }
            let isResult =
                first["text"]?.string != nil || first["message"]?.object != nil
                || first["embedding"]?.array?.isEmpty == false || first["embedding"]?.string?.isEmpty == false
            return isResult ? .computes : .fails("POST \(question.path) answered without a result\(quoted())")
        case 400, 404, 405, 422, 501:
            return .unsuited("POST \(question.path) answered \(status)\(quoted())")
        default:
            return .fails("POST \(question.path) answered \(status)\(quoted())")
        }
    }
}
