// Tandem — Apache-2.0

import Testing

@testable import ModelStore

@Suite struct HubCacheTests {
    private let commit = String(repeating: "c", count: 40)

    private func manifest(gguf: String? = nil) -> HubManifest {
        HubManifest(
            repository: "org/name", revision: "main", choice: gguf.map { _ in "Q8_0" }, commit: commit,
            endpoint: "https://h", ggufPath: gguf,
            entries: [
                HubManifest.Entry(
                    file: HubFile(
                        path: "config.json", byteCount: 2, content: .gitBlob(String(repeating: "1", count: 40))),
                    modified: -5),
                HubManifest.Entry(
                    file: HubFile(
                        path: "sub/ü \"x\".gguf", byteCount: 1 << 40,
                        content: .sha256(String(repeating: "2", count: 64))),
                    modified: .max),
            ])
    }

    @Test func manifestsAreReadAsWritten() {
        for manifest in [manifest(), manifest(gguf: "sub/ü \"x\".gguf")] {
            #expect(HubManifest(Array(manifest.json().utf8)) == manifest)
        }
    }

    @Test(arguments: [
        ("\"version\":1", "\"version\":2"), ("config.json", "../config.json"), ("config.json", "/config.json"),
        ("\"bytes\":2", "\"bytes\":-2"), ("cccc", "CCCC"), ("2222", "xxxx"), ("{", "["), ("\"files\"", "\"file\""),
        ("\"gguf\":\"sub", "\"gguf\":\"../sub"),
    ])
    func otherManifestsAreNone(part: String, other: String) {
        let text = manifest(gguf: "sub/ü \"x\".gguf").json().replacing(part, with: other, maxReplacements: 1)
        #expect(HubManifest(Array(text.utf8)) == nil)
    }

    @Test func placesFollowTheReference() {
        func path(_ revision: String, _ choice: HubReference.Choice = .automatic) -> String {
            HubCache(
                root: "/c", reference: HubReference(organization: "o", name: "n", revision: revision, choice: choice)
            ).manifestPath
        }
        #expect(path("main") == "/c/hub/o/n/manifests/main.json")
        #expect(path("refs/pr/1") == "/c/hub/o/n/manifests/refs%2Fpr%2F1.json")
        #expect(path("main", .quantization("Q8_0")) == "/c/hub/o/n/manifests/main%3AQ8_0.json")
        let long = path("main", .file(String(repeating: "ü", count: 70) + ".gguf"))
        #expect(long.utf8.count == "/c/hub/o/n/manifests/.json".utf8.count + 64)
    }

    @Test func partialFilesAreNamedByWhatTheyWillHold() {
        let cache = HubCache(root: "/c", reference: HubReference(organization: "o", name: "n"))
        let first = HubFile(path: "a", byteCount: 1, content: .sha256("11"))
        let second = HubFile(path: "a", byteCount: 1, content: .sha256("22"))
        #expect(cache.partialPath(of: first) == "/c/hub/o/n/partial/11")
        #expect(cache.partialPath(of: second) == "/c/hub/o/n/partial/22")
    }
}
