// Tandem — Apache-2.0

import Foundation
import JSON
import TestSupport
import Testing

@testable import Tokenization

/// Whole requests against transformers' `apply_chat_template`; see the README beside the fixtures.
@Suite struct ChatTemplateFamilyTests {
    /// One template against all requests of a file of references.
    private static func check(
        _ references: JSONValue, _ name: String, source: String, differences: inout [String]
    ) throws {
        let now = try #require(references["now"]?.integer)
        let requests = try #require(references["requests"]?.array)
        let family = try #require(references["templates"]?[name])
        let results = try #require(family["results"]?.array)
        #expect(results.count == requests.count)
        let template: ChatTemplate
        do {
            template = try ChatTemplate(source: source)
        } catch {
            differences.append("\(name): \(error)")
            return
        }
        for (index, (request, result)) in zip(requests, results).enumerated() {
            let messages = try #require(request["messages"]?.array).map { message in
                message.object.map { JSONValue.object(ChatMessages.normalized($0)) } ?? message
            }
            let rendered = Result {
                try template.render(
                    messages: .array(messages), tools: request["tools"].flatMap { $0.isNull ? nil : $0 },
                    addGenerationPrompt: request["add_generation_prompt"]?.bool ?? false,
                    bosToken: family["bos"]?.string ?? "", eosToken: family["eos"]?.string ?? "", now: now,
                    extra: request["variables"]?.object ?? JSONObject())
            }
            switch (rendered, result["output"]?.string) {
            case (.success(let text), let output?):
                if !text.utf8.elementsEqual(output.utf8) {
                    differences.append(
                        "\(name) \(index): \(text.debugDescription) instead of \(output.debugDescription)")
                }
            case (.success, nil):
                differences.append("\(name) \(index): rendered instead of \(result["error"]?.string ?? "")")
            case (.failure(let error), let output):
                let expected = result["error"]?.string
                let raised = (error as? ChatTemplateError).flatMap { $0.kind == .raised ? $0.reason : nil }
                if output != nil {
                    differences.append("\(name) \(index): \(error)")
                } else if raised.map({ "TemplateError: " + $0 != expected }) ?? false {
                    differences.append("\(name) \(index): \(error) instead of \(expected ?? "")")
                }
            }
        }
    }

    @Test(arguments: [
        "qwen2.5-instruct", "qwen3-0.6b", "smollm3-3b", "mistral-nemo-instruct-2407", "like-llama-3", "like-gemma-3",
    ]) func rendersAsTransformers(name: String) throws {
        let references = try JSONParser.parse(Array(Fixtures.data("templates/families.json")))
        let source = String(decoding: try Fixtures.data("templates/\(name).jinja"), as: UTF8.self)
        var differences: [String] = []
        try Self.check(references, name, source: source, differences: &differences)
        #expect(differences == [])
    }

    /// What templates read is seen by what they write. SmolLM3 reads tools under other names.
    @Test(arguments: [
        ("qwen2.5-instruct", true, false), ("qwen3-0.6b", true, false), ("smollm3-3b", false, false),
        ("mistral-nemo-instruct-2407", true, false), ("like-llama-3", true, true), ("like-gemma-3", false, true),
    ]) func whatTemplatesReadIsKnown(name: String, tools: Bool, parts: Bool) throws {
        let template = try ChatTemplate(
            source: String(decoding: try Fixtures.data("templates/\(name).jinja"), as: UTF8.self))
        #expect(template.readsTools == tools)
        #expect(template.readsContentParts == parts)
    }

    @Test func smolLM2RendersAsTransformers() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        let references = try JSONParser.parse(Array(Fixtures.data("templates/families.json")))
        var differences: [String] = []
        let source = try #require(tokenizer.chatTemplateSource)
        try Self.check(references, "smollm2", source: source, differences: &differences)
        #expect(differences == [])
    }

    /// Templates that cannot lie beside the tests: `make_references.py --others` made the file.
    @Test func otherTemplatesRenderAsTransformers() throws {
        guard let path = Fixtures.path("TANDEM_TEMPLATE_REFERENCES") else { return }
        let references = try JSONParser.parse(Array(try Data(contentsOf: URL(fileURLWithPath: path))))
        let templates = try #require(references["templates"]?.object)
        var differences: [String] = []
        for (name, family) in templates.entries {
            let source = try #require(family["source"]?.string)
            try Self.check(references, name, source: source, differences: &differences)
        }
        #expect(differences.isEmpty, "\(differences.count) differ:\n\(differences.joined(separator: "\n"))")
    }
}
