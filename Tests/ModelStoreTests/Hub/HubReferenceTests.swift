// Tandem — Apache-2.0

import Testing

@testable import ModelStore

@Suite struct HubReferenceTests {
    private func error(_ text: String) -> HubError? {
        do throws(ModelStoreError) {
            _ = try HubReference.parse(text)
            return nil
        } catch .hub(let error) {
            return error
        } catch {
            return nil
        }
    }

    @Test(
        arguments: [
            ("Qwen/Qwen2.5-0.5B-Instruct", "main", .automatic),
            ("Qwen/Qwen2.5-0.5B-Instruct@v1.0", "v1.0", .automatic),
            ("Qwen/Qwen2.5-0.5B-Instruct@refs/pr/1", "refs/pr/1", .automatic),
            ("Qwen/Qwen2.5-0.5B-Instruct:q4_k_m", "main", .quantization("Q4_K_M")),
            ("Qwen/Qwen2.5-0.5B-Instruct:UD-Q4_K_XL", "main", .quantization("UD-Q4_K_XL")),
            ("Qwen/Qwen2.5-0.5B-Instruct@v1.0:Q8_0", "v1.0", .quantization("Q8_0")),
            ("Qwen/Qwen2.5-0.5B-Instruct:Q8_0@v1.0", "v1.0", .quantization("Q8_0")),
            ("Qwen/Qwen2.5-0.5B-Instruct:safetensors", "main", .safetensors),
            ("Qwen/Qwen2.5-0.5B-Instruct:latest", "main", .automatic),
            ("Qwen/Qwen2.5-0.5B-Instruct/a-Q8_0.gguf", "main", .file("a-Q8_0.gguf")),
            ("Qwen/Qwen2.5-0.5B-Instruct/BF16/a.gguf", "main", .file("BF16/a.gguf")),
            ("Qwen/Qwen2.5-0.5B-Instruct:BF16/a.gguf", "main", .file("BF16/a.gguf")),
            ("Qwen/Qwen2.5-0.5B-Instruct/a.gguf@dev", "dev", .file("a.gguf")),
            ("Qwen/Qwen2.5-0.5B-Instruct@dev/a.gguf", "dev", .file("a.gguf")),
            ("hf.co/Qwen/Qwen2.5-0.5B-Instruct", "main", .automatic),
            ("hf.co/Qwen/Qwen2.5-0.5B-Instruct:Q8_0", "main", .quantization("Q8_0")),
            ("hf:Qwen/Qwen2.5-0.5B-Instruct@dev", "dev", .automatic),
            ("hf://Qwen/Qwen2.5-0.5B-Instruct", "main", .automatic),
            ("huggingface.co/Qwen/Qwen2.5-0.5B-Instruct/", "main", .automatic),
            ("https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct?library=vllm", "main", .automatic),
            ("https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct/tree/dev", "dev", .automatic),
            ("https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct/blob/main/b/a.gguf", "main", .file("b/a.gguf")),
            (
                "https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct/resolve/main/a.gguf?download=true", "main",
                .file("a.gguf")
            ),
        ] as [(String, String, HubReference.Choice)])
    func spellings(text: String, revision: String, choice: HubReference.Choice) throws {
        let expected = HubReference(
            organization: "Qwen", name: "Qwen2.5-0.5B-Instruct", revision: revision, choice: choice)
        #expect(try HubReference.parse(text) == expected)
    }

    @Test(arguments: [
        "gpt2", "./org/name", "../org/name", "/org/name", "~/org/name", "org/model.gguf", "a/b/c", "a//b", "model.gguf",
        "file://a/b", "ftp://host/org/name",
    ])
    func pathsAndWordsAreNone(text: String) throws {
        #expect(try HubReference.parse(text) == nil)
    }

    @Test(arguments: [
        "org/na--me", "org/na..me", "org/.name", "org/name.", "-org/name", "org/name.git", "org/na me", "org/näme",
        "org/", "org/name:", "org/name@", "org/name:Q8_0:Q4_0", "org/name@a@b", "org/name@../x", "org/name@/x",
        "org/name@a b", "org/name@-x", "org/name:Q4 K", "org/name:../x.gguf", "org/name/../x.gguf", "org/name:a/b",
        "org/name/x.gguf:Q8_0", "hf.co/name", "hf:name", "https://huggingface.co/", "org/name:a\u{1B}[2J.gguf",
        "o/" + String(repeating: "a", count: 97), "org/name@" + String(repeating: "a", count: 129),
    ])
    func malformedNamesAreTold(text: String) {
        guard case .invalidName = error(text) else {
            Issue.record("\(text): \(String(describing: error(text)))")
            return
        }
        #expect(error(text)?.description.contains("\u{1B}") == false)
    }

    @Test func addressesOfTheHubInUse() throws {
        let endpoint = try HubEndpoint(environment: ["HF_ENDPOINT": "http://mirror.local:8080/hub/"])
        let reference = try HubReference.parse("http://mirror.local:8080/hub/org/name/tree/main", endpoint: endpoint)
        #expect(reference == HubReference(organization: "org", name: "name"))
    }

    @Test func namesForClients() throws {
        let names = [
            "org/name", "org/name@dev", "org/name:q8_0", "org/name/b/tiny-Q8_0.gguf", "org/name:safetensors",
        ]
        let served = try names.map { try #require(try HubReference.parse($0)).servedName }
        #expect(served == ["org/name", "org/name", "org/name:Q8_0", "org/name:tiny-Q8_0", "org/name"])
        let texts = try names.map { try #require(try HubReference.parse($0)).text }
        #expect(
            texts == ["org/name", "org/name@dev", "org/name:Q8_0", "org/name:b/tiny-Q8_0.gguf", "org/name:safetensors"])
    }
}
