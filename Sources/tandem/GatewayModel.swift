// Tandem — Apache-2.0

import ArgumentParser
import Configuration
import JSON
import LanguageModel

/// What a gateway has to know of one model: the value of its `--served-model`, which is given once a model, in the order
/// in which their engines count through.
///
/// It is a JSON object with the members `model` (a path), `load-format`, `ablation`, `tokenizer` (left out for the
/// model's own), `names` (the one that responses carry first), `max-model-len`, `engines` (how many) and `first-engine` (left
/// out if they follow those of the model before).
struct GatewayModel {
    var choice: ModelChoice
    /// Names that clients may use; never empty.
    var names: [String]
    var contextLength: Int
    var engines: Int
    /// Index of the first of them; null if they follow those of the model before.
    var firstEngine: Int?

    init(choice: ModelChoice, names: [String], contextLength: Int, engines: Int, firstEngine: Int? = nil) {
        self.firstEngine = firstEngine
        self.choice = choice
        self.names = names
        self.contextLength = contextLength
        self.engines = engines
    }

    var text: String {
        var writer = JSONWriter()
        writer.beginObject()
        for (key, text) in [
            ("model", choice.path), ("load-format", choice.loadFormat.rawValue), ("ablation", choice.ablation.rawValue),
            ("tokenizer", choice.tokenizer),
        ] {
            guard let text else { continue }
            writer.key(key)
            writer.string(text)
        }
        writer.key("names")
        writer.beginArray()
        for name in names { writer.string(name) }
        writer.endArray()
        writer.key("max-model-len")
        writer.integer(contextLength)
        writer.key("engines")
        writer.integer(engines)
        if let firstEngine {
            writer.key("first-engine")
            writer.integer(firstEngine)
        }
        writer.endObject()
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    /// - Throws: `ValidationError` that names the member at fault.
    init(_ text: String) throws {
        guard let object = try? JSONParser.parse(text.utf8).object else {
            throw ValidationError("it is no JSON object")
        }
        guard let path = object["model"]?.string else { throw ValidationError("`model` is missing") }
        guard let loadFormat = object["load-format"]?.string.flatMap(LoadFormatSetting.init(rawValue:)),
            let ablation = object["ablation"]?.string.flatMap(AblationSetting.init(rawValue:))
        else { throw ValidationError("`load-format` or `ablation` is not known") }
        choice = ModelChoice(
            path: path, loadFormat: loadFormat, ablation: ablation, tokenizer: object["tokenizer"]?.string)
        names = object["names"]?.array?.compactMap(\.string) ?? []
        guard !names.isEmpty else { throw ValidationError("`names` is missing") }
        guard case .integer(let length) = object["max-model-len"], case .integer(let count) = object["engines"],
            (1...(1 << 24)).contains(length), (1...65536).contains(count)
        else { throw ValidationError("`max-model-len` or `engines` is no number that can be") }
        contextLength = Int(length)
        engines = Int(count)
        if let first = object["first-engine"] {
            guard case .integer(let index) = first, (0...65536).contains(index) else {
                throw ValidationError("`first-engine` is no number that can be")
            }
            firstEngine = Int(index)
        }
    }
}
