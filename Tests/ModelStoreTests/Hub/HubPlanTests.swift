// Tandem — Apache-2.0

import Testing

@testable import ModelStore

@Suite struct HubPlanTests {
    private func files(_ paths: [String]) -> [HubFile] {
        paths.map { HubFile(path: $0, byteCount: 1_500_000, content: .sha256(String(repeating: "a", count: 64))) }
    }

    private func plan(_ paths: [String], _ choice: HubReference.Choice = .automatic) throws -> HubPlan {
        try HubPlan(files(paths), for: HubReference(organization: "org", name: "name", choice: choice))
    }

    /// The path of the GGUF file that is taken.
    private func gguf(_ paths: [String], _ choice: HubReference.Choice = .automatic) throws -> String? {
        guard case .gguf(let file) = try plan(paths, choice) else { return nil }
        return file.path
    }

    private func error(_ paths: [String], _ choice: HubReference.Choice = .automatic) -> HubError? {
        do {
            _ = try plan(paths, choice)
            return nil
        } catch ModelStoreError.hub(let error) {
            return error
        } catch {
            return nil
        }
    }

    /// Names as publishers of quantized models give them.
    private static let many = [
        "README.md", "Qwen2.5-0.5B-IQ4_XS.gguf", "Qwen2.5-0.5B-Q2_K.gguf", "Qwen2.5-0.5B-Q4_K_M.gguf",
        "Qwen2.5-0.5B-Q4_0.gguf", "Qwen2.5-0.5B-Q8_0.gguf", "Qwen2.5-0.5B-f16.gguf", "mmproj-F16.gguf",
        "Qwen2.5-0.5B.imatrix.gguf", "config.json",
    ]

    @Test func defaultQuantization() throws {
        #expect(try gguf(Self.many) == "Qwen2.5-0.5B-Q4_K_M.gguf")
        #expect(try gguf(Self.many.filter { !$0.contains("Q4") }) == "Qwen2.5-0.5B-Q8_0.gguf")
        #expect(try gguf(["strange.gguf", "config.json", "model.safetensors"]) == "strange.gguf")
        #expect(
            try gguf(["qwen2.5-0.5b-instruct-q4_k_m.gguf", "qwen2.5-0.5b-instruct-q8_0.gguf"])
                == "qwen2.5-0.5b-instruct-q4_k_m.gguf")
        #expect(
            error(["a.gguf", "b.gguf", "mmproj-x.gguf"])
                == .severalChoices("org/name", choice: nil, choices: ["a.gguf (1.5 MB)", "b.gguf (1.5 MB)"]))
        // Two models: none is the likelier one.
        guard case .severalChoices = error(["a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "a-Q8_0.gguf"]) else {
            Issue.record("one was taken")
            return
        }
    }

    @Test(arguments: [
        ("Q8_0", "Qwen2.5-0.5B-Q8_0.gguf"), ("IQ4_XS", "Qwen2.5-0.5B-IQ4_XS.gguf"), ("F16", "Qwen2.5-0.5B-f16.gguf"),
        ("Q2_K", "Qwen2.5-0.5B-Q2_K.gguf"), ("Q4_0", "Qwen2.5-0.5B-Q4_0.gguf"),
    ])
    func quantizations(label: String, path: String) throws {
        #expect(try gguf(Self.many, .quantization(label)) == path)
    }

    @Test func labelsAreWholeWords() throws {
        // Q4_K is no Q4_K_M, and 0 is none of Q8_0.
        for label in ["Q4_K", "Q4", "0B", "K_M"] {
            let found = HubPlan.files(
                of: files(["m-UD-Q4_K_MX.gguf", "mQ4_K.gguf", "mQ4.gguf", "mK_M.gguf"]), labelled: label)
            #expect(found.isEmpty, "\(label)")
        }
        #expect(try gguf(["m-Q4_K_M-imat.gguf", "m-Q8_0-imat.gguf"], .quantization("Q4_K_M")) == "m-Q4_K_M-imat.gguf")
        #expect(try gguf(["Q8_0/model.gguf", "BF16/model.gguf"], .quantization("BF16")) == "BF16/model.gguf")
        #expect(try gguf(["Q8_0.gguf", "x-Q4_0.gguf"], .quantization("Q8_0")) == "Q8_0.gguf")
    }

    @Test func choicesAreListed() {
        let choices = ["a-Q4_0.gguf (1.5 MB)", "a-Q8_0.gguf (1.5 MB)"]
        let paths = ["a-Q8_0.gguf", "a-Q4_0.gguf"]
        #expect(
            error(paths, .quantization("Q4_K_M")) == .noSuchChoice("org/name", choice: "Q4_K_M", choices: choices))
        #expect(error(paths, .file("b.gguf")) == .noSuchChoice("org/name", choice: "b.gguf", choices: choices))
        #expect(error(paths, .quantization("Q4_K_M"))?.description.contains("\n  a-Q4_0.gguf (1.5 MB)\n") == true)
        #expect(
            error(["a-Q8_0.gguf", "b-Q8_0.gguf"], .quantization("Q8_0"))
                == .severalChoices(
                    "org/name", choice: "Q8_0", choices: ["a-Q8_0.gguf (1.5 MB)", "b-Q8_0.gguf (1.5 MB)"]))
    }

    @Test func filesByPathOrName() throws {
        let paths = ["x/a.gguf", "x/b.gguf", "y/b.gguf"]
        #expect(try gguf(paths, .file("x/b.gguf")) == "x/b.gguf")
        #expect(try gguf(paths, .file("A.gguf")) == "x/a.gguf")
        guard case .noSuchChoice = error(paths, .file("b.gguf")) else {
            Issue.record("one of two was taken")
            return
        }
    }

    @Test func partsAreRefused() {
        let paths = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"]
        for choice in [.automatic, .quantization("Q8_0"), .file(paths[0])] as [HubReference.Choice] {
            guard case .notServable(_, let reason) = error(paths, choice) else {
                Issue.record("\(choice) gave \(String(describing: error(paths, choice)))")
                continue
            }
            #expect(reason.contains("parts"))
        }
    }

    @Test func directories() throws {
        let paths = [
            "config.json", "tokenizer.json", "tokenizer.model", "special_tokens_map.json", "chat_template.jinja",
            "model.safetensors", "original/model.safetensors", "pytorch_model.bin", "README.md", "onnx/config.json",
        ]
        let all = Dictionary(uniqueKeysWithValues: files(paths).map { ($0.path, $0) })
        let expected = HubPlan.directory(
            configuration: try #require(all["config.json"]),
            others: ["tokenizer.json", "special_tokens_map.json", "chat_template.jinja"].compactMap { all[$0] },
            weights: .file(try #require(all["model.safetensors"])))
        #expect(try plan(paths) == expected)
        #expect(try plan(paths + ["m.gguf"], .safetensors) == expected)

        let index = "model.safetensors.index.json"
        guard case .directory(_, _, .index(let file)) = try plan(["config.json", index, "model-1.safetensors"]) else {
            Issue.record("the index was not taken")
            return
        }
        #expect(file.path == index)
    }

    @Test(arguments: [
        ([], "neither a GGUF file nor model.safetensors"),
        (["model.safetensors"], "no config.json"),
        (["config.json", "pytorch_model.bin", "x.onnx"], ".bin, .onnx files are not read"),
        (["adapter_config.json", "adapter_model.safetensors"], "an adapter"),
        (["sub/config.json", "sub/model.safetensors"], "neither"),
    ])
    func nothingToServe(paths: [String], told: String) {
        let reason = error(paths).map(\.description)
        #expect(reason?.contains(told) == true, "\(reason ?? "")")
    }

    @Test func shards() throws {
        let reference = HubReference(organization: "org", name: "name")
        let index = try SafetensorsIndex(
            Array(#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}"#.utf8))
        #expect(index.files == ["m-1.safetensors", "m-2.safetensors"])
        let listed = files(["m-2.safetensors", "m-1.safetensors", "m-3.safetensors"])
        #expect(try HubPlan.shards(index, in: listed, reference).map(\.path) == index.files)
        #expect(throws: ModelStoreError.self) {
            try HubPlan.shards(index, in: files(["m-1.safetensors"]), reference)
        }
    }

    @Test(arguments: [
        "", "[]", "{}", #"{"weight_map": []}"#, #"{"weight_map": {}}"#, #"{"weight_map": {"a": 1}}"#,
        #"{"weight_map": {"a": "../m.safetensors"}}"#, #"{"weight_map": {"a": "/m.safetensors"}}"#,
        #"{"weight_map": {"a": "x/m.safetensors"}}"#, #"{"weight_map": {"a": "m.bin"}}"#,
        #"{"weight_map": {"a": "m\u0000.safetensors"}}"#, #"{"weight_map": {"a": "m\u001b.safetensors"}}"#,
    ])
    func hostileIndexes(text: String) {
        #expect(throws: HubAnswerError.self) { try SafetensorsIndex(Array(text.utf8)) }
    }
}
