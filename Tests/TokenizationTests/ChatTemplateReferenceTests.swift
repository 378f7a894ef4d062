// Tandem — Apache-2.0

import Foundation
import JSON
import Testing

@testable import Tokenization

/// Rendering against Jinja2 in Hugging Face's environment; see the README beside the fixtures.
@Suite struct ChatTemplateReferenceTests {
    static func cases(_ name: String) throws -> [JSONValue] {
        let json = try JSONParser.parse(Array(Fixtures.data("templates/" + name)))
        return try #require(json["cases"]?.array)
    }

    /// Compares with one result, `{"output": …}` or `{"error": …}`.
    static func check(_ result: JSONValue?, _ name: String, render: () throws -> String) throws {
        if let output = result?["output"]?.string {
            let text = try render()
            #expect(Array(text.utf8) == Array(output.utf8), "\(name): \(text.debugDescription)")
        } else {
            let error = try #require(result?["error"]?.string)
            let thrown = #expect(throws: ChatTemplateError.self, "\(name): \(error)") { try render() }
            if error.hasPrefix("TemplateError: ") {
                #expect(thrown?.kind == .raised)
                #expect(thrown?.reason == String(error.dropFirst("TemplateError: ".count)))
            } else {
                #expect(thrown?.kind != .raised)
            }
        }
    }

    static func checkConversations(_ source: String, _ name: String) throws {
        let template = try ChatTemplate(source: source)
        let cases = try cases("conversations.json")
        #expect(cases.count > 100)
        for (index, reference) in cases.enumerated() {
            let messages = try #require(reference["messages"])
            let tools = reference["tools"].flatMap { $0.isNull ? nil : $0 }
            try check(reference["results"]?[name], "\(name) \(index)") {
                try template.render(
                    messages: messages, tools: tools,
                    addGenerationPrompt: reference["add_generation_prompt"]?.bool ?? false,
                    bosToken: "<|im_start|>", eosToken: "<|im_end|>", extra: JSONObject())
            }
        }
    }

    @Test func smolLM2RendersEveryConversation() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        try Self.checkConversations(try #require(tokenizer.chatTemplateSource), "smollm2")
    }

    @Test func qwen25RendersEveryConversation() throws {
        let source = String(decoding: try Fixtures.data("templates/qwen2.5-instruct.jinja"), as: UTF8.self)
        try Self.checkConversations(source, "qwen2.5")
    }

    @Test func everyConstructRendersOrIsRefusedAsByJinja() throws {
        let cases = try Self.cases("constructs.json")
        #expect(cases.count > 50)
        for reference in cases {
            let source = try #require(reference["source"]?.string)
            let messages = try #require(reference["messages"])
            try Self.check(reference["result"], source) {
                try ChatTemplate(source: source).render(
                    messages: messages, tools: nil, addGenerationPrompt: true, bosToken: "<s>", eosToken: "</s>",
                    extra: JSONObject())
            }
        }
    }

    @Test func whitespaceControlIsThatOfJinja() throws {
        let cases = try Self.cases("whitespace.json")
        #expect(cases.count == 300)
        for reference in cases {
            let source = try #require(reference["source"]?.string)
            try Self.check(reference["result"], source.debugDescription) {
                try ChatTemplate(source: source).render(
                    messages: .null, tools: nil, addGenerationPrompt: false, bosToken: "", eosToken: "",
                    extra: JSONObject())
            }
        }
    }

    /// The whole way to the model: template, special tokens, byte pairs.
    @Test func chatPromptsHaveTheReferenceTokens() throws {
        guard let tokenizer = try Fixtures.realTokenizer.get() else { return }
        let template = try ChatTemplate(source: try #require(tokenizer.chatTemplateSource))
        let file = try Fixtures.decode(
            TokenizerReferenceTests.PromptFile.self, "reference/smollm2-135m-instruct-q4_1.hf.json")
        let chats = file.cases.filter { $0.kind == "chat" }
        #expect(chats.count == 4)
        for chat in chats {
            var message = JSONObject()
            message["role"] = .string("user")
            message["content"] = .string(chat.prompt)
            let text = try template.render(
                messages: .array([.object(message)]), tools: nil, addGenerationPrompt: true, bosToken: "<|im_start|>",
                eosToken: "<|im_end|>", extra: JSONObject())
            let ids = tokenizer.encode(text, addSpecialTokens: false, parseSpecialTokens: true)
            #expect(ids == chat.prompt_ids)
        }
    }

    @Test func qwen25PromptsAreThoseOfTheReferenceServer() throws {
        let json = try JSONParser.parse(
            Array(Fixtures.data("reference/qwen2.5-coder-0.5b-instruct-q4_k_m.llamacpp.json")))
        let source = String(decoding: try Fixtures.data("templates/qwen2.5-instruct.jinja"), as: UTF8.self)
        let template = try ChatTemplate(source: source)
        let chats = try #require(json["cases"]?.array).filter { $0["kind"]?.string == "chat" }
        #expect(chats.count == 4)
        for chat in chats {
            var message = JSONObject()
            message["role"] = .string("user")
            message["content"] = chat["prompt"]
            let text = try template.render(
                messages: .array([.object(message)]), tools: nil, addGenerationPrompt: true, bosToken: "",
                eosToken: "<|im_end|>", extra: JSONObject())
            #expect(text == chat["text"]?.string)
        }
    }
}
