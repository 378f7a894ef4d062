// Tandem — Apache-2.0

import Testing

@testable import ModelStore

@Suite struct HubListingTests {
    private static let blob = String(repeating: "1", count: 40)
    private static let digest = String(repeating: "2", count: 64)

    private func page(_ text: String) throws(HubAnswerError) -> HubListingPage { try HubListingPage(Array(text.utf8)) }

    @Test func digestsOfBothKinds() throws {
        let found = try page(
            """
            [{"type": "directory", "oid": "\(Self.blob)", "size": 0, "path": "sub"},
             {"type": "file", "oid": "\(Self.blob)", "size": 12, "path": "sub/config.json"},
             {"type": "file", "oid": "\(Self.blob)", "size": 99, "path": "m.gguf", "xetHash": "x",
              "lfs": {"oid": "\(Self.digest)", "size": 99, "pointerSize": 134}}]
            """)
        #expect(
            found.files == [
                HubFile(path: "sub/config.json", byteCount: 12, content: .gitBlob(Self.blob)),
                HubFile(path: "m.gguf", byteCount: 99, content: .sha256(Self.digest)),
            ])
    }

    @Test(arguments: [
        "../x", "/x", "a/../x", "a/./x", "a//x", "a/", ".", "..", "", #"a\\x"#, #"a\u0000"#, #"a\u001b[2J"#, #"a\n"#,
        #"\u202ea"#, #"a\u2028"#, String(repeating: "a", count: 256), String(repeating: "a/", count: 600) + "a",
    ])
    func unusablePathsAreLeftOut(path: String) throws {
        let found = try page(#"[{"type": "file", "oid": "\#(Self.blob)", "size": 1, "path": "\#(path)"}]"#)
        #expect(found.files.isEmpty)
    }

    @Test(arguments: [
        "", "{}", "[1]", #"[{"type": "file"}]"#, #"[{"type": "file", "path": "a", "size": 1}]"#,
        #"[{"type": "file", "path": "a", "oid": "\#(blob)"}]"#,
        #"[{"type": "file", "path": "a", "oid": "\#(blob)", "size": -1}]"#,
        #"[{"type": "file", "path": "a", "oid": "../../x", "size": 1}]"#,
        #"[{"type": "file", "path": "a", "oid": "\#(digest)/", "size": 1}]"#,
        #"[{"type": "file", "path": "a", "oid": "\#(String(repeating: "F", count: 40))", "size": 1}]"#,
        #"[{"type": "file", "path": "a", "oid": "\#(blob)", "size": 1, "lfs": {"oid": "", "size": 1}}]"#,
    ])
    func whatIsNoList(text: String) {
        #expect(throws: HubAnswerError.self) { try page(text) }
    }

    @Test func revisions() throws {
        let bytes = Array(#"{"id": "a/b", "sha": "\#(Self.blob)", "gguf": {"architecture": "llama"}}"#.utf8)
        let revision = try HubRevision(bytes)
        #expect(revision.commit == Self.blob)
        #expect(revision.ggufArchitecture == "llama")
        for text in ["", "[]", "{}", #"{"sha": null}"#, #"{"sha": "main"}"#, #"{"sha": "\#(Self.digest)"}"#] {
            #expect(throws: HubAnswerError.self) { try HubRevision(Array(text.utf8)) }
        }
    }

    /// Forms of RFC 8288, section 3.
    @Test(
        arguments: [
            (
                #"<https://huggingface.co/api/models/a/b/tree/main?recursive=true&cursor=x%3D>; rel="next""#,
                "recursive=true&cursor=x%3D"
            ),
            (#"<https://h/?cursor=1>; rel="prev", <https://h/?cursor=2>; rel="next""#, "cursor=2"),
            ("<https://h/?cursor=3>;rel=next", "cursor=3"),
            (#"<https://evil.example/steal?cursor=4#x>; title="a"; rel="next""#, "cursor=4"),
            ("", nil), ("<https://h/?cursor=5>", nil), (#"<https://h/?c>; rel="last""#, nil),
            ("<https://h/>; rel=next", nil),
            (#"<https://h/?a"b>; rel="next""#, nil), ("<https://h/?a b>; rel=next", nil), ("?a; rel=next", nil),
        ] as [(String, String?)])
    func nextPages(link: String, query: String?) {
        #expect(HubListingPage.nextQuery(link: link) == query)
    }

    @Test func noLinkIsTheLastPage() {
        #expect(HubListingPage.nextQuery(link: nil) == nil)
    }
}
